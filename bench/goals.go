package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"time"
)

// A goal is what ours, wrapped by package serial, is to reach in a setting, compared with what is fastest by hand there.
// Zero is no goal.
type goal struct {
	system string
	pattern
	one, hot64, hot256, spread float64 // how many times as fast
	wait                       float64 // the p99 of 256 callers is to be this part of that by hand, turned over
	gorm                       float64 // how many times as fast as GORM with one caller
}

var goals = []goal{
	{"SQLite FULL", atomicPattern, 0.95, 40, 120, 15, 15, 2},
	{"SQLite FULL", optimisticPattern, 0.95, 0, 0, 0, 15, 2},
	{"SQLite FULL", lockPattern, 0.95, 28, 40, 25, 15, 2},
	{"SQLite NORMAL", atomicPattern, 0.95, 20, 24, 2, 4, 2},
	{"SQLite NORMAL", optimisticPattern, 0.95, 0, 0, 0, 4, 2},
	{"SQLite NORMAL", lockPattern, 1.7, 35, 10, 3.5, 4, 2},
	{"PostgreSQL", atomicPattern, 0.95, 30, 100, 4, 20, 0},
	{"PostgreSQL", optimisticPattern, 0.95, 0, 0, 0, 20, 0},
	{"PostgreSQL", lockPattern, 0.95, 30, 90, 4, 20, 0},
	{"MariaDB", atomicPattern, 0.95, 10, 40, 3, 20, 0},
	{"MariaDB", optimisticPattern, 0.95, 0, 0, 0, 20, 0},
	{"MariaDB", lockPattern, 0.95, 20, 80, 4, 20, 0},
}

// Those of a turn that goals are about.
func p99(s sample) time.Duration { return s.p99 }

// verdicts writes the table of the goals, and how many are met.
func (found *results) verdicts(w io.Writer) {
	heading(w, 2, []string{"Database", "Pattern", "one caller", "one row, 64", "one row, 256", "10,000 rows, 64",
		"p99, one row, 256", "one caller, to GORM"})
	all, met := 0, 0
	for _, g := range goals {
		cells := []string{g.system, string(g.pattern)}
		measured := false
		for _, one := range g.parts(found) {
			if one.ratio > 0 {
				measured = true
				if one.goal > 0 {
					all++
				}
				if one.goal > 0 && reached(one.ratio, one.goal) {
					met++
				}
			}
			cells = append(cells, one.String())
		}
		if measured {
			row(w, cells)
		}
	}
	fmt.Fprintf(w, "\n%d of %d goals are met.\n", met, all)
}

// A verdict is a ratio and its goal. It is shown in bold type if the goal is missed.
type verdict struct {
	ratio, goal float64
	below       bool // the ratio is that of something that is to be small, turned over
}

func (v verdict) String() string {
	if v.ratio <= 0 {
		return ""
	}
	text, least := figure(v.ratio), fmt.Sprintf(" (≥ %v)", v.goal)
	if v.below {
		text, least = "1/"+text, fmt.Sprintf(" (≤ 1/%v)", v.goal)
	}
	switch {
	case v.goal == 0:
		return text
	case !reached(v.ratio, v.goal):
		return "**" + text + " missed**" + least
	}
	return text + least
}

// figure shows a ratio, as exactly as it is compared.
func figure(ratio float64) string {
	if ratio < 10 {
		return fmt.Sprintf("%.2f", ratio)
	}
	return fmt.Sprintf("%.0f", ratio)
}

// reached compares a ratio with a goal as it is printed: what reads 0.95 meets 0.95.
func reached(ratio, goal float64) bool {
	if ratio < 10 {
		return math.Round(100*ratio) >= math.Round(100*goal)
	}
	return math.Round(ratio) >= math.Round(goal)
}

// parts returns a verdict for each column of the table.
func (g goal) parts(found *results) []verdict {
	faster := func(races []*race, w workload, key string) float64 {
		r := g.race(races, w)
		if r == nil {
			return 0
		}
		other := r.hand()
		if key != "" {
			other = r.find(key)
		}
		return median(r.find(oursSerial).ratios(other))
	}
	wait := 0.0
	if r := g.race(found.many, busiest); r != nil {
		wait = median(r.find(oursSerial).compare(r.hand(), func(mine, its sample) float64 { return float64(its.p99) / float64(mine.p99) }))
	}
	return []verdict{
		{faster(found.one, oneCaller, ""), g.one, false},
		{faster(found.many, workload{hotRow, 64}, ""), g.hot64, false},
		{faster(found.many, busiest, ""), g.hot256, false},
		{faster(found.many, workload{uniform, 64}, ""), g.spread, false},
		{wait, g.wait, true},
		{faster(found.one, oneCaller, orm), g.gorm, false},
	}
}

// race returns the one that the goal is about, nil if it was not run.
func (g goal) race(races []*race, w workload) *race {
	for _, r := range races {
		if s := r.setting; s.system() == g.system && r.workload == w && slices.ContainsFunc(systems(s.database), func(system setting) bool {
			return r.is(system, g.pattern)
		}) {
			return r
		}
	}
	return nil
}

// is tells whether the race is one of a system and a pattern.
func (r *race) is(system setting, p pattern) bool {
	system.pattern = p
	return r.setting == system
}
