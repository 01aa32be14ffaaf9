package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/session"
)

// A Lease is a place that is held, or was. It is safe for concurrent use.
type Lease struct {
	*named
	holder       []byte
	place, token int64
	ctx          *leaseContext
	cancel       context.CancelCauseFunc
	renewing     sync.WaitGroup // the goroutine that renews

	mu       sync.Mutex
	until    time.Time // when it is not certain any more that it is held
	timer    timer     // until then
	ended    error     // why it is not held; nil while it is
	released bool
	failed   error // what the last renewal failed with
}

// newLease returns what a claim has seized.
func newLease(ctx context.Context, c *claim) (*Lease, error) {
	l := &Lease{named: c.named, holder: c.holder, place: c.place, token: c.token}
	inner, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	l.ctx, l.cancel = &leaseContext{inner, l}, cancel
	l.until = l.endOf(c.sent)
	l.mu.Lock()
	l.timer = l.clock.AfterFunc(l.until.Sub(l.clock.Now()), l.expire)
	l.mu.Unlock()
	if err := l.check(); err != nil {
		return nil, err
	}
	if !l.options.Manual {
		l.renewing.Go(l.keep)
	}
	return l, nil
}

// endOf returns until when a lease is certainly held whose time was set by a statement that was sent then.
func (l *Lease) endOf(sent time.Time) time.Time {
	return sent.Add(l.options.TTL - margin(l.options.TTL))
}

// Name returns the name that was acquired.
func (l *Lease) Name() string { return l.name }

// Token returns a number that is higher than that of every earlier holder of the name, as long as the database loses no
// commit. Who is written to in the holder's name can keep the highest that it has seen, and refuse a lower one.
func (l *Lease) Token() int64 { return l.token }

// Context returns a context that is cancelled when the lease is not held any more, or this process cannot be sure that it is.
// It has the values of the context that the lease was acquired with, and neither its end nor its deadline.
//
// Its cause wraps raceproof.ErrLeaseLost, or is ErrReleased. Its methods, and context.Cause, look at the process's monotonic
// clock before they answer, so that a process that was stopped is told the truth when it goes on; contexts that are derived
// from it are told by a timer, or by the first who asks this one. If the machine was suspended its clock may have stood
// still: then only [Lease.Fence] tells.
func (l *Lease) Context() context.Context { return l.ctx }

// check returns why the lease is not held, nil if it is. Then its context has been cancelled.
func (l *Lease) check() error {
	l.mu.Lock()
	why := l.ended
	if why == nil && !l.clock.Now().Before(l.until) {
		why = l.lost(errLate)
		if l.failed != nil {
			why = l.lost(fmt.Errorf("%w: %w", errLate, l.failed))
		}
	}
	l.mu.Unlock()
	if why == nil {
		return nil
	}
	return l.end(why)
}

// Why a lease is lost.
var (
	errLate  = errors.New("its time is over, and no renewal was answered")
	errTaken = errors.New("its time was over, and somebody else has taken it over")
)

func (l *Lease) lost(why error) error {
	return l.about(fmt.Errorf("%w: %w", raceproof.ErrLeaseLost, why))
}

// end ends the lease, unless it has ended before, and returns why it has.
func (l *Lease) end(why error) error {
	l.mu.Lock()
	if l.ended == nil {
		l.ended = why
		l.timer.Stop()
	}
	why = l.ended
	l.mu.Unlock()
	l.cancel(why)
	return why
}

// expire is what the timer calls.
func (l *Lease) expire() {
	if l.check() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended == nil {
		l.timer.Reset(l.until.Sub(l.clock.Now())) // it was renewed meanwhile
	}
}

// usable returns an error if the lease is not held, or was released.
func (l *Lease) usable() error {
	l.mu.Lock()
	released := l.released
	l.mu.Unlock()
	if released {
		return l.about(ErrReleased)
	}
	return l.check()
}

