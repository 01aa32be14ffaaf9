package racetest

import (
	"context"
	"fmt"
	"time"

	"github.com/raceproof/raceproof/racetest/internal/tap"
)

// endings looks at what actors that have ended have left behind.
func (s *schedule) endings() error {
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
		if st := s.steps[i]; st.session == c && (st.call.Kind == tap.Begin || st.info.Does != 0) {
			return fmt.Sprintf(", begun by step %d", i+1)
		}
	}
	return ""
}

// How long it may take that actors end that were told to, and that connections come back that nobody needs any more.
const (
	lastWords = 5 * time.Second
	comesBack = time.Second
)

// abandon ends a schedule that is given up. Statements that have not been sent yet get an error; those that the database
// executes are ended there. It returns false if an actor does not end.
func (s *schedule) abandon() bool {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	close(s.done)
	s.cancel()
	gone := func() bool {
		for _, a := range s.actors {
			if a.state != idle && a.state != ended {
				return false
			}
		}
		return true
	}
	if s.awaitFor(lastWords/2, gone) {
		return true
	}
	for _, a := range s.actors {
		s.mu.Lock()
		sessions := a.sessions
		s.mu.Unlock()
		for _, c := range sessions {
			s.env.database.End(context.WithoutCancel(s.env.ctx), s.env.admin, c.id)
		}
	}
	return s.awaitFor(lastWords/2, gone)
}

// close closes the connections. It is the failure of an actor that keeps one.
func (s *schedule) close() *Failure {
	defer s.cancel()
	var keeper *Failure
	for _, a := range s.actors {
		_ = a.db.Close()
		if !s.awaitFor(comesBack, func() bool { return a.db.Stats().OpenConnections == 0 }) && keeper == nil {
			keeper = &Failure{Kind: Leak, Actor: a.name, Err: fmt.Errorf("%s has ended and keeps a connection (a *sql.Conn, a *sql.Tx or *sql.Rows that was not closed)", a.name)}
		}
		for _, c := range a.sessions {
			_ = c.conn.Close()
		}
	}
	return keeper
}
