package transactions_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// In the pause nothing is held, neither a connection nor a lock, and the end of the context ends it: the error tells both
// what was tried and why it was given up.
func TestPause(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		w.Pool.SetMaxOpenConns(1)
		day := raceproof.Retry(raceproof.RetryPolicy{MinPause: 24 * time.Hour, MaxPause: 24 * time.Hour})
		ctx, cancel := context.WithCancelCause(minute(t))
		calls := 0
		pausing, done := make(chan struct{}), make(chan error, 1)
		go func() {
			done <- w.DB.Transact(ctx, func(ctx context.Context) error {
				calls++
				assert.NoError(t, exec(ctx, w.DB, writeBob))
				assert.NoError(t, w.DB.AfterRollback(ctx, func(context.Context) { close(pausing) }))
				return overtaken(ctx, w)
			}, day)
		}()
		<-pausing
		short, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		_, err := w.Pool.ExecContext(short, writeBob)
		require.NoError(t, err, "the only connection is free, and so is the row")
		_, err = w.Pattern("lock").Update(short, 8, world.Award(1))
		require.NoError(t, err)

		cancel(errCause)
		err = <-done
		var told *raceproof.RetryError
		require.ErrorAs(t, err, &told)
		assert.Equal(t, 1, told.Attempts)
		for _, want := range []error{context.Canceled, errCause} {
			assert.ErrorIs(t, err, want)
			assert.ErrorIs(t, told.Ended, want)
			assert.NotErrorIs(t, told.Last, want)
		}
		assert.ErrorIs(t, err, raceproof.ErrConflict)
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
		assert.Equal(t, 1, calls)
		assert.Equal(t, int64(3), w.Row(8).Score)
	})
}

// An attempt that the context ends in is no conflict, but those before it are told all the same.
func TestContextEndsInALaterAttempt(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		ctx, cancel := context.WithCancelCause(minute(t))
		calls := 0
		err := w.DB.Transact(ctx, func(ctx context.Context) error {
			if calls++; calls == 3 {
				cancel(errCause)
				return nil
			}
			return overtaken(ctx, w)
		}, tries(10))
		var told *raceproof.RetryError
		require.ErrorAs(t, err, &told)
		assert.Equal(t, 3, told.Attempts)
		for _, want := range []error{context.Canceled, errCause, raceproof.ErrConflict} {
			assert.ErrorIs(t, err, want)
		}
	})
}

// Callers who always get in each other's way do not multiply the work for ever.
func TestBudget(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		const calls, goroutines = 5, 4
		policy := raceproof.RetryPolicy{MaxAttempts: 1000, MinPause: 1, MaxPause: time.Microsecond, Budget: 1}
		var made, stopped atomic.Int64
		var all sync.WaitGroup
		always := func(db *raceproof.DB, policy raceproof.RetryPolicy) error {
			return db.Transact(minute(t), func(ctx context.Context) error {
				made.Add(1)
				_, err := w.PatternsOf(db)[1].Update(ctx, 7, world.Change{Func: func(_ context.Context, p *world.Player) error {
					p.Score++
					return exec(ctx, db, overtake) // by itself: that is late too
				}})
				return err
			}, raceproof.Retry(policy))
		}
		for range goroutines {
			all.Go(func() {
				for range calls {
					err := always(w.DB, policy)
					var told *raceproof.RetryError
					if assert.ErrorAs(t, err, &told) && errors.Is(err, raceproof.ErrRetryBudget) {
						stopped.Add(1)
						assert.Same(t, raceproof.ErrRetryBudget, told.Ended)
						assert.ErrorIs(t, err, raceproof.ErrConflict)
						assert.Less(t, told.Attempts, policy.MaxAttempts)
					}
				}
			})
		}
		all.Wait()
		assert.Equal(t, int64(calls*goroutines), stopped.Load(), "no call has made all of its attempts")
		further := made.Load() - calls*goroutines
		assert.LessOrEqual(t, further, int64(calls*goroutines*policy.Budget+100*policy.Budget))
		assert.GreaterOrEqual(t, further, int64(100*policy.Budget), "what was saved at first is there to be used")

		// Another policy, and another DB, have budgets of their own.
		more := policy
		more.MaxAttempts = 7
		_, other := w.Open(databases.Options{})
		for _, err := range []error{always(w.DB, more), always(other, more)} {
			assert.NotErrorIs(t, err, raceproof.ErrRetryBudget)
		}
		made.Store(0)
		assert.ErrorIs(t, always(w.DB, policy), raceproof.ErrRetryBudget)
		assert.LessOrEqual(t, made.Load(), int64(2))
		w.Unchanged()
	})
}

// What is no policy is refused before anything is done, also where it could not be honoured anyway.
func TestPolicyIsWrong(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		for _, policy := range []raceproof.RetryPolicy{
			{MaxAttempts: -1}, {MinPause: -1}, {MaxPause: -1}, {Budget: -1}, {MinPause: 2, MaxPause: 1},
		} {
			try := func(ctx context.Context) {
				err := w.DB.Transact(ctx, func(context.Context) error { panic("called") }, raceproof.Retry(policy))
				require.Error(t, err)
			}
			try(minute(t))
			require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error { try(ctx); return nil }))
		}
		require.Error(t, w.DB.Transact(minute(t), nil))
	})
}
