package lease

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
)

// fenced does work under a lease, and swallows what the fence says.
func fenced(t *testing.T, db *raceproof.DB, l *Lease, see func(error)) error {
	return db.Transact(t.Context(), func(ctx context.Context) error {
		_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE work SET n = n + 1`)
		require.NoError(t, err)
		see(l.Fence(ctx))
		return nil
	})
}

func TestFence(t *testing.T) {
	pool, db := open(t)
	l := try(t, semaphore(t, db, "a", 1, manual))
	for n := range 3 {
		require.NoError(t, fenced(t, db, l, func(err error) { require.NoError(t, err) }))
		assert.Equal(t, n+1, work(t, pool))
	}
	require.NoError(t, db.Transact(t.Context(), func(ctx context.Context) error {
		return db.Transact(ctx, l.Fence)
	}))
	assert.ErrorIs(t, l.Fence(t.Context()), raceproof.ErrNoTransaction)
	_, other := open(t)
	assert.ErrorIs(t, other.Transact(t.Context(), l.Fence), raceproof.ErrNoTransaction)
	assert.ErrorIs(t, db.Transact(t.Context(), l.Fence, raceproof.ReadOnly()), raceproof.ErrUnsupported)
	require.NoError(t, l.Context().Err())
}

// Nothing can be committed under a lease that is lost, whatever is made of the error.
func TestFenceOfLost(t *testing.T) {
	for name, lose := range map[string]func(*fake, *Lease, *Semaphore, func()){
		"taken over":   func(_ *fake, _ *Lease, s *Semaphore, expire func()) { expire(); try(t, s) },
		"time is over": func(c *fake, _ *Lease, _ *Semaphore, _ func()) { c.pass(15 * time.Second) },
		"released":     func(_ *fake, l *Lease, _ *Semaphore, _ func()) { require.NoError(t, l.Release(t.Context())) },
	} {
		t.Run(name, func(t *testing.T) {
			pool, db := open(t)
			s := semaphore(t, db, "a", 1, manual)
			c := newFake()
			s.clock = c
			l := try(t, s)
			lose(c, l, s, func() { later(pool, time.Hour, l) })
			err := fenced(t, db, l, func(err error) { assert.ErrorIs(t, err, raceproof.ErrLeaseLost) })
			assert.ErrorIs(t, err, raceproof.ErrLeaseLost)
			assert.Zero(t, work(t, pool))
			assert.ErrorIs(t, l.Context().Err(), context.Canceled)

			// Not even from inside a nested transaction that was rolled back.
			err = db.Transact(t.Context(), func(ctx context.Context) error {
				_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE work SET n = n + 1`)
				require.NoError(t, err)
				assert.ErrorIs(t, db.Transact(ctx, l.Fence), raceproof.ErrLeaseLost)
				return nil
			})
			assert.ErrorIs(t, err, raceproof.ErrLeaseLost)
			assert.Zero(t, work(t, pool))
		})
	}
}

// A fence that the database could not set is none either.
func TestFenceFails(t *testing.T) {
	pool, db := open(t)
	l := try(t, semaphore(t, db, "a", 1, manual))
	pool.MustExec(`ALTER TABLE raceproof_fence RENAME TO hidden`)
	err := fenced(t, db, l, func(err error) { assert.ErrorContains(t, err, `lease: "a": fence: `) })
	assert.ErrorContains(t, err, "raceproof_fence")
	assert.NotErrorIs(t, err, raceproof.ErrLeaseLost)
	assert.Zero(t, work(t, pool))
	pool.MustExec(`ALTER TABLE hidden RENAME TO raceproof_fence`)
	require.NoError(t, l.Context().Err())
	require.NoError(t, fenced(t, db, l, func(err error) { assert.NoError(t, err) }))
}
