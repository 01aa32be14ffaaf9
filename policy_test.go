package raceproof_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/testdb"
	"github.com/raceproof/raceproof/optimistic"
)

// "As long as it takes" is a pause too: nothing that is computed from the longest one overflows.
func TestHugePauses(t *testing.T) {
	_, db := testdb.SQLite(t, playersSchema, ada)
	gone := errors.New("the caller has gone")
	for _, pause := range []time.Duration{math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64/2 + 1, math.MaxInt64 / 2} {
		for _, most := range []time.Duration{0, math.MaxInt64} {
			ctx, cancel := context.WithCancelCause(t.Context())
			calls := 0
			var err error
			require.NotPanics(t, func() {
				err = db.Transact(ctx, func(ctx context.Context) error {
					calls++
					// The pause begins, and is over at once.
					require.NoError(t, db.AfterRollback(ctx, func(context.Context) { cancel(gone) }))
					return tooLate(ctx, db)
				}, raceproof.Retry(raceproof.RetryPolicy{MinPause: pause, MaxPause: most}))
			}, "%v, at most %v", pause, most)
			var given *raceproof.RetryError
			require.ErrorAs(t, err, &given)
			assert.Equal(t, 1, given.Attempts)
			assert.ErrorIs(t, given.Ended, gone)
			assert.Equal(t, 1, calls)
		}
	}
}

// More than anybody can use is a mistake, and what can be used is there.
func TestHugeBudgets(t *testing.T) {
	_, db := testdb.SQLite(t, playersSchema, ada)
	for budget, ok := range map[int]bool{1: true, 1_000_000: true, 1_000_001: false, math.MaxInt/100 + 1: false, math.MaxInt: false} {
		policy := retries(5)
		policy.Budget = budget
		calls := 0
		err := db.Transact(t.Context(), func(ctx context.Context) error {
			if calls++; calls < 5 {
				return tooLate(ctx, db)
			}
			return nil
		}, raceproof.Retry(policy))
		u := optimistic.New(db, players, &optimistic.Options{Retry: policy})
		if ok {
			assert.NoError(t, err, budget)
			assert.Equal(t, 5, calls, budget)
			assert.NoError(t, u.Err(), budget)
			continue
		}
		for _, err := range []error{err, u.Err()} {
			assert.ErrorContains(t, err, "it must not be negative, nor above 1000000", budget)
		}
		assert.Zero(t, calls, budget)
	}
}
