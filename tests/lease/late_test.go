package lease_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/lease"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// isCommit matches a COMMIT, and not READ COMMITTED.
func isCommit(text string) bool { return strings.HasSuffix(text, "COMMIT") }

// A lease whose time is over is not taken over while a transaction has its fence, and neither is one that was released. It
// can be renewed meanwhile.
func TestNobodyPassesFence(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for _, committed := range []bool{true, false} {
			for _, n := range []int{1, 2} {
				for range n - 1 {
					defer func(l *lease.Lease) { _ = l.Release(minute(t)) }(try(t, w.DB, "a", n))
				}
				a := try(t, w.DB, "a", n)
				err := w.DB.Transact(minute(t), func(ctx context.Context) error {
					require.NoError(t, a.Fence(ctx))
					require.NoError(t, a.Renew(minute(t)), "a fence holds up no renewal")
					shift(w, past, `place = `+string(rune('0'+n)))
					assert.Zero(t, held(t, w.DB, "a", n).Left)
					require.NoError(t, a.Release(minute(t)))
					assert.Zero(t, held(t, w.DB, "a", n).Left)
					if !committed {
						return errors.New("taken back")
					}
					return nil
				})
				assert.Equal(t, committed, err == nil, "%v", err)
				b := try(t, w.DB, "a", n)
				assert.Greater(t, b.Token(), a.Token())
				require.NoError(t, b.Release(minute(t)))
				if n == 2 {
					break
				}
			}
			shift(w, past, `holder IS NOT NULL`)
		}
	}, onServers...)
}

// A renewal that has begun when the time was over, and is not committed yet, is waited for: then it is held after all.
func TestRenewalUnderWay(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		a, b := try(t, w.DB, "a", 2), try(t, w.DB, "a", 2)
		require.NoError(t, a.Release(minute(t)))
		shift(w, past, `holder IS NOT NULL`)
		tx, err := w.Look.Beginx()
		require.NoError(t, err)
		_, err = tx.Exec(`UPDATE raceproof_lease SET renewals = renewals + 1, expires = ` + soon[w.Dialect.Name] + ` WHERE place = 2`)
		require.NoError(t, err)
		done := make(chan error, 1)
		go func() {
			_, err := lease.TryAcquire(minute(t), w.DB, "a", manual)
			done <- err
		}()
		w.Waiting()
		require.NoError(t, tx.Commit())
		assert.ErrorIs(t, <-done, raceproof.ErrLocked)
		require.NoError(t, b.Renew(minute(t)))
	}, onServers...)
}

// The answer to a COMMIT of an acquisition is lost, or the COMMIT itself: it is acquired once all the same.
func TestAnswerToAcquireIsLost(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for _, action := range []faultproxy.Action{faultproxy.Drop(), faultproxy.Cut()} {
			for _, acquire := range []func() (*lease.Lease, error){
				func() (*lease.Lease, error) { return lease.TryAcquire(minute(t), w.DB, "a", manual) },
				func() (*lease.Lease, error) { return lease.Acquire(minute(t), w.DB, "a", manual) },
			} {
				rule := w.Proxy.On(isCommit, 2, action)
				l, err := acquire()
				require.NoError(t, err)
				require.Equal(t, 2, rule.Fired())
				assert.Equal(t, int64(1), number(t, w, `SELECT count(*) FROM raceproof_lease`))
				require.NoError(t, award(t, w, l))
				require.NoError(t, l.Release(minute(t)))
			}
		}
	}, onServers...)
}

// If it cannot be found out the error says so, and then nobody can have it until its time is over.
func TestAnswerToAcquireIsLostForGood(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		require.NoError(t, try(t, w.DB, "a", 1).Release(minute(t)))
		rule := w.Proxy.On(isCommit, 1, faultproxy.Withhold())
		cause := errors.New("the caller has gone")
		ctx, cancel := context.WithCancelCause(minute(t))
		go func() {
			<-rule.Answered()
			cancel(cause)
		}()
		_, err := lease.Acquire(ctx, w.DB, "a", manual)
		for _, want := range []error{raceproof.ErrCommitUnknown, context.Canceled, cause} {
			assert.ErrorIs(t, err, want)
		}
		rule.Lose()
		held(t, w.DB, "a", 1)
		shift(w, past, `holder IS NOT NULL`)
		try(t, w.DB, "a", 1)
	}, onServers...)
}

func TestAnswerToReleaseIsLost(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for _, action := range []faultproxy.Action{faultproxy.Drop(), faultproxy.Cut()} {
			l := try(t, w.DB, "a", 1)
			rule := w.Proxy.On(faultproxy.Contains("SET holder = NULL, expires = NULL"), 2, action)
			require.NoError(t, l.Release(minute(t)))
			require.Equal(t, 2, rule.Fired())
			assert.Equal(t, int64(1), number(t, w, `SELECT count(*) FROM raceproof_lease WHERE holder IS NULL`))
		}
	}, onServers...)
}

// A server that is silent ends the lease in time, and leaves nothing behind.
func TestSilentServer(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		const ttl = time.Second
		l, err := lease.TryAcquire(minute(t), w.DB, "a", &lease.Options{TTL: ttl})
		require.NoError(t, err)
		w.Proxy.On(world.IsAny, 1000, faultproxy.Withhold())
		began := time.Now()
		<-l.Context().Done()
		assert.Less(t, time.Since(began), 2*ttl) // to the millisecond it is tested with a clock of its own
		lost(t, context.Cause(l.Context()))
		world.Until(t, "nothing is left", func() bool { return w.Pool.Stats().InUse == 0 })
	}, onServers...)
}

// One answer that is lost does not lose a lease: it is renewed again in time.
func TestRenewalIsLost(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		l, err := lease.TryAcquire(minute(t), w.DB, "a", &lease.Options{TTL: 3 * time.Second})
		require.NoError(t, err)
		rule := w.Proxy.On(faultproxy.Contains("renewals + 1, expires"), 1, faultproxy.Withhold())
		<-rule.Answered()
		before := number(t, w, `SELECT renewals FROM raceproof_lease`)
		world.Until(t, "it is renewed", func() bool { return number(t, w, `SELECT renewals FROM raceproof_lease`) > before+1 })
		require.NoError(t, l.Context().Err())
		require.NoError(t, l.Release(minute(t)))
	}, onServers...)
}

// Somebody who is stopped while he acquires holds up others no longer than their contexts last.
func TestAcquisitionIsHeldUp(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		a := try(t, w.DB, "a", 1)
		tx, err := w.Look.Beginx()
		require.NoError(t, err)
		_, err = tx.Exec(`UPDATE raceproof_fence SET token = token + 1 WHERE name = 'a' AND place = 0`)
		require.NoError(t, err)
		require.NoError(t, a.Renew(minute(t)), "holders are not held up")
		require.NoError(t, award(t, w, a))
		require.NoError(t, a.Release(minute(t)))
		for _, acquire := range []func(context.Context, *raceproof.DB, string, *lease.Options) (*lease.Lease, error){lease.TryAcquire, lease.Acquire} {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			began := time.Now()
			_, err = acquire(ctx, w.DB, "a", manual)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Less(t, time.Since(began), 2*time.Second)
			cancel()
		}
		require.NoError(t, tx.Rollback())
		try(t, w.DB, "a", 1)
	}, onServers...)
}
