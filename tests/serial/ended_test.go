package serial_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// gone fails the test unless the error is that of a caller who has left the queue.
func gone(t *testing.T, err, ended error, about string) {
	t.Helper()
	for _, want := range []error{raceproof.ErrLocked, ended, errCause} {
		assert.ErrorIs(t, err, want, about)
	}
	assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, about)
}

// A caller whose context ends while he waits leaves at once, and nothing of his is done.
func TestEndsWhileWaiting(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		n := int64(0)
		for _, p := range patterns(w, tallies) {
			open := gate(t, p)
			before := p.Stats()
			cancelled, cancel := context.WithCancelCause(minute(t))
			short, stop := context.WithTimeoutCause(minute(t), 300*time.Millisecond, errCause)
			defer stop()
			var staying, leaving crowd
			stays := func() { _, err := p.Update(minute(t), 1, plus(1)); assert.NoError(t, err, p.name) }
			staying.queue(t, p, stays)
			leaving.queue(t, p, func() { _, err := p.Update(cancelled, 1, plus(10)); gone(t, err, context.Canceled, p.name) })
			staying.queue(t, p, stays)
			leaving.queue(t, p, func() { _, err := p.Update(short, 2, plus(10)); gone(t, err, context.DeadlineExceeded, p.name) })
			cancel(errCause)
			leaving.Wait()
			waiting := p.Stats()
			assert.Equal(t, before.Waiting+2, waiting.Waiting, p.name)
			assert.Positive(t, waiting.WaitingBytes, p.name)
			open()
			staying.Wait()
			n += 2
			assert.Equal(t, n, tally(t, w, 1).N, p.name)
			assert.Zero(t, tally(t, w, 2).N, p.name)
			assert.Zero(t, p.Stats().Waiting, p.name)
			assert.Zero(t, p.Stats().WaitingBytes, p.name)
		}
	})
}

// A context that ends in the function takes back what it did, and no more.
func TestEndsInFunction(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		n := int64(0)
		for _, p := range patterns(w, tallies)[:2] {
			for _, sends := range []bool{false, true} {
				open := gate(t, p)
				var c crowd
				good := func() { _, err := p.Update(minute(t), 1, plus(1)); assert.NoError(t, err, p.name) }
				c.queue(t, p, good)
				ctx, cancel := context.WithCancelCause(minute(t))
				c.queue(t, p, func() {
					r, err := p.Update(ctx, 1, itself(func(ctx context.Context, r *Tally) error {
						r.N += 100
						if sends && p.name == "lock" {
							assert.NoError(t, send(ctx, w, `UPDATE tallies SET n = n + 1 WHERE id = 2`))
						}
						cancel(errCause)
						return nil
					}))
					assert.Zero(t, r, p.name)
					assert.ErrorIs(t, err, context.Canceled, p.name)
					assert.ErrorIs(t, err, errCause, p.name)
					assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.name)
				})
				c.queue(t, p, good)
				open()
				c.Wait()
				n += 2
				assert.Equal(t, n, tally(t, w, 1).N, p.name)
				assert.Zero(t, tally(t, w, 2).N, p.name)
			}
		}
	})
}

// commit has an action for the next COMMIT of a group that has changed n. One that changes a single row need not have a COMMIT.
func commit(w *world.World, action faultproxy.Action) *faultproxy.Rule {
	changed := false
	return w.Proxy.On(func(text string) bool {
		changed = changed || changesN(text)
		return changed && world.IsCommit(text)
	}, 1, action)
}

// Who leaves while the group commits is told what has become of his change.
func TestEndsInCommit(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		n := int64(0)
		for _, p := range patterns(w, tallies) {
			open := gate(t, p)
			rule := commit(w, faultproxy.Withhold())
			var c crowd
			ctx, cancel := context.WithCancelCause(minute(t))
			for i := range 4 {
				c.queue(t, p, func() {
					mine := minute(t)
					if i == 1 {
						mine = ctx
					}
					r, err := p.Update(mine, 1, plus(1))
					assert.NoError(t, err, "%s: caller %d", p.name, i)
					assert.Equal(t, n+int64(i)+1, r.N, p.name)
				})
			}
			c.queue(t, p, func() { _, err := p.Update(minute(t), 2, plus(1)); assert.NoError(t, err, p.name) })
			open()
			<-rule.Answered()
			cancel(errCause)
			rule.Release()
			c.Wait()
			n += 4
			assert.Equal(t, n, tally(t, w, 1).N, p.name)
		}
	})
}

// A COMMIT that is only slow is not given up for who leaves meanwhile: he does not know, the others do.
func TestEndsInLongCommit(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		p := byLock(w, tallies)
		open := gate(t, p)
		rule := commit(w, faultproxy.Delay(1500*time.Millisecond))
		var c crowd
		ctx, cancel := context.WithCancelCause(minute(t))
		for i := range 3 {
			c.queue(t, p, func() {
				if i != 1 {
					_, err := p.Update(minute(t), 1, plus(1))
					assert.NoError(t, err)
					return
				}
				_, err := p.Update(ctx, 1, plus(1))
				assert.ErrorIs(t, err, raceproof.ErrCommitUnknown)
				assert.ErrorIs(t, err, errCause)
			})
		}
		open()
		<-rule.Answered()
		cancel(errCause)
		c.Wait()
		assert.EqualValues(t, 3, tally(t, w, 1).N)
	})
}

// A function that goes on though its context has ended keeps the others waiting for about a second, and what it does is not
// done.
func TestBlockedFunction(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		n := int64(0)
		for _, p := range patterns(w, tallies)[:2] {
			open := gate(t, p)
			var others, blocked crowd
			leave, inside := make(chan struct{}), make(chan struct{}, 10)
			ctx, cancel := context.WithCancelCause(minute(t))
			good := func() { _, err := p.Update(minute(t), 1, plus(1)); assert.NoError(t, err, p.name) }
			others.queue(t, p, good)
			blocked.queue(t, p, func() {
				_, err := p.Update(ctx, 1, itself(func(_ context.Context, r *Tally) error {
					inside <- struct{}{}
					<-leave
					r.N += 100
					return nil
				}))
				assert.ErrorIs(t, err, context.Canceled, p.name)
				assert.ErrorIs(t, err, errCause, p.name)
			})
			others.queue(t, p, good)
			open()
			<-inside
			start := time.Now()
			cancel(errCause)
			others.Wait()
			took := time.Since(start)
			assert.Greater(t, took, 900*time.Millisecond, p.name)
			assert.Less(t, took, 5*time.Second, p.name)
			n += 2
			assert.Equal(t, n, tally(t, w, 1).N, p.name)
			close(leave)
			blocked.Wait()
			assert.Equal(t, n, tally(t, w, 1).N, p.name)
		}
	})
}
