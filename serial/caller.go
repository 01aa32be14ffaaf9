package serial

import (
	"context"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/session"
)

// A caller waits for his update. What is not atomic belongs to his goroutine between an order and what follows it, and else to
// the goroutine that serves the group.
type caller[T, C any] struct {
	ctx    context.Context
	hooks  context.Context // that the hooks of his function are called with
	key    any
	row    row.Key
	id     session.KeyID
	change C
	bytes  int
	doubt  *row.Doubt // of a round whose COMMIT's answer was lost; nil if an update is not made again after that

	before, behind *caller[T, C] // in the queue
	queued         bool

	wake  chan order // there is never more than one order in it
	state atomic.Int32
	round atomic.Pointer[hurry] // that serves him

	work  func() // when it is his turn
	turn  uint64 // if he is alone
	value T
	err   error
	after func() T // returns the value if it is known only when it is written

	end    func(came bool, err error)   // calls the hooks of his function
	undone []func(came bool, err error) // the same, of rounds that were given up
}

// The states of a caller. Who waits can leave; who has entered waits for what becomes of his change; who is settling is told, or
// made one who waits again; with who is gone the group has nothing to do any more.
const (
	waiting int32 = iota
	entered
	settling
	gone
)

// An order is what a caller who waits is to do.
type order int

const (
	yourTurn order = iota // call your function, and wait again
	served                // return the value and the error
	lone                  // it is your turn to make your update yourself, and nobody else is at work
	away                  // make your update yourself; others are at work meanwhile
	refused               // the updater was closed
)

// enter puts a caller into the queue. The error is why he may not wait.
func (u *Updater[T, C]) enter(ctx context.Context, key any, change C) (*caller[T, C], error) {
	c := &caller[T, C]{ctx: ctx, hooks: ctx, key: key, change: change, wake: make(chan order, 1)}
	g := u.grouping
	if g.Once != nil {
		c.ctx, c.hooks, c.doubt = g.Once(ctx)
	}
	c.bytes = int(unsafe.Sizeof(*c))
	groupable := ctx.Err() == nil && (g.Func == nil || g.Func(change) != nil)
	if groupable && g.Table != nil {
		var err error
		if c.row, err = g.Table.NewKey(key); err != nil {
			groupable = false // the updater itself says what is wrong with the key
		} else {
			c.id = session.KeyIDOf(c.row)
			c.bytes += c.id.Size()
		}
	}
	if g.Size != nil {
		c.bytes += g.Size(change)
	}
	if !groupable {
		return c, u.queue.sendAway(c)
	}
	turn, alone, err := u.queue.join(c, u.limits)
	if alone {
		c.turn = turn
		c.wake <- lone
	}
	return c, err
}

// await does what a caller is ordered to, until he has his row.
func (u *Updater[T, C]) await(c *caller[T, C]) (value T, err error) {
	came := false
	defer func() { // also if the function has panicked
		if c.end != nil {
			defer func() { c.end(came, err) }()
		}
		c.callHooks()
	}()
	done, late := c.ctx.Done(), (<-chan time.Time)(nil)
	for {
		select {
		case o := <-c.wake:
			if o == yourTurn {
				c.work()
				continue
			}
			came = o == served
			return u.obey(c, o)
		case <-done:
			done = nil
			if u.queue.leave(c) {
				return value, u.about(c.key, fmt.Errorf("%w: by the callers before it: %w", raceproof.ErrLocked, session.Ended(c.ctx)))
			}
			t := time.NewTimer(tolerance)
			defer t.Stop()
			late = t.C
		case <-late:
			if r := c.round.Load(); r != nil && r.sealed() && c.state.CompareAndSwap(entered, gone) {
				came = true
				return value, u.unheard(c)
			}
		}
	}
}

// unheard is for a caller whose context has ended, and whose group's COMMIT is not answered.
func (u *Updater[T, C]) unheard(c *caller[T, C]) error {
	return u.about(c.key, fmt.Errorf("%w: COMMIT was not answered: %w", raceproof.ErrCommitUnknown, session.Ended(c.ctx)))
}

// tolerance is for how long a group is waited for by a caller whose context has ended.
const tolerance = time.Second

// obey does what ends a caller's wait.
func (u *Updater[T, C]) obey(c *caller[T, C], o order) (value T, err error) {
	switch o {
	case served:
		switch {
		case c.err != nil:
			return value, c.err
		case c.after != nil:
			return c.after(), nil
		}
		return c.value, nil
	case refused:
		return value, u.about(c.key, raceproof.ErrClosed)
	case lone:
		defer u.goOn(c.turn)
	case away:
		u.queue.oneAlone()
	}
	if c.end != nil {
		c.undone = append(c.undone, c.end)
		c.end = nil
	}
	c.callHooks()
	return u.updater.Update(c.ctx, c.key, c.change)
}

// callHooks calls the hooks of rounds that were given up, when nobody waits for the caller.
func (c *caller[T, C]) callHooks() {
	if len(c.undone) == 0 {
		return
	}
	end := c.undone[0]
	c.undone = c.undone[1:]
	defer c.callHooks() // also if one panics
	end(false, nil)
}

// order gives an order, in the place of one that was not heeded yet: to who is to call his function when the round is given up,
// or by who has called it and does not know that.
func (c *caller[T, C]) order(o order) {
	for {
		select {
		case c.wake <- o:
			return
		default:
		}
		select {
		case <-c.wake:
		default:
		}
	}
}

// enter says that the caller's change is made now, unless he is gone or about to go.
func (c *caller[T, C]) enter() bool {
	return c.ctx.Err() == nil && c.state.CompareAndSwap(waiting, entered)
}

// again makes a caller one who waits, after a round that was given up, and tells whether he is one.
func (c *caller[T, C]) again() bool {
	if c.state.CompareAndSwap(entered, settling) {
		if c.end != nil {
			c.undone = append(c.undone, c.end)
		}
		c.value, c.err, c.after, c.end = *new(T), nil, nil, nil
		c.state.Store(waiting) // from now on he can leave, and all of this is his
	}
	if c.state.Load() != waiting {
		return false
	}
	if c.ctx.Err() != nil { // he can have tried to leave already
		c.sendAway()
		return false
	}
	return true
}

// sendAway orders a caller to make his update himself, unless he is gone.
func (c *caller[T, C]) sendAway() {
	if c.state.CompareAndSwap(waiting, gone) {
		c.order(away)
	}
}

// goAway has a caller make his update himself whose turn it is, or was.
func (c *caller[T, C]) goAway() {
	c.state.Store(gone)
	c.order(away)
}

// goOn ends the turn of a lone caller.
func (u *Updater[T, C]) goOn(turn uint64) {
	if u.queue.end(turn) {
		go u.serve()
	}
}

func (u *Updater[T, C]) overtake() {
	if u.queue.overtake() {
		u.serve()
	}
}

// yields is how often others may run before the next group is made up: those who were just served come back with their next
// updates, and are in it.
const yields = 4

// serve serves groups until nobody waits, or one is alone.
func (u *Updater[T, C]) serve() {
	done := false
	defer func() {
		if !done {
			go u.serve() // this goroutine was ended by somebody's method
		}
	}()
	for {
		for range yields {
			runtime.Gosched()
		}
		callers, turn := u.queue.take(u.limits)
		switch len(callers) {
		case 0:
			done = true
			return
		case 1:
			done = true
			callers[0].turn = turn
			callers[0].order(lone)
			return
		}
		u.group(callers)
	}
}
