package lock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/testdb"
	"github.com/raceproof/raceproof/lock"
)

func bank(t *testing.T) (*raceproof.DB, *raceproof.Table[account]) {
	t.Helper()
	pool := testdb.Open(t, testdb.File(t))
	pool.MustExec(`CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL); INSERT INTO accounts VALUES (1, 100), (2, 0)`)
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db, raceproof.MustTable[account]("accounts")
}

// A table without a version has each way of a lock but UpdateFirst.
func TestWithoutVersion(t *testing.T) {
	db, table := bank(t)
	ctx := t.Context()
	u := lock.New(db, table, nil)
	pay := func(_ context.Context, a *account) error { a.Balance += 5; return nil }
	got, err := u.Upsert(ctx, 3, func(_ context.Context, a *account) error { a.Balance = 1; return nil }, pay)
	require.NoError(t, err)
	assert.Equal(t, account{3, 6}, got)
	all, err := u.UpdateMany(ctx, []any{3, 1}, func(_ context.Context, a []*account) error {
		a[0].Balance, a[1].Balance = a[0].Balance-6, a[1].Balance+6
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, []account{{3, 0}, {1, 106}}, all)
	_, err = u.UpdateMany(ctx, []any{1, 2}, func(ctx context.Context, a []*account) error {
		a[0].Balance = 0
		_, err := u.Update(ctx, 1, pay)
		return err
	})
	assert.ErrorIs(t, err, raceproof.ErrConflict)
	require.NoError(t, db.Transact(ctx, func(ctx context.Context) error {
		a, err := lock.Select(ctx, db, table, 1, &lock.Options{WaitAtMost: time.Second})
		assert.Equal(t, account{1, 106}, a)
		return err
	}))
	assert.ErrorIs(t, lock.New(db, table, &lock.Options{UpdateFirst: true}).Err(), raceproof.ErrUnsupported)
}

// The writer's own row is locked for as long as its function runs: others can be told so at once.
func TestNoWaitInProcess(t *testing.T) {
	db, table := bank(t)
	impatient := lock.New(db, table, &lock.Options{NoWait: true})
	own := errors.New("the function's own error")
	_, err := lock.New(db, table, nil).Update(t.Context(), 1, func(context.Context, *account) error {
		_, err := impatient.Update(t.Context(), 2, func(context.Context, *account) error { return own })
		assert.ErrorIs(t, err, raceproof.ErrLocked)
		return nil
	})
	require.NoError(t, err)
	_, err = impatient.Update(t.Context(), 2, func(context.Context, *account) error { return own })
	assert.Equal(t, own, err)
}
