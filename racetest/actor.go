package racetest

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/raceproof/raceproof/racetest/internal/search"
	"github.com/raceproof/raceproof/racetest/internal/tap"
)

// A state is where an actor stands.
type state int

const (
	idle    state = iota // it was not called yet
	running              // its code runs, or the database executes its statement
	parked               // it is about to send a statement, and waits for its turn
	waiting              // its statement was told that the database is busy, and is to be tried again
	blocked              // its statement waits in the database for a lock
	ended
)

// An actor is one in one schedule. What is in it is guarded by the schedule's mutex.
type actor struct {
	name     string
	index    int
	run      func(context.Context, *sql.DB) error
	db       *sql.DB
	sessions []*session

	goroutine []byte // the one it was called in
	state     state
	at        *session   // whose statement it sends, or is about to send
	turn      chan bool  // of the wait it is in. true: go on. false: what you wait for does not come
	order     int        // of those that wait, who began first
	op        *search.Op // what it is about to send, if it is parked
	step      *step      // the last it has sent
	waitsFor  []string   // who holds what it waits for, when it last waited
	polled    string     // the statement that was told that the database is busy, if that was the last
	err       error      // what it has returned
	fault     *Failure   // how it ended, if not by returning
	looked    bool       // at what it left behind
}

// start calls the actor's function in a goroutine of its own.
func (s *schedule) start(a *actor) {
	s.set(func() { a.state = running })
	go func() {
		s.set(func() { a.goroutine = goroutine() })
		returned := false
		var err error
		defer func() {
			var fault *Failure
			if p := recover(); p != nil {
				fault = &Failure{Kind: Panic, Actor: a.name, Err: fmt.Errorf("%s panicked: %v\n%s", a.name, p, debug.Stack())}
			} else if !returned {
				fault = &Failure{Kind: Panic, Actor: a.name, Err: fmt.Errorf("%s ended its goroutine instead of returning, as t.FailNow and require do", a.name)}
			}
			s.set(func() { a.state, a.err, a.fault = ended, err, fault })
		}()
		err = a.run(s.ctx, a.db)
		returned = true
	}()
}

// goroutine returns the name of the one it is called in.
func goroutine() []byte {
	var buffer [64]byte
	line := buffer[:runtime.Stack(buffer[:], false)]
	name, _, _ := bytes.Cut(line, []byte(" ["))
	return bytes.Clone(name)
}

// stack returns where a goroutine stands.
func stack(goroutine []byte) string {
	buffer := make([]byte, 1<<20)
	all := buffer[:runtime.Stack(buffer, true)]
	for _, one := range bytes.Split(all, []byte("\n\n")) {
		if bytes.HasPrefix(one, append(bytes.Clone(goroutine), " ["...)) {
			return string(one)
		}
	}
	return ""
}

// Opened takes note of a connection.
func (s *schedule) Opened(ctx context.Context, c *tap.Conn) error {
	session, err := s.env.open(ctx, c)
	if err != nil {
		return err
	}
	a := c.Owner.(*actor)
	c.State = session
	s.mu.Lock()
	defer s.mu.Unlock()
	a.sessions = append(a.sessions, session)
	return nil
}
