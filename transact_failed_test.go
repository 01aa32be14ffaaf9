package raceproof_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/testdb"
	"github.com/raceproof/raceproof/lock"
)

var errFenced, errMine = errors.New("the lease is lost"), errors.New("the function's own")

func fail(ctx context.Context, db *raceproof.DB) { db.Pool().Current(ctx).Fail(errFenced) }

func raise(ctx context.Context, db *raceproof.DB) error {
	_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = score + 1`)
	return err
}

// failing are functions of transactions that are made to fail, and what each returns beside.
var failing = map[string]struct {
	f    func(*testing.T, context.Context, *raceproof.DB) error
	want error
}{
	"nothing": {func(_ *testing.T, ctx context.Context, db *raceproof.DB) error {
		fail(ctx, db)
		return nil
	}, errFenced},
	"the same": {func(_ *testing.T, ctx context.Context, db *raceproof.DB) error {
		fail(ctx, db)
		return errFenced
	}, errFenced},
	"another": {func(_ *testing.T, ctx context.Context, db *raceproof.DB) error {
		fail(ctx, db)
		return errMine
	}, errMine},
	"a conflict": {func(_ *testing.T, ctx context.Context, db *raceproof.DB) error {
		fail(ctx, db)
		return raceproof.ErrConflict
	}, raceproof.ErrConflict},
	"a statement": {func(t *testing.T, ctx context.Context, db *raceproof.DB) error {
		fail(ctx, db)
		assert.ErrorIs(t, raise(ctx, db), errFenced, "nothing more is sent")
		return errMine
	}, errMine},
	"in a nested one": {func(t *testing.T, ctx context.Context, db *raceproof.DB) error {
		assert.Error(t, db.Transact(ctx, func(ctx context.Context) error { fail(ctx, db); return errMine }))
		return nil
	}, errFenced},
	"around a nested one": {func(t *testing.T, ctx context.Context, db *raceproof.DB) error {
		fail(ctx, db)
		assert.ErrorIs(t, db.Transact(ctx, func(context.Context) error { return nil }), errFenced)
		return errMine
	}, errMine},
	"in an updater": {func(_ *testing.T, ctx context.Context, db *raceproof.DB) error {
		_, err := lock.New(db, players, nil).Update(ctx, 7, func(ctx context.Context, _ *Player) error { fail(ctx, db); return errMine })
		return err
	}, errMine},
}

// A transaction that was made to fail, by a fence for example, is not committed, and says so beside whatever else its function
// says.
func TestTransactionMadeToFail(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	for name, c := range failing {
		t.Run(name, func(t *testing.T) {
			calls := 0
			err := db.Transact(t.Context(), func(ctx context.Context) error {
				calls++
				require.NoError(t, raise(ctx, db))
				return c.f(t, ctx, db)
			})
			assert.ErrorIs(t, err, errFenced)
			assert.ErrorIs(t, err, c.want)
			assert.Equal(t, 1, calls)
			wantPlayer(t, pool, Player{7, "Ada", 0, 0})
		})
	}
	require.NoError(t, db.Transact(t.Context(), func(ctx context.Context) error { return raise(ctx, db) }), "it is of the one transaction")
}
