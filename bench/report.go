package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// The goals: how many times as fast as another contender ours is to be.
var goals = []struct {
	other string
	least float64
}{{hand, 0.95}, {orm, 2}}

// report writes the results as Markdown.
func report(w io.Writer, env environment, races []*race, rounds int, d time.Duration) {
	fmt.Fprintf(w, "%s\n\n%d rounds of %v for each contender. ", env, rounds, d)
	fmt.Fprint(w, "Speeds are updates per second and medians; a ratio is the median of the rounds' ratios, with the least "+
		"and the greatest of them in parentheses.\n\n")
	speeds(w, races)
	fmt.Fprint(w, "\nAllocations on Go's heap for one update, and their bytes:\n\n")
	memory(w, races)
	fmt.Fprint(w, "\n")
	verdicts(w, races)
}

// names returns the names of the contenders, for the head of a table.
func names() (names []string) {
	for _, c := range contenders() {
		names = append(names, c.name)
	}
	return names
}

func speeds(w io.Writer, races []*race) {
	head := append([]string{"Context", "Statement cache", "Pattern"}, names()...)
	table(w, 3, append(head, "ours / database/sql", "ours / GORM"), races, func(r *race) (cells []string) {
		for _, e := range r.entrants {
			cells = append(cells, thousands(e.median(func(s sample) float64 { return s.perSecond })))
		}
		for _, g := range goals {
			cells = append(cells, verdict(r.ratios(g.other), g.least))
		}
		return cells
	})
}

func memory(w io.Writer, races []*race) {
	head := append([]string{"Context", "Statement cache", "Pattern"}, names()...)
	table(w, 3, head, races, func(r *race) (cells []string) {
		for _, e := range r.entrants {
			allocs := e.median(func(s sample) float64 { return s.allocs })
			bytes := e.median(func(s sample) float64 { return s.bytes })
			cells = append(cells, fmt.Sprintf("%.0f (%s B)", allocs, thousands(bytes)))
		}
		return cells
	})
}

// table writes a line for every setting. The first left columns, which name the setting, are aligned to the left.
func table(w io.Writer, left int, head []string, races []*race, cells func(*race) []string) {
	line(w, head)
	rule := slices.Repeat([]string{"---:"}, len(head))
	copy(rule, slices.Repeat([]string{"---"}, left))
	line(w, rule)
	for _, r := range races {
		s := r.setting
		line(w, append([]string{
			choose(s.cancellable, "cancellable", "background"), choose(s.statementCache, "on", "off"), string(s.pattern),
		}, cells(r)...))
	}
}

func line(w io.Writer, cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

// met compares a ratio with a goal as it is printed: what reads 0.95 meets 0.95.
func met(ratio, least float64) bool { return math.Round(100*ratio) >= math.Round(100*least) }

// verdict shows a ratio, with its range, in bold type if it misses the goal.
func verdict(ratios []float64, least float64) string {
	m := median(ratios)
	shown := fmt.Sprintf("%.2f", m)
	if !met(m, least) {
		shown = "**" + shown + " missed**"
	}
	return fmt.Sprintf("%s (%.2f–%.2f)", shown, slices.Min(ratios), slices.Max(ratios))
}

// verdicts sums up, for every goal and pattern, in which settings it is met.
func verdicts(w io.Writer, races []*race) {
	line(w, []string{"Goal", "Pattern", "Met in", "Ratios"})
	line(w, slices.Repeat([]string{"---"}, 4))
	for _, g := range goals {
		for _, p := range []pattern{atomicPattern, optimisticPattern, lockPattern} {
			var shown []string
			number := 0
			for _, r := range races {
				if r.setting.pattern != p {
					continue
				}
				m := median(r.ratios(g.other))
				if met(m, g.least) {
					number++
				}
				shown = append(shown, fmt.Sprintf("%.2f", m))
			}
			line(w, []string{
				fmt.Sprintf("≥ %.2f of %s", g.least, races[0].find(g.other).name), string(p),
				fmt.Sprintf("%s %d of %d", choose(number == len(shown), "all:", "**not all:**"), number, len(shown)),
				strings.Join(shown, ", "),
			})
		}
	}
}

// thousands shows a number without its fraction, in groups of three digits.
func thousands(x float64) string {
	digits := fmt.Sprintf("%.0f", x)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
