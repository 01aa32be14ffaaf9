package lease

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/testdb"
)

// quick leases are renewed often.
var quick = &Options{TTL: 900 * time.Millisecond}

func TestRenewsInBackground(t *testing.T) {
	pool, db := open(t)
	l := try(t, semaphore(t, db, "a", 1, quick))
	eventually(t, "it is renewed", func() bool { return column[int](t, pool, "a", "renewals")[0] >= 5 })
	require.NoError(t, l.Context().Err(), "beyond its first time")
	require.NoError(t, l.Release(t.Context()))
	noneLeft(t)
}

func faulty(t *testing.T) (*sqlx.DB, *raceproof.DB) {
	pool, err := sqlx.Open(testdb.Faulty, testdb.File(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	db, err := raceproof.New(pool, raceproof.WithDialect("sqlite"))
	require.NoError(t, err)
	require.NoError(t, CreateTable(t.Context(), db))
	return pool, db
}

const renewal = "UPDATE raceproof_lease SET renewals"

// Renewals that fail are tried again soon, and then the lease is lost, and says why.
func TestRenewalsFail(t *testing.T) {
	_, db := faulty(t)
	l := try(t, semaphore(t, db, "a", 1, quick))
	broken := errors.New("the network is down")
	defer testdb.Fail(renewal, broken)()
	assert.ErrorIs(t, l.Renew(t.Context()), broken)
	require.NoError(t, l.Context().Err(), "one is no loss")
	<-l.Context().Done()
	cause := context.Cause(l.Context())
	assert.ErrorIs(t, cause, raceproof.ErrLeaseLost)
	assert.ErrorIs(t, cause, broken)
	noneLeft(t)
}

func TestRenewalsFailForAWhile(t *testing.T) {
	pool, db := faulty(t)
	l := try(t, semaphore(t, db, "a", 1, &Options{TTL: 3 * time.Second}))
	undo := testdb.Fail(renewal, errors.New("the network is down"))
	eventually(t, "one has failed", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.failed != nil
	})
	undo()
	eventually(t, "it is renewed", func() bool { return column[int](t, pool, "a", "renewals")[0] >= 2 })
	eventually(t, "that is noted", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.failed == nil
	})
	require.NoError(t, l.Context().Err())
	require.NoError(t, l.Release(t.Context()))
}

// A DB that is closed renews nothing any more: that need not be waited for.
func TestClosed(t *testing.T) {
	for _, o := range []*Options{manual, {TTL: 900 * time.Millisecond}} {
		_, db := open(t)
		l := try(t, semaphore(t, db, "a", 1, o))
		db.Close()
		if o.Manual {
			assert.ErrorIs(t, l.Renew(t.Context()), raceproof.ErrLeaseLost)
		}
		<-l.Context().Done()
		assert.ErrorIs(t, context.Cause(l.Context()), raceproof.ErrLeaseLost)
		assert.ErrorIs(t, context.Cause(l.Context()), raceproof.ErrClosed)
		_, err := TryAcquire(t.Context(), db, "b", nil)
		assert.ErrorIs(t, err, raceproof.ErrClosed)
		_, err = Acquire(t.Context(), db, "b", nil)
		assert.ErrorIs(t, err, raceproof.ErrClosed)
	}
}

// A lease that is not released ends by itself, and what it has left behind in the database is free.
func TestReleaseFails(t *testing.T) {
	pool, db := faulty(t)
	s := semaphore(t, db, "a", 1, quick)
	l := try(t, s)
	broken := errors.New("the network is down")
	undo := testdb.Fail("UPDATE raceproof_lease SET holder = NULL", broken)
	assert.ErrorIs(t, l.Release(t.Context()), broken)
	undo()
	assert.ErrorIs(t, context.Cause(l.Context()), ErrReleased)
	assert.ErrorIs(t, l.Release(t.Context()), ErrReleased)
	noneLeft(t)
	eventually(t, "its time is over", func() bool {
		b, err := s.TryAcquire(t.Context())
		return err == nil && assert.NoError(t, b.Release(t.Context()))
	})
	assert.Equal(t, []any{nil}, column[any](t, pool, "a", "expires"))
}

// A Release beside a renewal that is under way ends both.
func TestReleaseWhileItRenews(t *testing.T) {
	pool, db := open(t)
	l := try(t, semaphore(t, db, "a", 1, quick))
	other := testdb.Open(t, path(t, pool))
	tx, err := other.Beginx()
	require.NoError(t, err)
	_, err = tx.Exec(`UPDATE work SET n = 1`)
	require.NoError(t, err)
	eventually(t, "a renewal waits for the lock", func() bool { return pool.Stats().InUse > 0 })
	done := make(chan error, 1)
	go func() { done <- l.Release(t.Context()) }()
	<-l.Context().Done()
	require.NoError(t, tx.Rollback())
	require.NoError(t, <-done)
	noneLeft(t)
}

// Nothing is released before the renewals are over, which would be left behind otherwise.
func TestReleaseWaitsForRenewals(t *testing.T) {
	pool, db := open(t)
	l := try(t, semaphore(t, db, "a", 1, manual))
	l.renewing.Go(func() {
		<-l.Context().Done()
		for until := time.Now().Add(50 * time.Millisecond); time.Now().Before(until); {
			assert.NotContains(t, column[any](t, pool, "a", "holder"), nil)
		}
	})
	require.NoError(t, l.Release(t.Context()))
	assert.Contains(t, column[any](t, pool, "a", "holder"), nil)
}

// path is the DSN of a pool's file.
func path(t *testing.T, pool *sqlx.DB) (file string) {
	require.NoError(t, pool.Get(&file, `SELECT file FROM pragma_database_list WHERE name = 'main'`))
	return "file:" + file
}
