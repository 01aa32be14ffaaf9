package racetest

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// hammerGrace is the longest that callers are waited for after their context has been canceled.
const hammerGrace = 5 * time.Second

// errNoReturn is the Err of an operation that had not returned when the load was given up.
var errNoReturn = errors.New("it has not returned")

// hammerRun is one load under way.
type hammerRun[S, I, O any] struct {
	Load[S, I, O]
	db      *sql.DB
	start   time.Time
	cancel  context.CancelCauseFunc
	last    atomic.Int64 // when an operation ended last, in nanoseconds after the start
	callers []*hammerCaller[I, O]
}

// hammerCaller is one caller's part. The mutex is there because a load that is given up is read while calls go on.
type hammerCaller[I, O any] struct {
	number  int
	mu      sync.Mutex
	done    []Operation[I, O]
	current *Operation[I, O] // what it is calling, or nil
}

// runCallers runs the load, and returns when all callers have ended, or have been given up.
func runCallers[S, I, O any](ctx context.Context, db *sql.DB, l Load[S, I, O]) (Tally[I, O], error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r := &hammerRun[S, I, O]{Load: l, db: db, cancel: cancel, start: time.Now()}
	var all sync.WaitGroup
	for number := range l.Callers {
		c := &hammerCaller[I, O]{number: number}
		r.callers = append(r.callers, c)
		all.Go(func() { r.guarded(ctx, c) })
	}
	ended := make(chan struct{})
	go func() {
		all.Wait()
		close(ended)
	}()
	err := r.wait(ctx, ended)
	return r.tally(), err
}

// guarded makes the calls of one caller. A panic ends the load, not the process.
func (r *hammerRun[S, I, O]) guarded(ctx context.Context, c *hammerCaller[I, O]) {
	finished := false
	defer func() {
		if !finished {
			crash := &CallerError{Caller: c.number, Panic: recover(), Stack: debug.Stack()}
			crash.Call, crash.In, crash.Next = c.abandon(crash)
			r.cancel(crash)
		}
	}()
	r.calls(ctx, c)
	finished = true
}

func (r *hammerRun[S, I, O]) calls(ctx context.Context, c *hammerCaller[I, O]) {
	random := rand.New(rand.NewPCG(r.Seed, uint64(c.number)))
	for range r.Calls {
		if ctx.Err() != nil {
			return
		}
		in := r.Next(random)
		c.begin(in, r.start)
		out, err := r.Do(ctx, r.db, in)
		now := max(time.Since(r.start), 1) // 0 stands for one that has not returned, and a coarse clock may say it
		r.last.Store(int64(now))
		c.end(out, err, now)
	}
}

func (c *hammerCaller[I, O]) begin(in I, start time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current = &Operation[I, O]{Caller: c.number, In: in}
	c.current.Call = time.Since(start)
}

func (c *hammerCaller[I, O]) end(out O, err error, now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.current.Out, c.current.Err, c.current.Return = out, err, now
	c.done = append(c.done, *c.current)
	c.current = nil
}

// abandon notes that the present call will not return, and says which it is, or that the caller was in Next before it.
func (c *hammerCaller[I, O]) abandon(err error) (call int, in string, next bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	call = len(c.done) + 1
	if c.current == nil {
		return call, "", true
	}
	c.current.Err = err
	c.done = append(c.done, *c.current)
	in = inShort(c.current.In)
	c.current = nil
	return call, in, false
}

// wait returns nil when all callers have made all their calls. It gives the load up when the context ends, which a
// caller's panic makes it do, and when no operation has ended for as long as Patience.
func (r *hammerRun[S, I, O]) wait(ctx context.Context, ended <-chan struct{}) error {
	timer := time.NewTimer(r.Patience)
	defer timer.Stop()
	for {
		select {
		case <-ended:
			return r.reason(ctx)
		case <-ctx.Done():
			return r.giveUp(ended, r.reason(ctx))
		case <-timer.C:
			idle := time.Since(r.start) - time.Duration(r.last.Load())
			if idle >= r.Patience {
				return r.giveUp(ended, &StuckError{Idle: idle, Callers: r.standing()})
			}
			timer.Reset(r.Patience - idle)
		}
	}
}

// reason returns what the load was ended by, or nil.
func (r *hammerRun[S, I, O]) reason(ctx context.Context) error {
	cause := context.Cause(ctx)
	var crash *CallerError
	if cause == nil || errors.As(cause, &crash) {
		return cause
	}
	return &endedError{cause}
}

// giveUp cancels the callers' context, waits for them, and returns the reason together with who has not returned.
func (r *hammerRun[S, I, O]) giveUp(ended <-chan struct{}, reason error) error {
	r.cancel(reason)
	grace := time.NewTimer(min(r.Patience, hammerGrace))
	defer grace.Stop()
	select {
	case <-ended:
		return reason
	case <-grace.C:
	}
	var stuck *StuckError
	if errors.As(reason, &stuck) {
		stuck.Left = r.standing()
		return reason
	}
	return errors.Join(reason, &StuckError{Left: r.standing()})
}

// standing lists the callers that are in a call.
func (r *hammerRun[S, I, O]) standing() []Standing {
	var in []Standing
	for _, c := range r.callers {
		c.mu.Lock()
		if c.current != nil {
			waited := time.Since(r.start) - c.current.Call
			in = append(in, Standing{Caller: c.number, Call: len(c.done) + 1, In: inShort(c.current.In), For: waited})
		}
		c.mu.Unlock()
	}
	return in
}

// tally counts what the callers were told so far.
func (r *hammerRun[S, I, O]) tally() Tally[I, O] {
	t := Tally[I, O]{Elapsed: time.Since(r.start)}
	for _, c := range r.callers {
		c.mu.Lock()
		t.Operations = append(t.Operations, c.done...)
		if c.current != nil {
			op := *c.current
			op.Err = errNoReturn
			t.Operations = append(t.Operations, op)
		}
		c.mu.Unlock()
	}
	slices.SortStableFunc(t.Operations, func(a, b Operation[I, O]) int { return cmp.Compare(a.Call, b.Call) })
	for i := range t.Operations {
		op := &t.Operations[i]
		op.Unknown = op.Err != nil && (op.Return == 0 || r.Unknown(op.Err))
		switch {
		case op.Unknown:
			t.Unknown++
		case op.Err != nil:
			t.Refused++
		default:
			t.Done++
		}
	}
	return t
}