// Renew has the lease's time begin again. Only a Manual lease needs it.
//
// Inside a transaction of the DB it is raceproof.ErrNested, after Release ErrReleased. An error that wraps
// raceproof.ErrLeaseLost means that the lease is over for good. After any other, and if ctx ends, the lease is held for as
// long as it would have been, or longer: try again. On a DB that is closed the lease is lost.
func (l *Lease) Renew(ctx context.Context) error { return l.renew(ctx, l.options.TTL) }

// renew is Renew with a limit for how long a connection and an answer are waited for, once it is its turn to have one: who
// waits in a queue must not lose his place.
func (l *Lease) renew(ctx context.Context, limit time.Duration) error {
	if err := l.outside(ctx, "a lease is renewed in a transaction of its own"); err != nil {
		return err
	}
	if err := l.usable(); err != nil {
		return err
	}
	var sent time.Time
	n, _, err := l.change(ctx, limit, func() dialect.Statement {
		sent = l.clock.Now()
		return l.texts.renew(l.place, l.holder, l.options.TTL)
	})
	switch {
	case err != nil && (errors.Is(err, raceproof.ErrClosed) || l.pool().Closed()):
		return l.end(l.lost(raceproof.ErrClosed))
	case err != nil:
		return l.about(fmt.Errorf("renew: %w", err))
	case n == 0:
		return l.end(l.lost(errTaken))
	}
	return l.prolonged(sent)
}

// prolonged notes that the lease's time was set by a statement that was sent then. If the time was over when the answer came,
// it stays over: others can have been told.
func (l *Lease) prolonged(sent time.Time) error {
	if err := l.check(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return l.ended
	}
	l.failed = nil
	if until := l.endOf(sent); until.After(l.until) {
		l.until = until // the timer sees that when it fires
	}
	return nil
}

// keep renews the lease until it ends.
func (l *Lease) keep() {
	third := l.options.TTL / 3
	for pause := third; session.Sleep(l.ctx, pause) == nil; {
		pause = third
		// A server that is silent must be noticed while there is time to ask again.
		if err := l.renew(l.ctx, third); err != nil {
			l.mu.Lock()
			l.failed = err
			l.mu.Unlock()
			pause = max(l.options.TTL/20, 5*time.Millisecond)
		}
	}
}

// releaseAtMost bounds a Release whose context does not.
const releaseAtMost = 30 * time.Second

// Release gives the lease back: its renewals stop, its Context is cancelled with the cause ErrReleased, and somebody else
// can have it at once. No goroutine is left behind, whatever Release returns. If an answer is lost it asks again as long as
// ctx lasts, for the TTL at the most, and for half a minute if ctx cannot end; do not give it a context that has ended.
//
// An error that wraps raceproof.ErrLeaseLost means that the lease had been lost before, and nothing of another's was touched
// (if an answer was lost in between, that cannot always be told from a release, and it is nil); ErrReleased, that it was
// released before; raceproof.ErrNested, that ctx carries a transaction of the DB, and then nothing has happened. Any other
// means that the database could not be reached: the lease is not held any more by this process, and free for others when the
// TTL is over, or before.
//
// While one of its transactions has its fence nobody else gets the place, though it was released; of a semaphore on a Galera
// cluster that is not so, so let them end first.
func (l *Lease) Release(ctx context.Context) error {
	if err := l.outside(ctx, "a lease is released in a transaction of its own"); err != nil {
		return err
	}
	_ = l.check() // it may be lost already, and nobody has looked
	l.mu.Lock()
	again := l.released
	l.released = true
	l.mu.Unlock()
	if again {
		return l.about(ErrReleased)
	}
	why := l.end(ErrReleased)
	l.renewing.Wait()
	limit := l.options.TTL // after that there is nothing to release
	if ctx.Done() == nil {
		limit = min(limit, releaseAtMost)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	n, doubt, err := l.change(ctx, limit, func() dialect.Statement { return l.texts.release(l.place, l.holder) })
	l.wake()
	switch {
	case !errors.Is(why, ErrReleased):
		return why
	case err != nil:
		return l.about(fmt.Errorf("release: %w", err))
	case n == 0 && !doubt: // else it may be a statement whose answer was lost that has released it
		return l.lost(errTaken)
	}
	return nil
}
