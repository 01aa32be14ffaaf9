package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
)

// timeless runs a test in which time passes only when everybody waits for it. The database's own clock stands still meanwhile.
func timeless(t *testing.T, test func(*testing.T, *sqlx.DB, *raceproof.DB)) {
	synctest.Test(t, func(t *testing.T) {
		pool, db := open(t)
		pool.SetMaxOpenConns(1)
		test(t, pool, db)
	})
}

// A renewal waits for its turn among those who write, and gets it: it does not go to the end of the queue again and again.
func TestRenewalKeepsItsPlace(t *testing.T) {
	for _, share := range []time.Duration{35, 60} { // of the TTL in hundredths is what the queue lasts; a third is what an answer may take
		timeless(t, func(t *testing.T, pool *sqlx.DB, db *raceproof.DB) {
			const ttl, workers = 30 * time.Second, 10
			l := try(t, semaphore(t, db, "a", 1, &Options{TTL: ttl}))
			ctx, cancel := context.WithTimeout(t.Context(), 10*ttl)
			defer cancel()
			var wg sync.WaitGroup
			for range workers {
				wg.Go(func() {
					for ctx.Err() == nil {
						_ = db.Transact(ctx, func(context.Context) error {
							time.Sleep(share * ttl / 100 / workers)
							return nil
						})
					}
				})
			}
			wg.Wait()
			require.NoError(t, context.Cause(l.Context()), "the queue lasts %d %% of the TTL", share)
			assert.Greater(t, column[int](t, pool, "a", "renewals")[0], 5)
			require.NoError(t, l.Release(t.Context()))
		})
	}
}

// A look that hangs is given up, and made again, because others of this process wait behind it.
func TestLookThatHangs(t *testing.T) {
	timeless(t, func(t *testing.T, pool *sqlx.DB, db *raceproof.DB) {
		s := semaphore(t, db, "a", 1, manual)
		only, err := pool.Connx(t.Context())
		require.NoError(t, err)
		before := pool.Stats().WaitCount
		got := make(chan acquired, 1)
		go func() {
			l, err := s.Acquire(t.Context())
			got <- acquired{l, err}
		}()
		time.Sleep(lookAtMost - time.Second)
		synctest.Wait()
		assert.Equal(t, before+1, pool.Stats().WaitCount)
		time.Sleep(lookAtMost)
		synctest.Wait()
		assert.Equal(t, before+2, pool.Stats().WaitCount, "it is made again")
		assert.Empty(t, got, "and is no reason to give up")
		require.NoError(t, only.Close())
		a := <-got
		require.NoError(t, a.err)
		require.NoError(t, a.l.Release(t.Context()))
	})
}

// If the context ends in the pause behind such a look, that is told too.
func TestEndBehindALookThatHangs(t *testing.T) {
	timeless(t, func(t *testing.T, pool *sqlx.DB, db *raceproof.DB) {
		s := semaphore(t, db, "a", 1, manual)
		only, err := pool.Connx(t.Context())
		require.NoError(t, err)
		cause := errors.New("the caller has gone")
		ctx, cancel := context.WithCancelCause(t.Context())
		got := make(chan acquired, 1)
		go func() {
			l, err := s.Acquire(ctx)
			got <- acquired{l, err}
		}()
		time.Sleep(lookAtMost + firstPause/4)
		cancel(cause)
		err = (<-got).err
		for _, want := range []error{context.DeadlineExceeded, context.Canceled, cause} {
			assert.ErrorIs(t, err, want)
		}
		require.NoError(t, only.Close())
	})
}

// Who wants one of three places does not wait behind who wants the only one.
func TestQueuesOfDifferentNumbers(t *testing.T) {
	_, db := open(t)
	one, three := semaphore(t, db, "a", 1, manual), semaphore(t, db, "a", 3, manual)
	first := try(t, three)
	alone := acquire(t.Context(), t, one)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	second, err := three.Acquire(ctx)
	require.NoError(t, err)
	require.NoError(t, first.Release(t.Context()))
	require.NoError(t, second.Release(t.Context()))
	a := <-alone
	require.NoError(t, a.err)
	require.NoError(t, a.l.Release(t.Context()))
}

// A release wakes the first who waits for each number of places, and nobody who waits for another name.
func TestReleaseWakesAllNumbers(t *testing.T) {
	_, db := open(t)
	s := semaphore(t, db, "a", 1, manual)
	l := try(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	woken := make(chan bool)
	wait := func(s *Semaphore) {
		q, leave := s.join()
		t.Cleanup(leave)
		go func() {
			w, _ := q.pause(ctx, time.Hour)
			woken <- w
		}()
	}
	wait(s)
	wait(s.with(3))
	require.NoError(t, l.Release(t.Context()))
	for range 2 {
		select {
		case w := <-woken:
			assert.True(t, w)
		case <-time.After(10 * time.Second):
			require.Fail(t, "somebody sleeps on")
		}
	}
	wait(semaphore(t, db, "b", 1, manual))
	require.NoError(t, try(t, s).Release(t.Context()))
	cancel()
	assert.False(t, <-woken)
}

// What the database says beside the end of the context is not hidden by who held the name once.
func TestErrorBesideTheEnd(t *testing.T) {
	_, db := open(t)
	s := semaphore(t, db, "a", 1, manual)
	c, err := s.newClaim(t.Context())
	require.NoError(t, err)
	cause, broken := errors.New("the caller has gone"), errors.New("the disk is full")
	ctx, cancel := context.WithCancelCause(t.Context())
	q := &queue{}
	q.met.Store(&HeldError{Name: "a", Holder: "ada"})
	assert.Same(t, broken, c.waited(ctx, q, broken), "the context has not ended")
	cancel(cause)
	err = c.waited(ctx, q, broken)
	for _, want := range []error{broken, context.Canceled, cause} {
		assert.ErrorIs(t, err, want)
	}
	assert.NotErrorIs(t, err, raceproof.ErrLocked)
	unknown := fmt.Errorf("%w: %w", raceproof.ErrCommitUnknown, context.Canceled)
	assert.Same(t, unknown, c.waited(ctx, q, unknown))
	var held *HeldError
	for _, err := range []error{nil, context.Canceled, &HeldError{Name: "a", Holder: "bob"}} {
		err = c.waited(ctx, q, err)
		require.ErrorAs(t, err, &held, "it only waited")
		assert.Equal(t, "ada", held.Holder)
		assert.ErrorIs(t, err, cause)
	}
}
