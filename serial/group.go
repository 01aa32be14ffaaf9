package serial

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/session"
)

// roundsAtMost is how often a group is tried to be served.
const roundsAtMost = 4

// A round is one transaction for a group.
type round[T, C any] struct {
	*Updater[T, C]
	*hurry
	back  chan struct{}   // when a caller has done his part
	slow  *time.Timer     // when he takes too long
	done  []*caller[T, C] // who have had their part, and wait for what becomes of it
	later []*caller[T, C] // who are for another group
}

// A manner is how a group is served. Each is for when the one before it has failed.
type manner int

const (
	compared   manner = iota // the rows are read, changed, and written if they are still the same
	together                 // the same of rows that are locked
	skipping                 // the same, but of rows only that nobody else holds
	separately               // each by the updater that is wrapped, in one transaction
	alone                    // each by the updater that is wrapped, by its caller
)

// next is what is tried after a round has failed.
func (u *Updater[T, C]) next(m manner, err error) manner {
	locked, conflict := errors.Is(err, raceproof.ErrLocked), errors.Is(err, row.ErrStale) || errors.Is(err, errSlow) || errors.Is(err, errBarred)
	if r, ok := err.(*session.Refused); ok {
		locked, conflict = r.Class == dialect.Busy, r.Class == dialect.Conflict
	}
	switch {
	case errors.Is(err, raceproof.ErrCommitUnknown):
		return alone
	case m == compared && u.grouping.Locks != nil:
		return together
	case conflict:
		return m
	case m == compared:
		return alone
	case locked && m == together && u.grouping.Locks.Skips():
		return skipping
	case locked || m == separately:
		return alone
	}
	return separately
}

// first is the manner that is tried first.
func (u *Updater[T, C]) first() manner {
	switch g := u.grouping; {
	case g.Table == nil:
		return separately
	case g.Locks == nil:
		return compared
	case g.Evaluate != nil && g.Table.ComparesFast() && time.Since(u.met) > contended:
		return compared // no function has to be called again
	}
	return together
}

// contended is for how long rows are locked after somebody else has changed one that was only compared.
const contended = time.Second

// group serves callers together. Nothing that goes wrong with that is told to anybody, but that a COMMIT's answer was lost: it is
// made again, and at last everybody makes his update himself.
func (u *Updater[T, C]) group(callers []*caller[T, C]) {
	m := u.first()
	done := false
	defer func() {
		if !done { // a Scan or a Value method has panicked, or ended this goroutine: it will do that to its caller
			_ = recover()
			u.abandon(callers)
		}
	}()
	var err error
	for rounds := 1; m != alone && len(callers) > 0; rounds++ {
		r := &round[T, C]{Updater: u, back: make(chan struct{}, 1)}
		if err = r.make(callers, m); err == nil {
			done = true
			return
		}
		if errors.Is(err, raceproof.ErrCommitUnknown) {
			r.unanswered(err)
		}
		callers = slices.DeleteFunc(callers, func(c *caller[T, C]) bool { return !c.again() })
		if errors.Is(err, row.ErrStale) {
			u.met = time.Now()
		}
		if m = u.next(m, err); rounds >= roundsAtMost {
			m = alone
		}
		time.Sleep(session.Jitter(time.Duration(rounds) * time.Millisecond))
	}
	done = true
	if errors.Is(err, row.ErrStale) && u.grouping.Locks == nil && len(callers) > 0 {
		// All of them at once would get in each other's way.
		u.queue.putBack(callers[1:])
		callers = callers[:1]
	}
	u.abandon(callers)
}

// abandon has those callers make their updates themselves who are still here.
func (u *Updater[T, C]) abandon(callers []*caller[T, C]) {
	for _, c := range callers {
		if c.again() {
			c.sendAway()
		}
	}
}

// make makes one transaction for the callers, and orders those who are served by it to return.
func (r *round[T, C]) make(callers []*caller[T, C], m manner) (err error) {
	r.hurry = newHurry()
	defer r.cancel()
	r.slow = time.NewTimer(tolerance)
	defer r.slow.Stop()
	for _, c := range callers {
		c.round.Store(r.hurry)
	}
	switch m {
	case compared:
		err = r.compared(callers)
	case separately:
		err = r.separately(callers)
	default:
		err = r.locked(callers, m == skipping)
	}
	if err != nil {
		return err
	}
	r.queue.served(len(r.done))
	for _, c := range r.done {
		c.order(served)
	}
	r.later = slices.DeleteFunc(r.later, func(c *caller[T, C]) bool { return !c.again() })
	r.queue.putBack(r.later)
	return nil
}

// patience is how long a group waits for a lock, where the database can be told so in milliseconds. Callers of other rows wait
// with those of the one that somebody holds.
const patience = 250 * time.Millisecond

