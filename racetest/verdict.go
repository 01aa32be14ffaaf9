package racetest

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/raceproof/raceproof/racetest/internal/search"
	"github.com/raceproof/raceproof/racetest/internal/waits"
)

// located puts into a failure in which schedule it came about.
func (e *environment) located(f *Failure, s *schedule, decisions []search.Decision) *Failure {
	f.Actors, f.Steps = e.names, s.timeline()
	f.Token, f.Switches = e.token(decisions), search.Switches(decisions)
	return f
}

// check calls Check. One that does not return, because it calls t.FailNow or panics, takes the test with it: what it has seen
// is shown before.
func (e *environment) check(s *schedule, decisions []search.Decision, returned map[string]error) error {
	came := false
	defer func() {
		if !came && e.gone != nil {
			f := e.located(&Failure{Kind: Invariant, Err: errors.New("the scenario's Check has not returned")}, s, decisions)
			f.Schedules, f.about = e.result.Schedules, e.about
			e.gone(f)
		}
	}()
	err := e.Check(e.ctx, e.admin, returned)
	came = true
	return err
}

// unreachable tells whether an error says nothing about what is in the database: the connection was lost, or the database
// cannot be reached any more.
func (e *environment) unreachable(err error) bool {
	var network *net.OpError
	return e.ctx.Err() == nil && (errors.As(err, &network) || errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, io.ErrUnexpectedEOF) || e.admin.PingContext(e.ctx) != nil)
}

// returned returns what the actors have, or the failure of one that may not.
func (s *schedule) returned() (map[string]error, error) {
	all := map[string]error{}
	for _, a := range s.actors {
		all[a.name] = a.err
		if f := s.hasFailed(a); f != nil {
			return nil, f
		}
	}
	return all, nil
}

// hasFailed returns the failure of an actor that has returned an error that it may not, or nil.
func (s *schedule) hasFailed(a *actor) *Failure {
	if a.err == nil || s.env.MayFail != nil && s.env.MayFail(a.name, a.err) {
		return nil
	}
	busy, stale := waits.Busy(a.err)
	if waits.Deadlock(a.err) || busy && !stale && s.knots > 0 {
		return &Failure{Kind: Deadlock, Actor: a.name, Err: fmt.Errorf("deadlock: %s; %s has failed: %w", strings.Join(s.knot, ", "), a.name, a.err)}
	}
	return &Failure{Kind: ActorFailed, Actor: a.name, Err: fmt.Errorf("%s has failed: %w", a.name, a.err)}
}

// notDeterministic is the failure of an actor that does something else than before.
func (e *environment) notDeterministic(d *search.Diverged, instead error) *Failure {
	before := "had ended"
	if d.Want != "" {
		before = fmt.Sprintf("was about to send %q", d.Want)
	}
	return &Failure{Kind: NotDeterministic, Actor: e.names[d.Actor], Err: fmt.Errorf(
		"%s is not deterministic: under the same schedule it %s at choice %d, and now it %w",
		e.names[d.Actor], before, d.Step+1, instead)}
}

// instead says where the actor of a schedule that has gone another way stands.
func (s *schedule) instead(d *search.Diverged) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch a := s.actors[d.Actor]; {
	case d.Got != "":
		return fmt.Errorf("is about to send %q", d.Got)
	case a.state == ended && a.err != nil:
		return fmt.Errorf("has ended: %w", a.err)
	case a.state == ended:
		return errors.New("has ended")
	default:
		return errors.New("waits for " + names(a.waitsFor))
	}
}

// report writes the file that was asked for.
func (e *environment) report(f *Failure, err error) error {
	var p page
	switch {
	case e.Report == "":
		return nil
	case f != nil:
		p = page{Actors: f.Actors, Steps: f.Steps, Verdict: f.what(), Kind: f.Kind, Token: f.Token}
	case err == nil && e.replayed:
		p = page{Actors: e.names, Steps: e.last.timeline(), Token: e.token(e.decisions)}
	default:
		return nil
	}
	p.Summary = e.result.summary()
	file, err := os.Create(e.Report)
	if err != nil {
		return fmt.Errorf("the scenario's Report: %w", err)
	}
	if err := errors.Join(p.write(file), file.Close()); err != nil {
		return fmt.Errorf("the scenario's Report: %w", err)
	}
	return nil
}
