package lease_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/lease"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A database that has lost the commit of an acquisition gives its token again: the fence knows the holders apart.
func TestTokenGivenTwice(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for _, n := range []int{1, 2} {
			name := fmt.Sprint("a", n)
			require.NoError(t, try(t, w.DB, name, n).Release(minute(t)))
			before := number(t, w, `SELECT max(token) FROM raceproof_fence`)
			stale := try(t, w.DB, name, n)
			w.Look.MustExec(fmt.Sprintf(`UPDATE raceproof_fence SET token = %d WHERE token > %d`, before, before))
			w.Look.MustExec(`UPDATE raceproof_lease SET holder = NULL, expires = NULL`)
			fresh := try(t, w.DB, name, n)
			require.Equal(t, stale.Token(), fresh.Token())

			score := w.Row(7).Score
			lost(t, award(t, w, stale))
			assert.Equal(t, score, w.Row(7).Score)
			lost(t, context.Cause(stale.Context()))
			require.NoError(t, award(t, w, fresh))
			assert.Equal(t, score+1, w.Row(7).Score)
			lost(t, stale.Release(minute(t)))
			require.NoError(t, fresh.Renew(minute(t)))
			require.NoError(t, fresh.Release(minute(t)))
			w.Look.MustExec(`DELETE FROM raceproof_fence`)
			w.Look.MustExec(`DELETE FROM raceproof_lease`)
		}
	})
}

// The rows can also be rewound behind the takeover of a lease whose time was over, and nobody has it yet.
func TestTokenIsNobodys(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		one, two := try(t, w.DB, "a", 2), try(t, w.DB, "a", 2)
		shift(w, past, `holder IS NOT NULL`)
		fresh := try(t, w.DB, "a", 1) // which frees both
		w.Look.MustExec(fmt.Sprintf(`UPDATE raceproof_fence SET token = %d WHERE place = 2`, two.Token()))
		lost(t, award(t, w, one))
		lost(t, award(t, w, two))
		require.NoError(t, award(t, w, fresh))
	})
}

// What the function says beside a fence that has failed does not hide that the lease is lost.
func TestFenceIsNotHidden(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		stale := try(t, w.DB, "a", 1)
		shift(w, past, `holder IS NOT NULL`)
		try(t, w.DB, "a", 1)
		mine := errors.New("the function's own")
		for _, inside := range []func(context.Context) error{
			func(ctx context.Context) error { _ = stale.Fence(ctx); return mine },
			func(ctx context.Context) error {
				_ = w.DB.Transact(ctx, stale.Fence)
				return mine
			},
			func(ctx context.Context) error {
				_, err := w.Pattern("lock").Update(ctx, 7, world.Change{Func: func(ctx context.Context, _ *world.Player) error {
					_ = stale.Fence(ctx)
					return mine
				}})
				return err
			},
		} {
			err := w.DB.Transact(minute(t), inside)
			assert.ErrorIs(t, err, mine)
			lost(t, err)
		}
	})
}

// A Release that nobody answers ends with the lease's time, whatever its context is: nothing is left to release then.
func TestReleaseIsNotAnswered(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for _, silent := range []int{1, 1000} { // answers
			l, err := lease.TryAcquire(minute(t), w.DB, "a", &lease.Options{TTL: 300 * time.Millisecond, Manual: true})
			require.NoError(t, err)
			match := faultproxy.Contains("SET holder = NULL, expires = NULL")
			if silent > 1 {
				match = world.IsAny
			}
			rule := w.Proxy.On(match, silent, faultproxy.Withhold())
			done := make(chan error, 1)
			go func() { done <- l.Release(context.WithoutCancel(t.Context())) }()
			select {
			case err = <-done:
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.ErrorIs(t, err, raceproof.ErrCommitUnknown)
			case <-time.After(10 * time.Second):
				require.Fail(t, "it waits for ever")
			}
			assert.ErrorIs(t, context.Cause(l.Context()), lease.ErrReleased)
			w.Idle(w.Pool)
			rule.Lose()
			require.Positive(t, rule.Fired())
			if silent == 1 {
				next, err := lease.Acquire(minute(t), w.DB, "a", manual)
				require.NoError(t, err)
				require.NoError(t, next.Release(minute(t)))
			}
		}
	}, onServers...)
}

// A place that was released counts while a transaction has its fence, also if there would be another one.
func TestReleasedPlaceCounts(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		first, second := try(t, w.DB, "a", 2), try(t, w.DB, "a", 2)
		require.NoError(t, first.Release(minute(t)))
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			require.NoError(t, second.Fence(ctx))
			require.NoError(t, second.Release(minute(t)))
			assert.Zero(t, held(t, w.DB, "a", 1).Left)
			require.NoError(t, try(t, w.DB, "a", 2).Release(minute(t)))
			return nil
		}))
		try(t, w.DB, "a", 1)
	}, onServers...)
}

// A renewal that waits for longer than it waits for answers keeps its place in the queue.
func TestRenewalKeepsItsPlace(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		const ttl = 2 * time.Second
		pool, db := w.Open(databases.Options{})
		pool.SetMaxOpenConns(1)
		l, err := lease.TryAcquire(minute(t), db, "a", &lease.Options{TTL: ttl})
		require.NoError(t, err)
		late := make(chan error, 1)
		require.NoError(t, db.Transact(minute(t), func(context.Context) error {
			world.Until(t, "a renewal waits", func() bool { return waits("(*Lease).keep") })
			behind := time.Now().Add(ttl * 2 / 5) // more than a third
			go comeLate(t, db, l, late)
			world.Until(t, "another waits", func() bool { return waits("comeLate") && time.Now().After(behind) })
			return nil
		}))
		require.NoError(t, <-late)
		require.NoError(t, context.Cause(l.Context()))
		require.NoError(t, l.Release(minute(t)))
	}, "mariadb/mysql")
}

// comeLate holds what there is to hold until the lease's first time is over: if it is before the renewal the lease is lost.
func comeLate(t *testing.T, db *raceproof.DB, l *lease.Lease, done chan<- error) {
	done <- db.Transact(minute(t), func(context.Context) error {
		select {
		case <-l.Context().Done():
			return context.Cause(l.Context())
		case <-time.After(time.Second):
			return nil
		}
	})
}

// waits tells whether a goroutine that is in the function waits in a queue of this process.
func waits(function string) bool {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	for one := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		if bytes.Contains(one, []byte(function)) && bytes.Contains(one, []byte("fifo.(*Semaphore).acquire")) {
			return true
		}
	}
	return false
}
