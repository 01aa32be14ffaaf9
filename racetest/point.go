package racetest

import (
	"bytes"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/raceproof/raceproof/racetest/internal/search"
	"github.com/raceproof/raceproof/racetest/internal/statement"
	"github.com/raceproof/raceproof/racetest/internal/tap"
	"github.com/raceproof/raceproof/racetest/internal/waits"
)

// errOver is what the statements of a schedule get that has been given up.
var errOver = errors.New("racetest: this schedule is over")

// Do is where every statement waits for its turn.
func (s *schedule) Do(ctx context.Context, call *tap.Call, run func() error) error {
	a, c := call.Conn.Owner.(*actor), call.Conn.State.(*session)
	s.mu.Lock()
	info := s.env.info(c, call)
	own := bytes.Equal(goroutine(), a.goroutine)
	over := s.over
	s.mu.Unlock()
	switch {
	case over && !info.Undoes:
		return errOver
	case over:
		return run()
	case call.Again:
	case info.Does == statement.Settings, info.Undoes && !own: // database/sql rolls back in a goroutine of its own when a context ends
		if s.unchosen(a, call) && !info.Undoes {
			return errOver
		}
		return s.send(ctx, s.begin(ctx, a, c, call, info, true), run)
	case !own:
		s.blame(&Failure{Kind: ForeignGoroutine, Actor: a.name, Err: fmt.Errorf(
			"%s sends a statement from another goroutine than the one it was called in, where its order cannot be chosen: %s", a.name, written(call))})
		return errOver
	default:
		s.set(func() { a.at = c })
		defer s.set(func() { a.at = nil })
		if err := s.park(a, call, info); err != nil {
			return err
		}
	}
	return s.send(ctx, s.begin(ctx, a, c, call, info, false), run)
}

// unchosen counts what is sent without a choice, and tells whether that was too much: it could go on for ever.
func (s *schedule) unchosen(a *actor, call *tap.Call) bool {
	s.mu.Lock()
	s.with++
	many := s.with > s.env.Steps
	s.mu.Unlock()
	if many {
		s.blame(s.tooMany(a, call.SQL))
	}
	return many
}

// park waits for the actor's turn. One that sends again what has just been told that the database is busy polls for a
// lock: it is let go when somebody else has done something.
func (s *schedule) park(a *actor, call *tap.Call, info statement.Info) error {
	var turn chan bool
	s.set(func() {
		turn = a.stand(parked)
		a.op = &search.Op{Class: info.Class, Text: statement.Masked(call.SQL)}
		if a.polled != "" && a.polled == call.SQL {
			s.queue(a)
		}
	})
	select {
	case <-turn:
		return nil
	case <-s.done:
		s.set(func() { a.state = running })
		return errOver
	}
}

// stand lets the actor wait for what is sent through the channel. The caller holds the mutex.
func (a *actor) stand(state state) chan bool {
	a.state, a.turn = state, make(chan bool, 1)
	return a.turn
}

// queue takes note that the actor waits for what makes the database busy. The caller holds the mutex.
func (s *schedule) queue(a *actor) {
	a.state, a.op = waiting, nil
	if !a.step.blocked {
		s.waits++
		a.order = s.waits
		a.waitsFor = s.holders(a)
		a.step.blocked, a.step.waitsFor = true, a.waitsFor
	}
}

// begin adds a row to the timeline, but for a statement that is tried again.
func (s *schedule) begin(ctx context.Context, a *actor, c *session, call *tap.Call, info statement.Info, with bool) *step {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !with && a.polled != "" && a.polled == call.SQL {
		a.step.call, a.step.session, a.step.ctx = call, c, ctx
		return a.step
	}
	st := &step{actor: a, session: c, call: call, ctx: ctx, info: info, with: with, started: time.Now()}
	if !with {
		a.step = st
	}
	s.steps = append(s.steps, st)
	return st
}

// send sends a statement, if need be again and again until nobody is in its way, and takes note of what became of it.
func (s *schedule) send(ctx context.Context, st *step, run func() error) error {
	send := run
	lite := s.env.database.Immediate
	if lite && st.call.Kind == tap.Commit {
		// Drivers roll back when COMMIT is told that the database is busy. It is sent by itself, so that it can wait.
		send = func() error {
			if err := st.session.conn.Exec(ctx, "COMMIT"); err != nil {
				return err
			}
			// Drivers that end with COMMIT what they have begun with BEGIN, such as being read-only, do it after one of nothing.
			if st.session.conn.Exec(ctx, "BEGIN") == nil {
				_ = run()
			}
			return nil
		}
	}
	if lite && mentionsPatience(st.call.SQL) {
		send = func() error {
			if err := st.session.patient(ctx); err != nil {
				return err
			}
			return errors.Join(run(), st.session.impatient(ctx))
		}
	}
	for {
		err := send()
		if errors.Is(err, driver.ErrSkip) {
			s.skip(st)
			return err
		}
		busy, stale := waits.Busy(err)
		refused := lite && busy
		if refused && st.session.waits(st.info, stale) && s.wait(ctx, st) {
			continue
		}
		if lite && err != nil && st.call.Kind == tap.Commit {
			err = run() // whatever the reason, the driver leaves nothing open
		}
		s.finish(ctx, st, err, refused && !stale)
		return err
	}
}

// skip takes the row back: the driver wants the statement prepared first, and it comes again.
func (s *schedule) skip(st *step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.steps) - 1; i >= 0; i-- {
		if s.steps[i] == st {
			s.steps = append(s.steps[:i], s.steps[i+1:]...)
			return
		}
	}
}

// wait waits for another try, and returns false if there is none.
func (s *schedule) wait(ctx context.Context, st *step) bool {
	a := st.actor
	var turn chan bool
	s.set(func() {
		turn = a.stand(waiting)
		s.queue(a)
	})
	again := false
	select {
	case again = <-turn:
	case <-ctx.Done():
	case <-s.done:
	}
	s.set(func() { a.state = running })
	return again
}

// finish takes note of the end of a statement.
func (s *schedule) finish(ctx context.Context, st *step, err error, refused bool) {
	a, c := st.actor, st.session
	s.set(func() {
		if s.over {
			return // the timeline shows what was when the schedule was given up
		}
		st.err, st.returned, st.took = err, true, time.Since(st.started)
		if st.blocked {
			st.until = len(s.steps)
		}
		// A COMMIT of the caller's own that was told that the database is busy has left the transaction open.
		if st.call.Kind != tap.Begin {
			ctx = context.Background() // database/sql ends only what it has begun
		}
		c.done(ctx, st.info, err, err == nil || !refused || st.call.Kind != tap.Statement)
		if st.with {
			return
		}
		a.polled = ""
		if refused {
			a.polled = st.call.SQL
			st.refused = c.inTx && c.touched
		}
		if st.refused || waits.Deadlock(err) {
			s.deadlock(st)
		}
	})
}