// transact calls f in the round's transaction.
func (r *round[T, C]) transact(f func(context.Context, *session.Tx) error) error {
	o := session.TxOptions{LockTimeout: patience, Wait: dialect.Wait{AtMost: row.GroupPatience}}
	return r.db.Pool().TransactWith(r.ctx, o, func(ctx context.Context, tx *session.Tx) error {
		if err := f(ctx, tx); err != nil {
			return err
		}
		return r.seal()
	})
}

// unanswered tells those who have had their part that it is not known what has become of it, or notes it for those who find
// out. Those who were to be told an error have changed nothing, and what they were based on is in doubt.
func (r *round[T, C]) unanswered(err error) {
	for _, c := range r.done {
		switch {
		case c.err != nil || !c.state.CompareAndSwap(entered, settling):
		case c.doubt != nil:
			c.doubt.Err, c.end = r.about(c.key, err), nil
			c.state.Store(entered)
		default:
			c.value, c.err, c.after = *new(T), r.about(c.key, err), nil
			c.order(served)
		}
	}
}

// turn has a caller do his part, on his own goroutine, and waits for it. The error is why the round is given up.
func (r *round[T, C]) turn(c *caller[T, C], part func()) error {
	c.work = func() {
		returned := false
		defer func() {
			if !returned { // it has panicked, or ended its goroutine
				c.state.Store(gone)
			}
			r.back <- struct{}{}
		}()
		part()
		returned = true
	}
	c.order(yourTurn)
	r.slow.Reset(tolerance)
	select {
	case <-r.back:
	case <-r.ctx.Done():
		c.goAway() // when his function returns, which finds its transaction ended
		return r.ctx.Err()
	case <-r.slow.C:
		r.over() // a statement of his is not waited for
		c.goAway()
		return errSlow
	}
	if c.state.Load() == entered {
		r.done = append(r.done, c)
	}
	return nil
}

// errSlow: a function has kept the others waiting for too long. It can wait for one of them.
var errSlow = errors.New("a function has taken too long for a group")

// separately has each caller's update made by the updater that is wrapped, in one transaction.
func (r *round[T, C]) separately(callers []*caller[T, C]) error {
	return r.transact(func(_ context.Context, tx *session.Tx) error {
		for _, c := range callers {
			if !c.enter() {
				continue
			}
			if err := r.separate(c, tx, nil, func() {}); err != nil {
				return err
			}
		}
		return nil
	})
}

// separate has a caller's update made by the updater that is wrapped, in the transaction. First is called before it sends
// something, and forget afterwards.
func (r *round[T, C]) separate(c *caller[T, C], tx *session.Tx, first func() error, forget func()) error {
	err := r.turn(c, func() {
		part := c.part(&session.Part{Bare: true, First: first, Round: r.ctx})
		err := tx.Part(c.ctx, part, func(ctx context.Context, _ *session.Tx) (err error) {
			c.value, err = r.updater.Update(ctx, c.key, c.change)
			return err
		})
		if part.Sent() {
			forget()
		}
		r.conclude(c, tx, part, err, false)
	})
	if err != nil {
		return err
	}
	return tx.Usable(r.ctx)
}

// part has the hooks called that the caller's function gives in a part.
func (c *caller[T, C]) part(p *session.Part) *session.Part {
	c.end = func(came bool, err error) { p.End(c.hooks, came, err) }
	return p
}

// conclude decides what a caller's error means: it is told when what it was based on is committed; or it is one that he must
// not be told because it is about the group, and he makes his update himself; or his context has ended, and he returns. His
// function's own he is told whatever it is.
func (r *round[T, C]) conclude(c *caller[T, C], tx *session.Tx, part *session.Part, err error, own bool) {
	switch {
	case part.Barred():
		if err == nil {
			tx.Fail(errBarred) // it was not taken back
		}
		c.goAway()
	case err == nil || tx.Usable(r.ctx) != nil: // the round is given up
	case c.ctx.Err() != nil && errors.Is(err, c.ctx.Err()):
		c.err = err
		c.state.Store(gone)
		c.order(served)
	case tx.Refused(err) || !own && !told(err):
		c.goAway()
	default:
		c.err = err
	}
}

// errBarred: what a function has done beside a statement that groups do not take is not taken back by itself.
var errBarred = errors.New("a function has sent a statement that is not for groups")

// told tells whether an error can be told to a caller as it is: it is about himself and his row.
func told(err error) bool {
	for _, other := range []error{raceproof.ErrConflict, raceproof.ErrLocked, raceproof.ErrFinished, raceproof.ErrClosed,
		raceproof.ErrCommitUnknown, raceproof.ErrOverloaded, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, other) {
			return false
		}
	}
	return true
}
