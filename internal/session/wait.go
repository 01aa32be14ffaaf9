package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/raceproof/raceproof/internal/dialect"
)

// The root package documents these under the same names.
var (
	ErrLocked   = errors.New("raceproof: locked by somebody else")
	ErrFinished = errors.New("raceproof: the transaction of this context is over")
)

// Ended returns nil while the context has not ended, and then an error that wraps both its error and its cause.
func Ended(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// Sleep waits for d, or until the context ends, when it returns what Ended does.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return Ended(ctx)
	}
}

// Jitter returns a random duration up to d. Callers that failed together would otherwise come back together.
func Jitter(d time.Duration) time.Duration {
	return rand.N(max(d, d+1)) // the greatest there is has no successor
}

// The pauses between two tries for a lock that another process holds. The first is about one transaction on a fast
// disk; the last bounds how long a free lock is not noticed.
const (
	firstPause = 500 * time.Microsecond
	lastPause  = 10 * time.Millisecond
)

// patienceOf returns the context that ends when a caller does not want to wait for a lock any more.
func patienceOf(ctx context.Context, w dialect.Wait) (context.Context, context.CancelFunc) {
	switch {
	case w.None:
		ctx, cancel := context.WithCancelCause(ctx)
		cancel(errNotWaited)
		return ctx, func() {}
	case w.AtMost > 0:
		return context.WithTimeoutCause(ctx, w.AtMost, fmt.Errorf("it was waited for for %v", w.AtMost))
	}
	return ctx, func() {}
}

var errNotWaited = errors.New("it was not waited for")

// impatience returns why a lock is not waited for any more: the caller's context has ended, or his patience has.
func impatience(ctx, patience context.Context) error {
	if ended := Ended(ctx); ended != nil {
		return ended
	}
	return context.Cause(patience)
}

// patiently calls f again as long as the database refuses it because of a lock that somebody outside the queue of
// writers holds. A statement so refused was not applied. It waits until the context ends, or the patience that was made of
// it, or, for one that cannot end, for as long as the connection would have waited by itself.
func (c *Conn) patiently(ctx, patience context.Context, f func() error) error {
	var deadline time.Time
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := f()
		if err == nil || c.pool.dialect.Classify(err) != dialect.Busy {
			return err
		}
		if patience.Done() == nil {
			if deadline.IsZero() {
				deadline = time.Now().Add(c.limit)
			}
			if !time.Now().Before(deadline) {
				return fmt.Errorf("%w: waited for as long as the connection is set to: %w", ErrLocked, err)
			}
		}
		if Sleep(patience, pause/2+Jitter(pause/2)) != nil {
			return fmt.Errorf("%w: %w: %w", ErrLocked, impatience(ctx, patience), err)
		}
	}
}

// grace is for how long after the end of its context a statement is still waited for on a database across a network. To
// cut it off costs the connection and leaves open what became of it; and nearly all are over in a fraction of that.
const grace = 50 * time.Millisecond

// A span is the context that the statements of this module are sent with while a caller's own lasts.
type span struct {
	of   <-chan struct{} // the caller's is done
	ctx  context.Context
	stop func()
}

// during returns the context that a statement of this module is sent with. One that runs in this process is over in
// microseconds; to interrupt it would cost more, and end its whole transaction. One that travels is cut off a grace
// after the end of its context. The context is made once for all statements of an update, and is good until the
// connection is released, or another is asked for.
func (c *Conn) during(ctx context.Context) context.Context {
	switch {
	case ctx.Done() == nil:
		return ctx
	case c.pool.dialect.InProcess:
		return context.WithoutCancel(ctx)
	case c.span.of != ctx.Done():
		c.endSpan()
		c.span = newSpan(ctx)
	}
	return c.span.ctx
}

func newSpan(ctx context.Context) span {
	inner := context.WithoutCancel(ctx)
	var cancel context.CancelFunc
	deadline, ok := ctx.Deadline()
	if ok {
		inner, cancel = context.WithDeadline(inner, deadline.Add(grace))
	} else {
		inner, cancel = context.WithCancel(inner)
	}
	stop := context.AfterFunc(ctx, func() {
		if !ok || time.Now().Before(deadline) { // else the deadline does it, and says so
			time.AfterFunc(grace, cancel)
		}
	})
	return span{ctx.Done(), inner, func() {
		stop()
		cancel()
	}}
}

func (c *Conn) endSpan() {
	if c.span.stop != nil {
		c.span.stop()
	}
	c.span = span{}
}

// About tells whether a context is about to end: its deadline has come, but for what it takes to notice.
func About(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && time.Until(deadline) < grace
}

// remaining returns how long it is to the deadline of the context that the statement's own was made of, 0 if there is
// none.
func remaining(inner context.Context) time.Duration {
	deadline, ok := inner.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(deadline)-grace, time.Nanosecond)
}

// WaitAtMost returns for how long a statement that is sent now may wait for a lock, 0 for as long as the connection is set
// to: to the context's deadline, or for as long as the connection would, if that is less.
func (p *Pool) WaitAtMost(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return p.waitUntil(deadline)
}

// waitUntil is WaitAtMost for a deadline, which is none if it is zero.
func (p *Pool) waitUntil(deadline time.Time) time.Duration {
	if deadline.IsZero() {
		return 0
	}
	limit := max(time.Until(deadline), time.Nanosecond)
	if own := time.Duration(p.limit.Load()); own > 0 && own <= limit {
		return 0
	}
	return limit
}
