package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raceproof/raceproof"
)

// The phases of a turn. What is done in the first one is not counted: connections open, statements are prepared, and
// queues fill.
const (
	beforehand int32 = iota
	counted
	over
)

// A caller updates in a closed loop: as soon as one update is over, the next one begins.
type caller struct {
	acknowledged int             // updates in the turn
	counted      atomic.Int64    // of those, the ones that ended while it was counted
	refused      int             // updates that were given up because of conflicts
	waits        []time.Duration // of all that ended after the first phase, those that were given up included
	err          error
}

// A crew are callers with what they have noted, whose memory is used again for the next turn.
type crew []*caller

// take returns some callers who have noted nothing.
func (c *crew) take(n int) []*caller {
	for len(*c) < n {
		*c = append(*c, &caller{waits: make([]time.Duration, 0, 1024)})
	}
	for _, one := range *c {
		one.acknowledged, one.refused, one.waits, one.err = 0, 0, one.waits[:0], nil
		one.counted.Store(0)
	}
	return (*c)[:n]
}

// enough is how many updates a turn is to see, so that a disk that hangs for a moment does not make its speed zero. A
// turn becomes longer for it, but not more than so many times.
const enough, longer = 20, 6

// contest lets all callers of a workload update for as long as d, and returns what that comes to. An update that is
// on its way when the turn is over is waited for, but not counted as a part of the speed.
func (e *entrant) contest(w workload, d time.Duration, crew *crew) (s sample, err error) {
	if err := e.wake(min(e.pool, w.callers)); err != nil {
		return s, fmt.Errorf("%s: connect: %w", e.label(), err)
	}
	callers := crew.take(w.callers)
	e.over.Store(false)
	var phase atomic.Int32
	var wg sync.WaitGroup
	for i, c := range callers {
		wg.Go(func() { c.run(e, w.choice(i, e.rows), &phase) })
	}
	time.Sleep(d / 4)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	phase.Store(counted)
	time.Sleep(d)
	for n := 1; n < longer && total(callers) < enough; n++ {
		time.Sleep(d)
	}
	phase.Store(over)
	elapsed := time.Since(start)
	e.over.Store(true)
	runtime.ReadMemStats(&after)
	wg.Wait()
	if n := float64(total(callers)); n > 0 {
		s.perSecond = n / elapsed.Seconds()
		s.allocs, s.bytes = float64(after.Mallocs-before.Mallocs)/n, float64(after.TotalAlloc-before.TotalAlloc)/n
	}
	if err := e.collect(callers, &s); err != nil {
		return s, fmt.Errorf("%s: %w", e.label(), err)
	}
	err = e.verify()
	e.sleep()
	return s, err
}

// collect puts together what the callers have noted.
func (e *entrant) collect(callers []*caller, s *sample) (err error) {
	var waits []time.Duration
	for _, c := range callers {
		e.acknowledged, s.refused = e.acknowledged+c.acknowledged, s.refused+c.refused
		waits, err = append(waits, c.waits...), errors.Join(err, c.err)
	}
	slices.Sort(waits)
	s.p50, s.p99, s.longest = at(waits, 0.5), at(waits, 0.99), at(waits, 1)
	return err
}

// total returns how many updates of all callers were counted.
func total(callers []*caller) (n int64) {
	for _, c := range callers {
		n += c.counted.Load()
	}
	return n
}

// run updates until the turn is over.
func (c *caller) run(e *entrant, choose func() int64, phase *atomic.Int32) {
	ctx, cancel := e.setting.context()
	defer cancel()
	for phase.Load() != over {
		id := choose()
		start := time.Now()
		p, err := e.update(ctx, id)
		wait := time.Since(start)
		now := phase.Load()
		switch {
		case err == nil:
			c.acknowledged++
			if err := p.plausible(id); err != nil {
				c.err = errors.Join(c.err, err)
				return
			}
			if now == counted {
				c.counted.Add(1)
			}
		case errors.Is(err, raceproof.ErrConflict):
			c.refused++
		case !errors.Is(err, errOver):
			c.err = fmt.Errorf("update player %d: %w", id, err)
			return
		}
		if now != beforehand {
			c.waits = append(c.waits, wait)
		}
	}
}

// plausible returns an error if the row cannot be what an update of this player has returned.
func (p Player) plausible(id int64) error {
	if p.ID != id || p.Name == "" || p.Version < 1 || p.Score != p.Version*points {
		return fmt.Errorf("update player %d: %+v was returned", id, p)
	}
	return nil
}

// rush lets many callers come to one row at once, with one update each, and returns when the last one has its answer.
// Who has to try again after the limit gives up.
func (e *entrant) rush(callers int, limit time.Duration) (acknowledged int, elapsed time.Duration, err error) {
	if err := e.wake(min(e.pool, callers)); err != nil {
		return 0, 0, fmt.Errorf("%s: connect: %w", e.label(), err)
	}
	var done atomic.Int64
	var wg sync.WaitGroup
	errs, begin := make([]error, callers), make(chan struct{})
	e.over.Store(false)
	for i := range callers {
		wg.Go(func() {
			ctx, cancel := e.setting.context()
			defer cancel()
			<-begin
			p, err := e.update(ctx, 1)
			if err == nil {
				done.Add(1)
				err = p.plausible(1)
			}
			if !errors.Is(err, errOver) && !errors.Is(err, raceproof.ErrConflict) {
				errs[i] = err
			}
		})
	}
	start := time.Now()
	end := time.AfterFunc(limit, func() { e.over.Store(true) })
	defer end.Stop()
	close(begin)
	wg.Wait()
	elapsed = time.Since(start)
	e.acknowledged += int(done.Load())
	if err := errors.Join(errs...); err != nil {
		return 0, 0, fmt.Errorf("%s: %w", e.label(), err)
	}
	err = e.verify()
	e.sleep()
	return int(done.Load()), elapsed, err
}

// wake lets the pool keep connections, and opens some, all at the same time.
func (cl *client) wake(connections int) error {
	if cl.rest == nil {
		cl.db.SetMaxIdleConns(cl.pool)
	}
	var wg sync.WaitGroup
	open, errs := make([]*sql.Conn, connections), make([]error, connections)
	for i := range connections {
		wg.Go(func() { open[i], errs[i] = cl.patientConn() })
	}
	wg.Wait()
	for i, c := range open {
		if errs[i] == nil {
			errs[i] = c.Close()
		}
	}
	return errors.Join(errs...)
}

// patientConn connects when the server has done with the connections of whoever had the turn before, which it closes
// when it comes to that.
func (cl *client) patientConn() (*sql.Conn, error) {
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		c, err := cl.db.Conn(context.Background())
		if err == nil || time.Since(start) > 10*time.Second {
			return c, err
		}
	}
}

// sleep gives all connections back, also those that are returned to the pool later: a server has not enough for all
// contenders at once.
func (cl *client) sleep() {
	if cl.rest != nil {
		cl.rest()
		return
	}
	cl.db.SetMaxIdleConns(0)
}

// at returns the value that a part of sorted ones is not above.
func at(sorted []time.Duration, part float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(part*float64(len(sorted))), len(sorted)-1)]
}
