package main

import (
	"math"
	"slices"
)

// A goal is how many times as fast as others ours is to be.
type goal struct {
	name      string
	others    []string // the fastest of them counts
	least     float64
	databases []database
}

var (
	byHand    = goal{"by hand", []string{hand, handSqlx}, 0.95, databases}
	twiceGORM = goal{"GORM", []string{orm}, 2, []database{sqlite}}
	goals     = []goal{byHand, twiceGORM}
)

// find returns the entrant with the key, nil if there is none.
func (r *race) find(key string) *entrant {
	if i := slices.IndexFunc(r.entrants, func(e *entrant) bool { return e.key == key }); i >= 0 {
		return r.entrants[i]
	}
	return nil
}

// fastest returns the fastest of some entrants, by their medians: the fastest of each turn would mostly be the
// luckiest.
func (r *race) fastest(keys ...string) (best *entrant) {
	for _, key := range keys {
		if e := r.find(key); e != nil && (best == nil || e.speed() > best.speed()) {
			best = e
		}
	}
	return best
}

func (e *entrant) speed() float64 { return e.median(func(s sample) float64 { return s.perSecond }) }

// median returns the median of what f makes of an entrant's samples.
func (e *entrant) median(f func(sample) float64) float64 {
	values := make([]float64, len(e.samples))
	for i, s := range e.samples {
		values[i] = f(s)
	}
	return median(values)
}

// ratios returns how many times as fast as another contender ours was, turn by turn.
func (r *race) ratios(other *entrant) []float64 {
	a, b := r.find(ours).samples, other.samples
	ratios := make([]float64, len(a))
	for i := range a {
		ratios[i] = a[i].perSecond / b[i].perSecond
	}
	return ratios
}

func median(values []float64) float64 { return quantile(values, 0.5) }

// quantile returns the value that a part of the values is below, between two values in proportion.
func quantile(values []float64, part float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	whole, fraction := math.Modf(part * float64(len(sorted)-1))
	low := sorted[int(whole)]
	high := sorted[min(int(whole)+1, len(sorted)-1)]
	return low + fraction*(high-low)
}

// met compares a ratio with a goal as it is printed: what reads 0.95 meets 0.95.
func met(ratio, least float64) bool { return math.Round(100*ratio) >= math.Round(100*least) }
