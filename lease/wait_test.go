package lease

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/testdb"
)

// users is how many in this process wait for a name, or are about to.
func users(s *Semaphore) int {
	queues.Lock()
	defer queues.Unlock()
	if q := queues.of[queueKey{s.pool(), s.name, 1}]; q != nil {
		return q.users
	}
	return 0
}

// met tells whether who waits first has seen that the name is held.
func met(s *Semaphore) bool {
	queues.Lock()
	defer queues.Unlock()
	q := queues.of[queueKey{s.pool(), s.name, 1}]
	return q != nil && q.met.Load() != nil
}

type acquired struct {
	l   *Lease
	err error
}

// acquire waits in the background, and is in the queue when it returns.
func acquire(ctx context.Context, t *testing.T, s *Semaphore) chan acquired {
	t.Helper()
	before := users(s)
	got := make(chan acquired, 1)
	go func() {
		l, err := s.Acquire(ctx)
		got <- acquired{l, err}
	}()
	eventually(t, "it waits", func() bool { return users(s) > before && met(s) })
	return got
}

// Who waits in one process is served in order, at once when the name is released.
func TestWaitersInOrder(t *testing.T) {
	_, db := open(t)
	s := semaphore(t, db, "a", 1, manual)
	l := try(t, s)
	var all []chan acquired
	for i := range 5 {
		all = append(all, acquire(t.Context(), t, s))
		if i > 0 {
			eventually(t, "it is in the queue", func() bool {
				q, leave := s.join()
				defer leave()
				return q.turn.Waiting() == i
			})
		}
	}
	for _, c := range all {
		require.NoError(t, l.Release(t.Context()))
		got := <-c
		require.NoError(t, got.err)
		assert.Greater(t, got.l.Token(), l.Token())
		l = got.l
	}
	require.NoError(t, l.Release(t.Context()))
}

// A release wakes who waits: here it would else look only when the test is long over.
func TestReleaseWakes(t *testing.T) {
	_, db := open(t)
	s := semaphore(t, db, "a", 1, manual)
	l := try(t, s)
	q, leave := s.join()
	defer leave()
	woken := make(chan bool, 1)
	go func() {
		w, _ := q.pause(t.Context(), time.Hour)
		woken <- w
	}()
	require.NoError(t, l.Release(t.Context()))
	assert.True(t, <-woken)
}

// Another process releases it, or lets its time pass.
func TestWaitForAnotherProcess(t *testing.T) {
	pool, db := open(t)
	other, err := raceproof.New(pool)
	require.NoError(t, err)
	for _, end := range []func(*Lease){
		func(l *Lease) { require.NoError(t, l.Release(t.Context())) },
		func(l *Lease) { later(pool, time.Hour, l) },
	} {
		l := try(t, semaphore(t, other, "a", 1, manual))
		got := acquire(t.Context(), t, semaphore(t, db, "a", 1, manual))
		end(l)
		a := <-got
		require.NoError(t, a.err)
		require.NoError(t, a.l.Release(t.Context()))
	}
}

// Who gives up waiting is told why, and who holds it; and is out of the way.
func TestWaitEnds(t *testing.T) {
	_, db := open(t)
	s := semaphore(t, db, "a", 1, &Options{Holder: "ada", Manual: true})
	l := try(t, s)
	cause := errors.New("the caller has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	first, second := acquire(ctx, t, s), acquire(ctx, t, s)
	third := acquire(t.Context(), t, s)
	cancel(cause)
	for _, c := range []chan acquired{first, second} {
		err := (<-c).err
		var e *HeldError
		require.ErrorAs(t, err, &e)
		assert.Equal(t, "ada", e.Holder)
		for _, want := range []error{raceproof.ErrLocked, context.Canceled, cause} {
			assert.ErrorIs(t, err, want)
		}
	}
	require.NoError(t, l.Release(t.Context()))
	got := <-third
	require.NoError(t, got.err)
	_, err := s.Acquire(ctx)
	assert.ErrorIs(t, err, cause, "before it has begun")
	_, err = s.TryAcquire(ctx)
	assert.ErrorIs(t, err, cause)
	require.NoError(t, got.l.Release(t.Context()))
}

// Who has not got a turn to look does not know who holds it, but that others wait.
func TestWaitWithoutTurn(t *testing.T) {
	_, db := open(t)
	s := semaphore(t, db, "a", 1, manual)
	q, leave := s.join()
	defer leave()
	require.True(t, q.turn.TryLock())
	defer q.turn.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Acquire(ctx)
	assert.ErrorIs(t, err, raceproof.ErrLocked)
	assert.ErrorIs(t, err, context.Canceled)
}

// On SQLite a writer can be in the way for long: that is something to wait for, too.
func TestWaitForWriters(t *testing.T) {
	pool, db := open(t)
	other := testdb.Open(t, path(t, pool))
	tx, err := other.Beginx()
	require.NoError(t, err)
	_, err = tx.Exec(`UPDATE work SET n = 1`)
	require.NoError(t, err)
	s := semaphore(t, db, "a", 1, manual)
	got := make(chan acquired, 1)
	go func() {
		l, err := s.Acquire(t.Context())
		got <- acquired{l, err}
	}()
	eventually(t, "it waits for the lock", func() bool { return pool.Stats().InUse > 0 })
	require.NoError(t, tx.Rollback())
	a := <-got
	require.NoError(t, a.err)
	require.NoError(t, a.l.Release(t.Context()))
}

func TestPauses(t *testing.T) {
	for range 100 {
		d := until(nil, lastPause)
		assert.GreaterOrEqual(t, d, lastPause/2)
		assert.LessOrEqual(t, d, lastPause)
		d = until(&HeldError{Left: 10 * time.Millisecond}, lastPause)
		assert.Equal(t, 13*time.Millisecond, d, "not past the holder's time")
		assert.GreaterOrEqual(t, until(&HeldError{}, lastPause), lastPause/2, "a holder whose time is over is not asked all the time")
	}
	assert.False(t, passes(errors.New("any other")))
	assert.True(t, passes(raceproof.ErrConflict))
	assert.False(t, passes(errors.Join(raceproof.ErrLocked, raceproof.ErrCommitUnknown)))
}

// What is not known is told, also by who has met a holder before.
func TestWaitEndsUnknown(t *testing.T) {
	_, db := open(t)
	c, err := semaphore(t, db, "a", 1, manual).newClaim(t.Context())
	require.NoError(t, err)
	var q queue
	q.met.Store(&HeldError{Name: "a"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, c.waited(ctx, &q, raceproof.ErrCommitUnknown), raceproof.ErrCommitUnknown)
	assert.ErrorIs(t, c.waited(ctx, &q, context.Canceled), raceproof.ErrLocked)
}
