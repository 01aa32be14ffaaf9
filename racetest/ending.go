package racetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/raceproof/raceproof/racetest/internal/search"
	"github.com/raceproof/raceproof/racetest/internal/statement"
)

// endings looks at what actors that have ended have left behind.
func (s *schedule) endings() error {
	s.rollbacks()
	for _, a := range s.actors {
		s.mu.Lock()
		look := a.state == ended && !a.looked
		a.looked = a.looked || look
		s.mu.Unlock()
		if !look {
			continue
		}
		if a.fault != nil {
			return a.fault
		}
		if left := s.leftOpen(a); left != "" {
			return &Failure{Kind: Leak, Actor: a.name, Err: fmt.Errorf("%s has ended and left %s", a.name, left)}
		}
	}
	return nil
}

// rollbacks waits for the transactions whose context has ended: database/sql rolls them back in goroutines of its own, and
// nobody is to be faster or slower than that. It comes to it when no statement of the transaction is on its way.
func (s *schedule) rollbacks() {
	if s.env.ctx.Err() != nil {
		return
	}
	s.awaitFor(comesBack, func() bool {
		for _, a := range s.actors {
			for _, c := range a.sessions {
				if c.inTx && c.began.Err() != nil && c != a.at && !c.conn.Closed() {
					return false
				}
			}
		}
		return true
	})
}

// leftOpen names a transaction or rows that nobody is going to close. Those whose context has ended are closed by
// database/sql, which may take a moment.
func (s *schedule) leftOpen(a *actor) string {
	s.mu.Lock()
	sessions, steps := a.sessions, s.steps
	s.mu.Unlock()
	for _, c := range sessions {
		open := func() bool { return c.inTx && !c.conn.Closed() }
		if s.stays(open, func() context.Context { return c.began }) {
			return "a transaction open" + s.since(a, c)
		}
	}
	for _, st := range steps {
		if st.actor == a && s.stays(st.call.Seen.Open, func() context.Context { return st.ctx }) {
			return "rows open, of " + written(st.call)
		}
	}
	return ""
}

// stays tells whether something is open and stays so.
func (s *schedule) stays(open func() bool, of func() context.Context) bool {
	s.mu.Lock()
	is, ctx := open(), of()
	s.mu.Unlock()
	if !is || ctx == nil || ctx.Err() == nil {
		return is
	}
	return !s.await(func() bool { return !open() })
}

// since names the statement that began the transaction.
func (s *schedule) since(a *actor, c *session) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.steps) - 1; i >= 0; i-- {
		if st := s.steps[i]; st.session == c && st.info.Does == statement.Begins {
			return fmt.Sprintf(", begun by step %d", i+1)
		}
	}
	return ""
}

// lastOn names the last statement on a connection that the actor keeps.
func (s *schedule) lastOn(a *actor) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.steps) - 1; i >= 0; i-- {
		if st := s.steps[i]; st.actor == a && !st.session.conn.Closed() {
			return fmt.Sprintf(", last used by step %d: %s", i+1, written(st.call))
		}
	}
	return ""
}

// How long it may take that actors end that were told to, and that connections come back that nobody needs any more.
const (
	lastWords = 5 * time.Second
	comesBack = time.Second
)

// givenUp ends a schedule because of an error, and says in it who has not ended for all that.
func (s *schedule) givenUp(err error) error {
	var diverged *search.Diverged
	if errors.As(err, &diverged) {
		instead := s.instead(diverged)
		if f := s.hasFailed(s.actors[diverged.Actor]); f != nil && diverged.Got == "" {
			err = f // which is why
		} else {
			err = s.env.notDeterministic(diverged, instead)
		}
	}
	left := s.abandon()
	if left == nil {
		return err
	}
	remains := errors.New(strings.Join(left, " and ") + " did not end when told to: what it runs in is left behind")
	var f *Failure
	if !errors.As(err, &f) {
		return &Failure{Kind: NoEnd, Actor: left[0], Err: fmt.Errorf("%w\n%w", err, remains)}
	}
	f.Err = fmt.Errorf("%w\n%w", f.Err, remains)
	return f
}

// abandon ends a schedule that is given up. Statements that have not been sent yet get an error; those that the database
// executes are ended there. It returns the actors that do not end.
func (s *schedule) abandon() (left []string) {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	close(s.done)
	s.cancel()
	for _, a := range s.actors {
		_ = a.db.Close() // who waits for a connection of his own gets an error
	}
	gone := func() bool {
		left = nil
		for _, a := range s.actors {
			if a.state != idle && a.state != ended {
				left = append(left, a.name)
			}
		}
		return left == nil
	}
	if s.awaitFor(lastWords/2, gone) {
		return nil
	}
	for _, a := range s.actors {
		s.mu.Lock()
		sessions := a.sessions
		s.mu.Unlock()
		for _, c := range sessions {
			s.env.database.End(context.WithoutCancel(s.env.ctx), s.env.admin, c.id)
		}
	}
	s.awaitFor(lastWords/2, gone)
	return left
}

// close closes the connections. It is the failure of an actor that keeps one.
func (s *schedule) close() *Failure {
	defer s.cancel()
	var keeper *Failure
	for _, a := range s.actors {
		_ = a.db.Close()
		if !s.awaitFor(comesBack, func() bool { return a.db.Stats().OpenConnections == 0 }) && keeper == nil {
			keeper = &Failure{Kind: Leak, Actor: a.name, Err: fmt.Errorf("%s has ended and keeps a connection (a *sql.Conn, a *sql.Tx or *sql.Rows that was not closed)%s", a.name, s.lastOn(a))}
		}
		s.mu.Lock()
		sessions := a.sessions
		s.mu.Unlock()
		for _, c := range sessions {
			_ = c.conn.Close()
		}
	}
	return keeper
}
