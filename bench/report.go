package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// report writes the results as Markdown.
func (found *results) report(w io.Writer) {
	o := found.options
	fmt.Fprintf(w, "%s\n\n%s form, %d rounds, %v for a contender and 64 callers, %s altogether.\n\n", found.env,
		choose(o.long, "Long", "Short"), o.rounds, o.turn, found.took.Round(time.Second))
	fmt.Fprint(w, "### The goals\n\nHow many times as fast as the fastest way by hand the wrapped updater is, medians of the rounds' "+
		"ratios; and what part of the wait by hand the wait of its callers is, the longest percent left out.\n\n")
	found.verdicts(w)
	if found.many != nil {
		fmt.Fprint(w, "\n### Curves\n\n")
		for _, s := range found.systems() {
			fmt.Fprintf(w, "![%s: updates per second and waits over the number of callers of one row](%s)\n\n", s.system(), curvesOf(s))
		}
		fmt.Fprint(w, "### Many callers\n\nUpdates per second by the number of callers of one row, and with 64 callers for 10,000 rows.\n")
		for _, s := range found.systems() {
			found.contests(w, s)
		}
	}
	if found.stampede != nil {
		found.crowds(w)
	}
	if found.one != nil {
		found.single(w)
	}
}

// systems returns those that were measured.
func (found *results) systems() (all []setting) {
	for _, h := range found.hosts {
		all = append(all, systems(h.database)...)
	}
	return all
}

// single writes the tables of one caller.
func (found *results) single(w io.Writer) {
	fmt.Fprint(w, "\n### One caller\n\nUpdates per second, and ratios with their quartiles.\n")
	for _, h := range found.hosts {
		fmt.Fprintf(w, "\n**%s**\n\n", h.database.title())
		speeds(w, h.database, of(h.database, found.one))
	}
	details(w, "Allocations for one update, and their bytes", func() { found.memory(w) })
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
	heading(w, left, append(head, "serial / by hand", "unwrapped / by hand", "serial / GORM"))
	for _, r := range races {
		cells := r.setting.cells()
		for _, e := range r.entrants {
			cells = append(cells, thousands(e.speed()))
		}
		for _, pair := range [][2]*entrant{{r.find(oursSerial), r.hand()}, {r.find(ours), r.hand()}, {r.find(oursSerial), r.find(orm)}} {
			ratios := pair[0].ratios(pair[1])
			cells = append(cells, fmt.Sprintf("%.2f (%.2f–%.2f)", median(ratios), quantile(ratios, 0.25), quantile(ratios, 0.75)))
		}
		row(w, cells)
	}
}

// memory writes a line for each pattern on each database: what is allocated differs little between other settings.
func (found *results) memory(w io.Writer) {
	all := contenders(postgres) // has them all
	head := []string{"Database", "Pattern"}
	for _, c := range all {
		head = append(head, c.name)
	}
	heading(w, 2, head)
	for _, s := range found.systems() {
		for _, r := range found.one {
			if !r.is(s, r.setting.pattern) {
				continue
			}
			cells := []string{s.system(), string(r.setting.pattern)}
			for _, c := range all {
				cells = append(cells, r.find(c.key).memory())
			}
			row(w, cells)
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

// contests writes the tables of a system.
func (found *results) contests(w io.Writer, s setting) {
	fmt.Fprintf(w, "\n**%s**\n\n", s.system())
	head := []string{"Pattern", "Contender"}
	for _, work := range workloads {
		head = append(head, work.String())
	}
	heading(w, 2, head)
	for _, p := range patterns {
		for _, look := range looks {
			row(w, append([]string{string(p), look.name}, found.cells(s, p, func(r *race) string { return thousands(r.named(look.name).speed()) })...))
		}
	}
	found.hands(w, s, head)
	details(w, "How long callers waited: half of them, 99 % and all at the most; allocations for an update; updates of a turn that were given up because of conflicts", func() {
		heading(w, 2, head)
		for _, p := range patterns {
			for _, look := range looks {
				row(w, append([]string{string(p), look.name}, found.cells(s, p, func(r *race) string { return r.named(look.name).waits() })...))
			}
		}
	})
}

// hands writes what the ways by hand have reached.
func (found *results) hands(w io.Writer, s setting, head []string) {
	details(w, "What was fastest by hand, with the size of its pool", func() {
		heading(w, 1, slices.Delete(slices.Clone(head), 1, 2))
		for _, p := range patterns {
			row(w, append([]string{string(p)}, found.cells(s, p, func(r *race) string { return r.hand().label() })...))
		}
	})
	details(w, "All ways by hand: updates per second, in parentheses those that were left out after the first round", func() {
		heading(w, 2, head)
		for _, p := range patterns {
			for _, c := range contestants(s.database, p) {
				if c.family == handFamily {
					row(w, append([]string{string(p), c.label()}, found.cells(s, p, func(r *race) string { return r.speedOf(c) })...))
				}
			}
		}
	})
}

// cells returns what f shows for each workload.
func (found *results) cells(s setting, p pattern, f func(*race) string) (cells []string) {
	for _, w := range workloads {
		for _, r := range found.many {
			if r.is(s, p) && r.workload == w {
				cells = append(cells, f(r))
			}
		}
	}
	return cells
}

// named returns the entrant with a name, or what was fastest by hand.
func (r *race) named(name string) *entrant {
	if name == "by hand" {
		return r.hand()
	}
	return r.entrants[slices.IndexFunc(r.entrants, func(e *entrant) bool { return e.name == name })]
}

func (r *race) speedOf(c contender) string {
	for _, e := range r.entrants {
		switch {
		case e.label() != c.label() || len(e.samples) == 0:
		case e.out:
			return "(" + thousands(e.speed()) + ")"
		default:
			return thousands(e.speed())
		}
	}
	return ""
}

// waits shows how long callers waited, and what an update allocates.
func (e *entrant) waits() string {
	longest := e.wait(func(s sample) time.Duration { return s.longest })
	text := fmt.Sprintf("%s, %s, %s; ", span(e.wait(func(s sample) time.Duration { return s.p50 })), span(e.wait(p99)), span(longest))
	text += fmt.Sprintf("%.0f", e.median(func(s sample) float64 { return s.allocs }))
	if refused := e.median(func(s sample) float64 { return float64(s.refused) }); refused > 0 {
		text += fmt.Sprintf("; %.0f refused", refused)
	}
	return text
}

// crowds writes how long it took until a crowd was served.
func (found *results) crowds(w io.Writer) {
	fmt.Fprintf(w, "\n### %s callers at once\n\nEach comes to the same row with one update: the time until all are acknowledged.\n\n", thousands(crowd))
	heading(w, 3, []string{"Database", "Pattern", "Contender", "Time"})
	for _, s := range found.stampede {
		for _, e := range s.by {
			var texts []string
			for _, r := range s.times[e] {
				text := span(r.elapsed)
				if r.acknowledged < crowd {
					text += fmt.Sprintf(", given up after %s updates", thousands(float64(r.acknowledged)))
				}
				texts = append(texts, text)
			}
			row(w, []string{s.setting.system(), string(s.setting.pattern), e.label(), strings.Join(texts, "; ")})
		}
	}
}
