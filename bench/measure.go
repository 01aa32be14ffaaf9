package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// rows is the number of rows that the one caller goes round.
const rows = 10_000

// warmUp is the number of updates before the first that is timed: they open the connection and prepare statements.
const warmUp = 20

// turns is the number of parts of a round, in each of which every contender runs: what slows the machine down, or its
// disk, for a hundredth of a second then hits all of them, or is one turn of many.
const turns = 10

// resume is the number of updates before each turn that are not timed: what a contender lets go when it is not used for
// a while must not count for more because turns are short.
const resume = 2

// A sample is what one turn of a contender comes to.
type sample struct {
	perSecond float64 // updates
	allocs    float64 // allocations on Go's heap for an update
	bytes     float64 // of those

	p50, p99, longest time.Duration // how long callers waited, if there were several
	refused           int           // updates that were given up because of conflicts
}

// An entrant is a contender in one race, at work.
type entrant struct {
	contender
	*client // which several races can share
	rows    int
	samples []sample
	out     bool // of the race, because others are much faster
}

// enter starts a contender on a database of its own.
func enter(c contender, h *host, rows int, s setting) (*entrant, error) {
	cl, err := c.start(h, rows, s)
	if err != nil {
		return nil, err
	}
	return &entrant{contender: c, client: cl, rows: rows}, nil
}

// next updates the row whose turn it is. With one caller it is known what the row must be afterwards, and that it is
// returned as it is then is part of the job.
func (e *entrant) next(ctx context.Context) error {
	id, updates := int64(e.acknowledged%e.rows)+1, int64(e.acknowledged/e.rows)+1
	p, err := e.update(ctx, id)
	if err != nil {
		return fmt.Errorf("%s: update player %d: %w", e.name, id, err)
	}
	e.acknowledged++
	if p.ID != id || p.Name == "" || p.Score != updates*points || p.Version != updates {
		return fmt.Errorf("%s: update player %d: %+v was returned after %d updates", e.name, id, p, updates)
	}
	return nil
}

// repeat makes a number of updates, and checks that all are in the table.
func (e *entrant) repeat(ctx context.Context, n int) error {
	for range n {
		if err := e.next(ctx); err != nil {
			return err
		}
	}
	return e.verify()
}

// turn updates for as long as d, and adds a sample.
func (e *entrant) turn(ctx context.Context, d time.Duration) error {
	for range resume {
		if err := e.next(ctx); err != nil {
			return err
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	first, start := e.acknowledged, time.Now()
	elapsed := time.Duration(0)
	for elapsed < d {
		if err := e.next(ctx); err != nil {
			return err
		}
		elapsed = time.Since(start)
	}
	runtime.ReadMemStats(&after)
	n := float64(e.acknowledged - first)
	e.samples = append(e.samples, sample{
		perSecond: n / elapsed.Seconds(),
		allocs:    float64(after.Mallocs-before.Mallocs) / n,
		bytes:     float64(after.TotalAlloc-before.TotalAlloc) / n,
	})
	return nil
}

func (e *entrant) verify() error {
	if err := e.check(); err != nil {
		return fmt.Errorf("%s: %w", e.label(), err)
	}
	return nil
}

// A race is the contenders in one setting with one workload.
type race struct {
	setting  setting
	workload workload
	host     *host
	entrants []*entrant // in the order of the tables
}

// prepare starts every contender with one caller in every setting of a host's database, and warms it up.
func prepare(h *host, long bool) (races []*race, err error) {
	for _, s := range settings(h.database, long) {
		r := &race{setting: s, workload: oneCaller, host: h}
		races = append(races, r)
		for _, c := range contenders(h.database) {
			e, err := enter(c, h, rows, s)
			if err != nil {
				return races, err
			}
			r.entrants = append(r.entrants, e)
			if err := r.do(func(ctx context.Context) error { return e.repeat(ctx, warmUp) }); err != nil {
				return races, err
			}
		}
	}
	return races, nil
}

// round runs every contender with one caller for as long as d, in turns, and checks that all updates are in its table. Which one begins
// changes from turn to turn, and so does the direction: none always runs after the same other one.
func (r *race) round(number int, d time.Duration) error {
	if err := r.host.ready(r.setting); err != nil {
		return err
	}
	runtime.GC() // the garbage of the race before is not this one's
	n := len(r.entrants)
	return r.do(func(ctx context.Context) error {
		for turn := range turns {
			for i := range n {
				i = (i + number + turn) % n
				if turn%2 == 1 {
					i = n - 1 - i
				}
				if err := r.entrants[i].turn(ctx, d/turns); err != nil {
					return err
				}
			}
		}
		for _, e := range r.entrants {
			if err := e.verify(); err != nil {
				return err
			}
		}
		return nil
	})
}

// do calls f with a context of the setting.
func (r *race) do(f func(context.Context) error) error {
	ctx, cancel := r.setting.context()
	defer cancel()
	if err := f(ctx); err != nil {
		return fmt.Errorf("%s: %w", r.setting, err)
	}
	return nil
}

func closeAll(races []*race) (err error) {
	closed := map[*client]bool{}
	for _, r := range races {
		for _, e := range r.entrants {
			if !closed[e.client] {
				closed[e.client], err = true, errors.Join(err, e.close())
			}
		}
	}
	return err
}
