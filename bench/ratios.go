package main

import (
	"math"
	"slices"
	"time"
)

// find returns the entrant with the key, nil if there is none.
func (r *race) find(key string) *entrant {
	if i := slices.IndexFunc(r.entrants, func(e *entrant) bool { return e.key == key }); i >= 0 {
		return r.entrants[i]
	}
	return nil
}

// hand returns the fastest of those by hand, by their medians: the fastest of each turn would mostly be the luckiest.
// Those that were left out of some rounds do not count.
func (r *race) hand() (best *entrant) {
	most := 0
	for _, e := range r.entrants {
		most = max(most, len(e.samples))
	}
	for _, e := range r.family(handFamily) {
		if len(e.samples) == most && (best == nil || e.speed() > best.speed()) {
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

// wait returns the median of what f makes of an entrant's samples.
func (e *entrant) wait(f func(sample) time.Duration) time.Duration {
	return time.Duration(e.median(func(s sample) float64 { return float64(f(s)) }))
}

// ratios returns how many times as fast as another one the entrant was, turn by turn.
func (e *entrant) ratios(other *entrant) []float64 {
	return e.compare(other, func(mine, its sample) float64 { return mine.perSecond / its.perSecond })
}

// compare returns what f makes of the samples of two entrants, of as many turns as both had and made updates in.
func (e *entrant) compare(other *entrant, f func(mine, its sample) float64) (values []float64) {
	for i := range min(len(e.samples), len(other.samples)) {
		if value := f(e.samples[i], other.samples[i]); !math.IsInf(value, 0) && !math.IsNaN(value) {
			values = append(values, value)
		}
	}
	return values
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
