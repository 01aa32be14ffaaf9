package racetest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// The pauses between two questions to the database, who waits for a lock. A statement is mostly over before the first.
const (
	firstPause = time.Millisecond
	lastPause  = 20 * time.Millisecond
)

// settle waits until no actor runs: each waits for its turn, has ended, or waits in the database for another one. That it
// waits there is what the database says, and says again while nothing else happens.
func (s *schedule) settle() error {
	pause, seen, before := firstPause, -1, map[*actor][]string(nil)
	var since time.Time
	for {
		s.mu.Lock()
		fault, changes := s.fault, s.changes
		runs, holds := s.inFlight()
		s.mu.Unlock()
		switch {
		case fault != nil:
			return fault
		case len(runs)+len(holds) == 0:
			return s.endings()
		case changes != seen:
			pause, seen, before, since = firstPause, changes, nil, time.Now()
		case s.env.ctx.Err() != nil:
			return context.Cause(s.env.ctx)
		case time.Since(since) > s.env.Patience:
			return s.stuck(append(runs, holds...))
		}
		if len(runs) > 0 && before == nil && s.sleep(pause) {
			continue
		}
		now, err := s.ask(append(runs, holds...))
		if err != nil {
			return err
		}
		if before != nil && maps.EqualFunc(now, before, slices.Equal) && s.confirm(changes, now) {
			return s.endings()
		}
		before = now
		if now == nil {
			pause = min(2*pause, lastPause)
			if len(runs) == 0 {
				s.sleep(pause)
			}
		}
	}
}

// inFlight returns the actors that run, and those that were found waiting in the database. The caller holds the mutex.
func (s *schedule) inFlight() (runs, holds []*actor) {
	for _, a := range s.actors {
		switch a.state {
		case running:
			runs = append(runs, a)
		case blocked:
			holds = append(holds, a)
		}
	}
	return runs, holds
}

// sleep waits for a change, and returns false if there is none for so long.
func (s *schedule) sleep(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-s.changed:
		return true
	case <-t.C:
		return false
	}
}

// await waits for a condition, and returns false if it does not come for as long as the scenario has patience.
func (s *schedule) await(condition func() bool) bool {
	return s.env.ctx.Err() == nil && s.awaitFor(s.env.Patience, condition)
}

func (s *schedule) awaitFor(d time.Duration, condition func() bool) bool {
	for deadline := time.Now().Add(d); ; {
		s.mu.Lock()
		is := condition()
		s.mu.Unlock()
		if is {
			return true
		}
		if !time.Now().Before(deadline) {
			return false
		}
		s.sleep(time.Millisecond)
	}
}

// ask returns for whom each of the actors waits, nil if one of them does not, or waits only for somebody who is no actor:
// that ends by itself.
func (s *schedule) ask(all []*actor) (map[*actor][]string, error) {
	owners, ids := map[int64]*actor{}, []int64(nil)
	s.mu.Lock()
	for _, a := range s.actors {
		for _, c := range a.sessions {
			owners[c.id] = a
			if slices.Contains(all, a) {
				ids = append(ids, c.id)
			}
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(s.env.ctx, max(s.env.Patience, lastWords))
	defer cancel()
	waiting, err := s.env.database.Ask(ctx, s.env.admin, ids)
	if err != nil {
		return nil, err
	}
	found := map[*actor][]string{}
	for id, others := range waiting {
		a := owners[id]
		for _, other := range others {
			if o := owners[other]; o != nil && !slices.Contains(found[a], o.name) {
				found[a] = append(found[a], o.name)
			}
		}
		if others == nil {
			s.mu.Lock()
			found[a] = s.holders(a)
			if a.state == blocked { // who has come later does not hold it
				found[a] = slices.DeleteFunc(found[a], func(other string) bool { return !slices.Contains(a.waitsFor, other) })
			}
			if len(found[a]) == 0 {
				found[a] = a.waitsFor
			}
			s.mu.Unlock()
		}
	}
	for _, a := range all {
		if found[a] == nil {
			return nil, nil
		}
		slices.Sort(found[a])
	}
	return found, nil
}

// confirm takes note of who waits, unless something has happened meanwhile.
func (s *schedule) confirm(changes int, found map[*actor][]string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.changes != changes {
		return false
	}
	for a, others := range found {
		a.state, a.waitsFor = blocked, others
		s.chance = s.chance || s.env.database.Fickle
		if a.step != nil && !a.step.returned { // else it waits while it prepares one
			a.step.blocked, a.step.waitsFor = true, others
		}
	}
	return true
}

// stuck is the failure of actors that come to no statement and to no end.
func (s *schedule) stuck(all []*actor) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := all[0]
	err := fmt.Errorf("%s has come neither to a statement nor to its end for %s", a.name, s.env.Patience)
	if a.step != nil && !a.step.returned {
		err = fmt.Errorf("%s: the database has not answered, and says not that it waits for another actor: %s", err, written(a.step.call))
	} else if a.step != nil {
		err = fmt.Errorf("%s since %s", err, written(a.step.call))
	}
	return &Failure{Kind: NoEnd, Actor: a.name, Err: fmt.Errorf("%w\n%s", err, stack(a.goroutine))}
}
