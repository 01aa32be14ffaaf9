package serial

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/session"
)

// roundsAtMost is how often a group is made that the database refuses on account of others.
const roundsAtMost = 3

// A round is one transaction for a group.
type round[T, C any] struct {
	*Updater[T, C]
	ctx    context.Context
	cancel context.CancelFunc
	back   chan struct{}   // when a caller has done his part
	done   []*caller[T, C] // who have had their part, and wait for what becomes of it
	later  []*caller[T, C] // who are for another group
}

// group serves callers together. Nothing that goes wrong with that is told to anybody, but that a COMMIT's answer was lost: it is
// made again, and at last everybody makes his update himself.
func (u *Updater[T, C]) group(callers []*caller[T, C]) {
	merges := u.grouping.Table != nil
	for rounds := 1; len(callers) > 0; rounds++ {
		r := &round[T, C]{Updater: u, back: make(chan struct{}, 1)}
		err := r.make(callers, merges)
		if err == nil {
			return
		}
		if errors.Is(err, raceproof.ErrCommitUnknown) {
			r.unanswered(err)
			rounds, merges = roundsAtMost, false
		}
		callers = slices.DeleteFunc(callers, func(c *caller[T, C]) bool { return !c.again() })
		_, isRefused := err.(*session.Refused)
		switch {
		case (isRefused || errors.Is(err, row.ErrStale)) && rounds < roundsAtMost:
			time.Sleep(session.Jitter(time.Duration(rounds) * time.Millisecond))
			continue
		case merges && u.grouping.Locks != nil:
			merges, rounds = false, roundsAtMost
			continue
		}
		break
	}
	for _, c := range callers {
		c.sendAway()
	}
}

// make makes one transaction for the callers, and orders those who are served by it to return.
func (r *round[T, C]) make(callers []*caller[T, C], merges bool) (err error) {
	r.ctx, r.cancel = context.WithCancel(context.Background())
	defer r.cancel()
	for _, c := range callers {
		c.cancel.Store(&r.cancel)
	}
	switch {
	case !merges:
		err = r.separately(callers)
	case r.grouping.Locks != nil:
		err = r.locked(callers)
	default:
		err = r.compared(callers)
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

// unanswered tells those who have had their part that it is not known what has become of it. Those who were to be told an error
// have changed nothing, and what they were based on is in doubt.
func (r *round[T, C]) unanswered(err error) {
	if r.grouping.Once != nil {
		return
	}
	for _, c := range r.done {
		if c.err == nil {
			c.value, c.err, c.after = *new(T), r.about(c.key, err), nil
			c.state.Store(gone)
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
	select {
	case <-r.back:
	case <-r.ctx.Done():
		// The function goes on; it finds its transaction ended. Only then the caller reads the order.
		c.state.Store(gone)
		c.order(away)
		return r.ctx.Err()
	}
	if c.state.Load() == entered {
		r.done = append(r.done, c)
	}
	return nil
}

// separately has each caller's update made by the updater that is wrapped, in one transaction.
func (r *round[T, C]) separately(callers []*caller[T, C]) error {
	return r.db.Pool().TransactWith(r.ctx, session.TxOptions{LockTimeout: row.GroupPatience}, func(_ context.Context, tx *session.Tx) error {
		for _, c := range callers {
			if !c.enter() {
				continue
			}
			if err := r.separate(c, tx, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// separate has a caller's update made by the updater that is wrapped, in the transaction, after first.
func (r *round[T, C]) separate(c *caller[T, C], tx *session.Tx, first func() error) error {
	err := r.turn(c, func() {
		part := &session.Part{Bare: true, First: first}
		c.end = func(came bool, err error) { part.End(c.ctx, came, err) }
		err := tx.Part(c.ctx, part, func(ctx context.Context, _ *session.Tx) (err error) {
			c.value, err = r.updater.Update(ctx, c.key, c.change)
			return err
		})
		r.conclude(c, tx, err)
	})
	if err != nil {
		return err
	}
	return tx.Usable(r.ctx)
}

// conclude decides what a caller's error means: it is told when what it was based on is committed; or it is one that he must
// not be told because it is about the group, and he makes his update himself; or his context has ended, and he returns.
func (r *round[T, C]) conclude(c *caller[T, C], tx *session.Tx, err error) {
	switch {
	case err == nil || tx.Usable(r.ctx) != nil: // the round is given up
	case c.ctx.Err() != nil && errors.Is(err, c.ctx.Err()):
		c.err = err
		c.state.Store(gone)
		c.order(served)
	case tx.Refused(err) || !told(err):
		c.state.Store(gone)
		c.order(away)
	default:
		c.err = err
	}
}

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
