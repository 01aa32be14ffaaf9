package lease

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
)

type valueKey struct{}

func clocked(t *testing.T) (*Lease, *fake) {
	t.Helper()
	_, db := open(t)
	s := semaphore(t, db, "a", 1, manual)
	c := newFake()
	s.clock = c
	ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), valueKey{}, 42), time.Minute)
	l, err := s.TryAcquire(ctx)
	require.NoError(t, err)
	cancel()
	t.Cleanup(func() {
		_ = l.Release(context.Background())
		assert.Zero(t, c.active(), "no timer is left")
	})
	return l, c
}

// certain is for how long a lease of 15 seconds is certainly held.
const certain = 15*time.Second - 150*time.Millisecond - time.Millisecond

func TestContext(t *testing.T) {
	l, c := clocked(t)
	ctx := l.Context()
	assert.Equal(t, 42, ctx.Value(valueKey{}))
	_, ok := ctx.Deadline()
	assert.False(t, ok)
	c.pass(certain - 1)
	c.fire()
	require.NoError(t, ctx.Err(), "Acquire's own context has ended, and this has not")
	require.NoError(t, context.Cause(ctx))
	select {
	case <-ctx.Done():
		assert.Fail(t, "it is held")
	default:
	}
	require.NoError(t, l.Renew(t.Context()))
	c.pass(certain - 1)
	c.fire()
	require.NoError(t, ctx.Err())
	child, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	c.pass(1)
	c.fire()
	for _, ctx := range []context.Context{child, ctx} {
		<-ctx.Done()
		assert.Equal(t, context.Canceled, ctx.Err())
		assert.ErrorIs(t, context.Cause(ctx), raceproof.ErrLeaseLost)
	}
	assert.ErrorIs(t, l.Renew(t.Context()), raceproof.ErrLeaseLost)
}

// A process that was stopped is told the truth by whatever it asks first, though no timer has fired.
func TestContextOfStoppedProcess(t *testing.T) {
	for name, ask := range map[string]func(context.Context) bool{
		"Err":   func(ctx context.Context) bool { return ctx.Err() != nil },
		"Cause": func(ctx context.Context) bool { return errors.Is(context.Cause(ctx), raceproof.ErrLeaseLost) },
		"Done": func(ctx context.Context) bool {
			select {
			case <-ctx.Done():
				return true
			default:
				return false
			}
		},
		"a derived one": func(ctx context.Context) bool {
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			return errors.Is(context.Cause(ctx), raceproof.ErrLeaseLost)
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, c := clocked(t)
			before, cancel := context.WithCancelCause(l.Context())
			defer cancel(nil)
			called := make(chan struct{})
			context.AfterFunc(l.Context(), func() { close(called) })
			assert.False(t, ask(l.Context()))
			c.pass(certain)
			assert.NoError(t, before.Err(), "nobody has looked")
			assert.True(t, ask(l.Context()))
			assert.ErrorIs(t, context.Cause(before), raceproof.ErrLeaseLost)
			<-called
		})
	}
}

// A renewal whose answer comes when the time is over is too late.
func TestRenewAnsweredLate(t *testing.T) {
	l, c := clocked(t)
	c.mu.Lock()
	c.step = 6 * time.Second // check, before it is sent, and when it was answered
	c.mu.Unlock()
	assert.ErrorIs(t, l.Renew(t.Context()), raceproof.ErrLeaseLost)
	assert.ErrorIs(t, l.Release(t.Context()), raceproof.ErrLeaseLost)
	assert.ErrorIs(t, context.Cause(l.Context()), raceproof.ErrLeaseLost)
}

// So is a COMMIT.
func TestAcquireAnsweredLate(t *testing.T) {
	_, db := open(t)
	s := semaphore(t, db, "a", 1, manual)
	c := newFake()
	c.step = 8 * time.Second
	s.clock = c
	_, err := s.TryAcquire(t.Context())
	assert.ErrorIs(t, err, raceproof.ErrLeaseLost)
	assert.Zero(t, c.active())
}

// What was lost and not yet noticed is lost, also if it is released; and it is free.
func TestReleaseOfLost(t *testing.T) {
	l, c := clocked(t)
	c.pass(certain)
	assert.ErrorIs(t, l.Release(t.Context()), raceproof.ErrLeaseLost)
	assert.ErrorIs(t, context.Cause(l.Context()), raceproof.ErrLeaseLost)
	try(t, semaphore(t, l.db, "a", 1, manual))
}

// The timer fires while a renewal is answered: there is another one for its new time.
func TestTimerBesideRenewal(t *testing.T) {
	l, c := clocked(t)
	c.pass(10 * time.Second)
	require.NoError(t, l.Renew(t.Context()))
	require.NoError(t, l.timer.(*fakeTimer).call())
	require.Equal(t, 1, c.active())
	c.pass(10 * time.Second)
	c.fire()
	require.NoError(t, l.Context().Err())
	c.pass(10 * time.Second)
	c.fire()
	assert.Error(t, l.ctx.Context.Err(), "the timer has done it")
}

// call has the timer fire too early.
func (t *fakeTimer) call() error {
	t.Stop()
	t.f()
	return nil
}
