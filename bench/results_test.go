package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"gonum.org/v1/plot/plotter"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		verdict
		want string
	}{
		{verdict{0.954, 0.95, false}, "0.95 (≥ 0.95)"},
		{verdict{0.946, 0.95, false}, "0.95 (≥ 0.95)"},
		{verdict{0.944, 0.95, false}, "**0.94 missed** (≥ 0.95)"},
		{verdict{29.4, 30, false}, "**29 missed** (≥ 30)"},
		{verdict{29.6, 30, false}, "30 (≥ 30)"},
		{verdict{25, 20, true}, "1/25 (≤ 1/20)"},
		{verdict{1.5, 20, true}, "**1/1.50 missed** (≤ 1/20)"},
		{verdict{7.25, 0, false}, "7.25"},
		{verdict{0, 30, false}, ""},
	} {
		if got := c.String(); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
	}
}

func TestShow(t *testing.T) {
	for got, want := range map[string]string{
		thousands(1234567.8): "1,234,568", short(999): "999", short(1500): "1.5k", short(153_000): "153k", short(2e6): "2M",
		span(1500 * time.Microsecond): "1.5 ms", span(12 * time.Microsecond): "12 µs", span(2500 * time.Millisecond): "2.5 s",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	for part, want := range map[float64]float64{0: 1, 0.25: 1.75, 0.5: 2.5, 1: 4} {
		if got := quantile([]float64{4, 1, 3, 2}, part); got != want {
			t.Errorf("%v of the values are below %v, not %v", part, want, got)
		}
	}
}

// runner returns an entrant that has reached some speeds.
func runner(c contender, speeds ...float64) *entrant {
	e := &entrant{contender: c}
	for _, v := range speeds {
		e.samples = append(e.samples, sample{perSecond: v, p50: time.Millisecond, p99: time.Duration(1e9 / v), longest: time.Second})
	}
	return e
}

// byHand returns a contender by hand.
func byHand(name string, pool int) contender {
	return contender{name: name, family: handFamily, pool: pool}
}

// Ours is compared with the best of those that are written by hand, whichever that is, but with none that has not run in
// all rounds.
func TestHand(t *testing.T) {
	r := &race{entrants: []*entrant{
		runner(contender{key: oursSerial}, 9, 9, 9),
		runner(byHand("lucky", 4), 8, 8, 99),
		runner(byHand("best", 4), 10, 10, 1),
		runner(byHand("left out", 4), 50),
		runner(contender{key: orm, family: peerFamily}, 50, 50, 50),
	}}
	if best := r.hand(); best.name != "best" {
		t.Errorf("got %s", best.name)
	}
	if got := median(r.find(oursSerial).ratios(r.hand())); got != 0.9 {
		t.Errorf("got %v", got)
	}
}

func TestLeavingOut(t *testing.T) {
	r := &race{entrants: []*entrant{
		runner(byHand("fast", 4), 100), runner(byHand("slow", 4), 10), runner(byHand("fair", 4), 61),
		runner(byHand("fast", 16)), runner(byHand("slow", 16)), runner(byHand("fair", 16)), runner(contender{key: oursSerial}),
	}}
	for _, e := range r.entrants {
		if got, want := r.isHopeless(e), e.name == "slow" && e.pool == 16; got != want {
			t.Errorf("%s: got %v", e.label(), got)
		}
	}
	r.entrants[3].samples = []sample{{perSecond: 90}}
	r.entrants = append(r.entrants, runner(contender{key: orm, family: peerFamily}, 1))
	r.sift()
	var left []string
	for _, e := range r.entrants {
		if !e.out && len(e.samples) > 0 {
			left = append(left, e.label())
		}
	}
	if got := strings.Join(left, "; "); got != "fast, 4; fast, 16" {
		t.Errorf("left are %s", got)
	}
}

// measured returns results of PostgreSQL that are made up.
func measured() *results {
	found := &results{hosts: []*host{{database: postgres}}}
	for _, p := range patterns {
		s := systems(postgres)[0]
		s.pattern = p
		for _, w := range append(workloads, oneCaller) {
			r := &race{setting: s, workload: w}
			all := contestants(postgres, p)
			if w == oneCaller {
				all = contenders(postgres)
			}
			for i, c := range all {
				if c.suits(w) {
					r.entrants = append(r.entrants, runner(c, 1000/float64(i+1), 2000/float64(i+1)))
				}
			}
			if w == oneCaller {
				found.one = append(found.one, r)
			} else {
				found.many = append(found.many, r)
			}
		}
	}
	return found
}

func TestReport(t *testing.T) {
	var text strings.Builder
	measured().report(&text)
	for _, part := range []string{
		"### The goals", "curves-postgresql.svg", "| PostgreSQL | lock | 3.00 (≥ 0.95) | **0.10 missed** (≥ 30) |", "goals are met", "| **1/0.10 missed** (≤ 1/20) |", "| atomic | by hand | 1,500 |",
		"| lock | database/sql, 64 |  |  |  |", "| optimistic | pgx, pausing, 16 |",
	} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("there is no %q in %d bytes", part, text.Len())
		}
	}
}

// The curves of the same figures are the same, and small, and whatever was not measured is left out.
func TestCurves(t *testing.T) {
	found := measured()
	found.many[0].named("GORM").samples = nil
	var first, second bytes.Buffer
	if err := errors.Join(found.chart(systems(postgres)[0]).draw(&first), found.chart(systems(postgres)[0]).draw(&second)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("it is not the same twice")
	}
	if first.Len() > 60_000 {
		t.Errorf("it has %d bytes", first.Len())
	}
	texts := map[string]int{}
	for d := xml.NewDecoder(&first); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := token.(xml.CharData); ok {
			texts[strings.TrimSpace(string(text))]++
		}
	}
	for text, times := range map[string]int{"serial": 1, "by hand": 1, "ent": 1, "atomic": 2, "lock": 2, "256": 6, "1k": 3, "10 ms": 3} {
		if texts[text] != times {
			t.Errorf("%q is written %d times, not %d", text, texts[text], times)
		}
	}
}

func TestEmptyCurves(t *testing.T) {
	c := chart{panels: [2][]panel{{{unit: short, lines: []line{{name: "serial", dots: plotter.XYs{{X: 1, Y: 0}}}}}}}}
	if err := c.draw(io.Discard); err == nil {
		t.Error("a chart of nothing was drawn")
	}
}
