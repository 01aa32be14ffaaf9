package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// rows is the number of rows that the one caller goes round.
const rows = 10_000

// warmUp is the number of updates before the first that is timed: they open the connection and prepare statements.
const warmUp = 200

// A sample is what one run of a contender comes to.
type sample struct {
	perSecond float64 // updates
	allocs    float64 // allocations on Go's heap for an update
	bytes     float64 // of those
}

// An entrant is a contender in one setting, at work.
type entrant struct {
	contender
	*client
	rows         int
	acknowledged int // updates since the database was made
	samples      []sample
}

// enter starts a contender on a database of its own below dir.
func enter(c contender, dir string, rows int, s setting) (*entrant, error) {
	cl, err := c.start(dir, rows, s)
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

// measure updates for as long as d, adds a sample, and checks that all updates are in the table.
func (e *entrant) measure(ctx context.Context, d time.Duration) error {
	runtime.GC() // the garbage of the contender before is not this one's
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
	return e.verify()
}

func (e *entrant) verify() error {
	if err := e.check(e.acknowledged); err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	return nil
}

// A race is the contenders in one setting.
type race struct {
	setting  setting
	entrants []*entrant // in the order of the tables
}

// prepare starts every contender in every setting and warms it up.
func prepare(dir string) (races []*race, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll(races))
		}
	}()
	for _, s := range settings() {
		r := &race{setting: s}
		races = append(races, r)
		for _, c := range contenders() {
			e, err := enter(c, dir, rows, s)
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

// round runs every contender once. Which one begins changes from round to round, so that none always runs after the
// same other one.
func (r *race) round(number int, d time.Duration) error {
	for i := range r.entrants {
		e := r.entrants[(i+number)%len(r.entrants)]
		if err := r.do(func(ctx context.Context) error { return e.measure(ctx, d) }); err != nil {
			return err
		}
	}
	return nil
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
	for _, r := range races {
		for _, e := range r.entrants {
			err = errors.Join(err, e.db.Close())
		}
	}
	return err
}

// find returns the entrant with the key.
func (r *race) find(key string) *entrant {
	return r.entrants[slices.IndexFunc(r.entrants, func(e *entrant) bool { return e.key == key })]
}

// median returns the median of what f makes of an entrant's samples.
func (e *entrant) median(f func(sample) float64) float64 {
	values := make([]float64, len(e.samples))
	for i, s := range e.samples {
		values[i] = f(s)
	}
	return median(values)
}

// ratios returns how many times as fast as another contender ours was, round by round.
func (r *race) ratios(other string) []float64 {
	a, b := r.find(ours).samples, r.find(other).samples
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i].perSecond / b[i].perSecond
	}
	return ratios
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}
