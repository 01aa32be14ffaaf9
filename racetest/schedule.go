package racetest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/raceproof/raceproof/racetest/internal/search"
	"github.com/raceproof/raceproof/racetest/internal/statement"
	"github.com/raceproof/raceproof/racetest/internal/tap"
)

// A schedule is one run of all actors. One goroutine, that of play, decides who goes on; at any time at most one actor's
// code runs, but for statements that a lock has held up and that go on when it is free.
type schedule struct {
	env    *environment
	ctx    context.Context // of the actors
	cancel context.CancelFunc
	actors []*actor
	done   chan struct{} // closed when the schedule is given up

	mu      sync.Mutex
	changed chan struct{} // has an element after any change of what follows
	changes int
	over    bool
	steps   []*step
	choices int
	with    int       // statements that were no choice
	still   time.Time // since when nobody can go on
	waits   int       // how many have begun to wait
	knots   int       // how often actors have waited for each other
	knot    []string  // the last time: who waited for whom
	chance  bool      // the database has chosen whom it refuses, and may choose another the next time
	fault   *Failure
}

// A step is a row of the timeline as it comes about.
type step struct {
	actor    *actor
	session  *session
	call     *tap.Call
	ctx      context.Context
	info     statement.Info
	with     bool
	started  time.Time
	took     time.Duration
	blocked  bool
	waitsFor []string
	until    int
	returned bool
	refused  bool // it was told at once that the database is busy, because to wait would have been a deadlock
	err      error
}

func (e *environment) schedule(ctx context.Context) *schedule {
	s := &schedule{env: e, done: make(chan struct{}), changed: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(ctx)
	for i, name := range e.names {
		a := &actor{name: name, index: i, run: e.Actors[name]}
		a.db = sql.OpenDB(tap.New(e.connector, a, s))
		s.actors = append(s.actors, a)
	}
	return s
}

// set changes something, and lets play know.
func (s *schedule) set(change func()) {
	s.mu.Lock()
	change()
	s.changes++
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// blame ends the schedule. The first to be blamed is.
func (s *schedule) blame(f *Failure) {
	s.set(func() {
		if s.fault == nil {
			s.fault = f
		}
	})
}

// play runs the actors to their ends, or until one is to blame.
func (s *schedule) play(choose search.Chooser) (decisions []search.Decision, err error) {
	for _, a := range s.actors {
		s.start(a)
		if err := s.settle(); err != nil {
			return nil, err
		}
	}
	last := -1
	for {
		if err := s.retry(last); err != nil {
			return decisions, err
		}
		d, some, left := s.decision(last)
		if !left {
			return decisions, nil
		}
		if !some {
			if err := s.standstill(); err != nil {
				return decisions, err
			}
			continue
		}
		if d.Chosen, err = choose(d); err != nil {
			return decisions, err
		}
		if s.choices++; s.choices > s.env.Steps {
			a := s.actors[d.Chosen]
			return decisions, s.tooMany(a, a.op.Text)
		}
		s.still = time.Time{}
		decisions = append(decisions, d)
		last = d.Chosen
		if err := s.step(s.actors[last], true); err != nil {
			return decisions, err
		}
	}
}

// decision returns what each actor is about to send, and whether any can go on, and any has not ended.
func (s *schedule) decision(last int) (d search.Decision, some, left bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d = search.Decision{Enabled: make([]*search.Op, len(s.actors)), Waits: make([]bool, len(s.actors)), Last: last, Chance: s.chance}
	for i, a := range s.actors {
		left = left || a.state != ended
		d.Waits[i] = a.state == waiting || a.state == blocked
		if a.state == parked {
			d.Enabled[i], some = a.op, true
		}
	}
	return d, some, left
}

// step gives an actor its turn, and waits until nobody runs.
func (s *schedule) step(a *actor, again bool) error {
	s.set(func() {
		if a.state == parked || a.state == waiting { // else the end of its context was faster
			a.state, a.op = running, nil
			a.turn <- again
		}
	})
	return s.settle()
}

// retry lets those try again that the database was busy for, as long as one of them gets on; but for the one that has just
// tried. Who has waited longest is first, as if they stood in a queue.
func (s *schedule) retry(last int) error {
	for {
		progress := false
		for _, a := range s.waiting() {
			if a.index == last {
				continue
			}
			if err := s.step(a, true); err != nil {
				return err
			}
			progress = progress || !slices.Contains(s.waiting(), a)
		}
		if !progress {
			return nil
		}
		last = -1
	}
}

func (s *schedule) waiting() (all []*actor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.actors {
		if a.state == waiting {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b *actor) int { return a.order - b.order })
	return all
}

// standstill is for when nobody can go on: all that are left wait for a lock.
func (s *schedule) standstill() error {
	s.mu.Lock()
	changes := s.changes
	if s.still.IsZero() {
		s.still = time.Now()
		s.knots++
		s.knot = nil
		for _, a := range s.actors {
			if a.state != ended {
				s.knot = append(s.knot, a.name+" waits for "+names(a.waitsFor))
			}
		}
	}
	late := time.Since(s.still) > s.env.Patience
	s.mu.Unlock()
	if waiting := s.waiting(); len(waiting) > 0 && !late {
		// SQLite would give up after the time that it is set to wait, and who began first is first. Who polls, polls.
		for _, a := range waiting {
			if a.polled == "" {
				return s.step(a, false)
			}
		}
		for _, a := range waiting {
			if err := s.step(a, true); err != nil {
				return err
			}
		}
		return nil
	}
	// PostgreSQL finds deadlocks after a time; whoever has set a limit for waits comes to it.
	if late || !s.await(func() bool { return s.changes != changes }) {
		return &Failure{Kind: Deadlock, Err: errors.New("nobody can go on: " + strings.Join(s.knot, ", "))}
	}
	return s.settle()
}

// deadlock takes note of a statement that the database has refused because of one. The caller holds the mutex.
func (s *schedule) deadlock(st *step) {
	s.chance = s.chance || !st.refused
	if !st.blocked || s.knot == nil {
		s.knots++
		others := st.waitsFor
		if others == nil {
			others = s.holders(st.actor)
		}
		s.knot = []string{st.actor.name + " and " + names(others) + " would have waited for each other"}
	}
}

// holders returns who may hold a lock that the actor waits for: who is in a transaction, if nobody tells. The caller holds
// the mutex.
func (s *schedule) holders(a *actor) (holders []string) {
	for _, other := range s.actors {
		for _, c := range other.sessions {
			if (other != a || a.step == nil || c != a.step.session) && c.inTx && c.class != search.Local && !c.conn.Closed() {
				holders = append(holders, other.name)
				break
			}
		}
	}
	if holders == nil {
		return []string{"(somebody else)"}
	}
	return holders
}

func names(all []string) string { return strings.Join(all, " or ") }

// tooMany is the failure of an actor that sends and sends.
func (s *schedule) tooMany(a *actor, next string) *Failure {
	return &Failure{Kind: NoEnd, Actor: a.name, Err: fmt.Errorf("no end after %d statements; the next is %s's %s", s.env.Steps, a.name, next)}
}
