package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/fifo"
	"github.com/raceproof/raceproof/internal/session"
)

// The pauses between two looks at a name that is held. The first is about a short task; the last bounds how long it is not
// noticed that another process has released it.
const (
	firstPause = 10 * time.Millisecond
	lastPause  = 250 * time.Millisecond

	// beyond is how long after the end of a holder's time it is looked whether it has renewed.
	beyond = 3 * time.Millisecond
)

// A queue is where the callers of one name in this process wait. The first of them looks at the database.
type queue struct {
	turn  fifo.Mutex
	users int           // guarded by queues
	wake  chan struct{} // has something in it when a lease was released
	met   atomic.Pointer[HeldError]
}

type queueKey struct {
	pool *session.Pool
	name string
	n    int // who wants one of more places does not stand behind who wants one of fewer
}

// queues are those in which somebody waits.
var queues = struct {
	sync.Mutex
	of map[queueKey]*queue
}{of: map[queueKey]*queue{}}

// join returns the queue of the name, which is there until it is left.
func (s *named) join() (q *queue, leave func()) {
	key := queueKey{s.pool(), s.name, s.n}
	queues.Lock()
	defer queues.Unlock()
	q = queues.of[key]
	if q == nil {
		q = &queue{wake: make(chan struct{}, 1)}
		queues.of[key] = q
	}
	q.users++
	return q, func() {
		queues.Lock()
		defer queues.Unlock()
		if q.users--; q.users == 0 {
			delete(queues.of, key)
		}
	}
}

// wake has the first in each queue of the name look at once.
func (s *named) wake() {
	queues.Lock()
	defer queues.Unlock()
	for key, q := range queues.of {
		if key.pool != s.pool() || key.name != s.name {
			continue
		}
		select {
		case q.wake <- struct{}{}:
		default: // it will look anyway
		}
	}
}

// wait tries again and again, when it is its turn.
func (c *claim) wait(ctx context.Context) (*Lease, error) {
	c.waits = true
	q, leave := c.join()
	defer leave()
	if !q.turn.Lock(ctx) {
		return nil, c.waited(ctx, q, nil)
	}
	defer q.turn.Unlock()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		l, err := c.try(ctx)
		if err == nil {
			return l, nil
		}
		var held *HeldError
		switch {
		case errors.As(err, &held):
			q.met.Store(held)
		case ctx.Err() != nil || !passes(err) && !errors.Is(err, errSilent):
			return nil, c.waited(ctx, q, err)
		}
		woken, ended := q.pause(ctx, until(held, pause))
		if ended {
			return nil, c.waited(ctx, q, err)
		}
		if woken {
			pause = firstPause / 2 // and so the first one again
		}
	}
}

// passes tells whether an error is of something that is over at some time: others that seize the name, or on SQLite any
// writers.
func passes(err error) bool {
	return (errors.Is(err, raceproof.ErrLocked) || errors.Is(err, raceproof.ErrConflict)) && !errors.Is(err, raceproof.ErrCommitUnknown)
}

// until returns for how long to pause: not all those who wait for the same, and not past the end of the holder's time.
func until(held *HeldError, pause time.Duration) time.Duration {
	pause = pause/2 + session.Jitter(pause/2)
	if held != nil && held.Left > 0 {
		pause = min(pause, held.Left+beyond)
	}
	return pause
}

// pause waits for d, until it is woken, or until the context ends.
func (q *queue) pause(ctx context.Context, d time.Duration) (woken, ended bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-q.wake:
		woken = true
	case <-ctx.Done():
		ended = true
	}
	return woken, ended
}

// waited returns the error of one that has waited and failed with err, or has not got a turn.
func (c *claim) waited(ctx context.Context, q *queue, err error) error {
	ended := session.Ended(ctx)
	if ended == nil || errors.Is(err, raceproof.ErrCommitUnknown) {
		return err
	}
	var last *HeldError
	if held := q.met.Load(); held != nil && (err == nil || errors.As(err, &last) || errors.Is(err, ctx.Err())) {
		return fmt.Errorf("%w: %w", held, ended)
	}
	if err == nil { // somebody else of this process looks
		err = c.about(fmt.Errorf("%w: others of this process wait for it", raceproof.ErrLocked))
	}
	if errors.Is(err, ctx.Err()) && errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return fmt.Errorf("%w: %w", err, ended) // it can be of a look before the pause in which the context has ended
}
