package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// report writes the results as Markdown.
func report(w io.Writer, env environment, hosts []*host, races []*race, rounds int, d time.Duration) {
	fmt.Fprintf(w, "%s\n\n%d rounds of %v for each contender in each setting, in %d turns. ", env, rounds, d, turns)
	fmt.Fprint(w, "Speeds are updates per second and medians. A ratio is the median of the turns' ratios of raceproof to "+
		"another contender; in parentheses are the first and the third quartile.\n")
	for _, h := range hosts {
		fmt.Fprintf(w, "\n### %s\n\n", h.database.title())
		speeds(w, h.database, of(h.database, races))
	}
	fmt.Fprint(w, "\n### Allocations\n\nOn Go's heap for one update, with a context that can be cancelled, and their bytes:\n\n")
	memory(w, hosts, races)
	fmt.Fprint(w, "\n### The goals\n\n")
	verdicts(w, races)
}

// of returns the races on a database.
func of(d database, races []*race) []*race {
	return slices.DeleteFunc(slices.Clone(races), func(r *race) bool { return r.setting.database != d })
}

func speeds(w io.Writer, d database, races []*race) {
	head := d.columns()
	left := len(head)
	for _, c := range contenders(d) {
		head = append(head, c.name)
	}
	for _, c := range contenders(d)[3:] {
		head = append(head, "/ "+c.name)
	}
	head = slices.Insert(head, left+len(contenders(d)), "/ by hand", "/ fastest other")
	heading(w, left, head)
	for _, r := range races {
		cells := r.setting.cells()
		var others []string
		for _, e := range r.entrants {
			cells = append(cells, thousands(e.speed()))
			if e.key != ours {
				others = append(others, e.key)
			}
		}
		fastest := r.fastest(others...)
		cells = append(cells, byHand.verdict(r), fmt.Sprintf("%.2f (%s)", median(r.ratios(fastest)), fastest.name))
		for _, e := range r.entrants[3:] {
			cells = append(cells, fmt.Sprintf("%.2f", median(r.ratios(e))))
		}
		line(w, cells)
	}
}

// memory writes a line for each pattern on each database: what is allocated differs little between other settings.
func memory(w io.Writer, hosts []*host, races []*race) {
	all := contenders(postgres) // has them all
	head := []string{"Database", "Pattern"}
	for _, c := range all {
		head = append(head, c.name)
	}
	heading(w, 2, head)
	for _, h := range hosts {
		for _, p := range patterns {
			for _, r := range of(h.database, races) {
				if r.setting.pattern != p || !r.setting.cancellable {
					continue
				}
				cells := []string{h.database.title(), string(p)}
				for _, c := range all {
					cells = append(cells, r.find(c.key).memory())
				}
				line(w, cells)
				break
			}
		}
	}
}

// memory shows what an update of the entrant allocates.
func (e *entrant) memory() string {
	if e == nil {
		return ""
	}
	allocs := e.median(func(s sample) float64 { return s.allocs })
	bytes := e.median(func(s sample) float64 { return s.bytes })
	return fmt.Sprintf("%.0f (%s B)", allocs, thousands(bytes))
}

// heading writes the head of a table. The first left columns are aligned to the left.
func heading(w io.Writer, left int, head []string) {
	line(w, head)
	line(w, append(slices.Repeat([]string{"---"}, left), slices.Repeat([]string{"---:"}, len(head)-left)...))
}

func line(w io.Writer, cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

// verdict shows the ratio to the fastest of the goal's others, with its range, in bold type if it misses the goal.
func (g goal) verdict(r *race) string { return g.show(r.ratios(r.fastest(g.others...))) }

func (g goal) show(ratios []float64) string {
	m := median(ratios)
	shown := fmt.Sprintf("%.2f", m)
	if !met(m, g.least) {
		shown = "**" + shown + " missed**"
	}
	return fmt.Sprintf("%s (%.2f–%.2f)", shown, quantile(ratios, 0.25), quantile(ratios, 0.75))
}

// verdicts sums up, for every goal, database and pattern, in which settings it is met.
func verdicts(w io.Writer, races []*race) {
	heading(w, 5, []string{"Goal", "Database", "Pattern", "Met in", "Ratios"})
	for _, g := range goals {
		for _, d := range g.databases {
			for _, p := range patterns {
				var shown []string
				number := 0
				for _, r := range of(d, races) {
					if r.setting.pattern != p {
						continue
					}
					m := median(r.ratios(r.fastest(g.others...)))
					if met(m, g.least) {
						number++
					}
					shown = append(shown, fmt.Sprintf("%.2f", m))
				}
				if len(shown) == 0 {
					continue // the database was not measured
				}
				line(w, []string{
					fmt.Sprintf("≥ %.2f of %s", g.least, g.name), d.title(), string(p),
					fmt.Sprintf("%s %d of %d", choose(number == len(shown), "all:", "**not all:**"), number, len(shown)),
					strings.Join(shown, ", "),
				})
			}
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
