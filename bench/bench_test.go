package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/raceproof/raceproof/internal/servers"
)

// few rows make every one of them be updated several times in a short test.
const few = 40

// each runs f for every contender in every setting of every database that is there.
func each[TB interface {
	testing.TB
	Run(string, func(TB)) bool
}](tb TB, f func(tb TB, h *host, c contender, s setting)) {
	for _, d := range databases {
		tb.Run("db="+string(d), func(tb TB) {
			h := hostFor(tb, d)
			for _, s := range settings(d) {
				for _, c := range contenders(d) {
					tb.Run(s.String()+"/contender="+c.key, func(tb TB) { f(tb, h, c, s) })
				}
			}
		})
	}
}

// hostFor skips the test if the server is absent and RACEPROOF_REQUIRE does not name it.
func hostFor(tb testing.TB, d database) *host {
	tb.Helper()
	required, err := servers.Required()
	if err != nil {
		tb.Fatal(err)
	}
	h, err := newHost(d)
	if errors.Is(err, servers.ErrAbsent) && !slices.Contains(required, servers.Kind(d)) {
		tb.Skip(err)
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := h.close(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

func begin(tb testing.TB, h *host, c contender, rows int, s setting) (context.Context, *entrant) {
	tb.Helper()
	if err := h.ready(s); err != nil {
		tb.Fatal(err)
	}
	e, err := enter(c, h, rows, s)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.close(); err != nil {
			tb.Error(err)
		}
	})
	ctx, cancel := s.context()
	tb.Cleanup(cancel)
	return ctx, e
}

// BenchmarkUpdate is the same comparison for benchstat: go test -bench . -count 10 | benchstat -col /contender -
func BenchmarkUpdate(b *testing.B) {
	each(b, func(b *testing.B, h *host, c contender, s setting) {
		ctx, e := begin(b, h, c, rows, s)
		if err := e.repeat(ctx, warmUp); err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := e.next(ctx); err != nil {
				b.Fatal(err)
			}
		}
		if err := e.verify(); err != nil {
			b.Fatal(err)
		}
	})
}

// The contenders can only be compared if all do the same job: every update is in the table, and the row is returned as
// it is afterwards.
func TestEveryContenderDoesTheJob(t *testing.T) {
	each(t, func(t *testing.T, h *host, c contender, s setting) {
		ctx, e := begin(t, h, c, few, s)
		if err := e.repeat(ctx, 2*few+few/2); err != nil {
			t.Fatal(err)
		}
	})
}

// Part of the job is that no update is lost when callers meet, although what is timed is one caller.
func TestNoContenderLosesUpdates(t *testing.T) {
	const callers, updates, meeting = 4, 15, 3
	each(t, func(t *testing.T, h *host, c contender, s setting) {
		ctx, e := begin(t, h, c, few, s)
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for i := range updates {
					if _, err := e.update(ctx, int64(i%meeting)+1); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if err := e.check(callers * updates); err != nil {
			t.Error(err)
		}
	})
}

// Checks that never fail prove nothing.
func TestChecksNoticeBadContenders(t *testing.T) {
	s := setting{database: sqlite, pattern: atomicPattern}
	h := hostFor(t, sqlite)
	bad := map[string]func(Player) Player{
		"row before the change": func(p Player) Player { p.Score--; p.Version--; return p },
		"version missing":       func(p Player) Player { p.Version = 0; return p },
		"another row":           func(p Player) Player { p.ID++; return p },
	}
	for name, distort := range bad {
		t.Run(name, func(t *testing.T) {
			ctx, e := begin(t, h, contenders(sqlite)[0], few, s)
			honest := e.update
			e.update = func(ctx context.Context, id int64) (Player, error) {
				p, err := honest(ctx, id)
				return distort(p), err
			}
			if err := e.next(ctx); err == nil {
				t.Error("nothing was noticed")
			}
		})
	}
	t.Run("update lost", func(t *testing.T) {
		ctx, e := begin(t, h, contenders(sqlite)[0], few, s)
		e.update = func(_ context.Context, id int64) (Player, error) { return Player{id, "nobody", points, 1}, nil }
		if err := e.repeat(ctx, 1); !errors.Is(err, errLost) {
			t.Errorf("got %v", err)
		}
	})
}

func TestReplaceResults(t *testing.T) {
	got, err := replaceResults("before\n"+beginResults+"\nold\n"+endResults+"\nafter\n", "new\n")
	want := "before\n" + beginResults + "\n\nnew\n\n" + endResults + "\nafter\n"
	if err != nil || got != want {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
	if _, err := replaceResults(beginResults, ""); err == nil {
		t.Error("a missing end was not noticed")
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		ratios []float64
		least  float64
		missed bool
	}{
		{[]float64{0.9, 1.1, 0.96}, 0.95, false},
		{[]float64{0.94, 1.1, 0.9}, 0.95, true},
		{[]float64{1.8, 2.4}, 2, false},
	} {
		if got := (goal{least: c.least}).show(c.ratios); strings.Contains(got, "missed") != c.missed {
			t.Errorf("%v with the goal %v is shown as %s", c.ratios, c.least, got)
		}
	}
	if got := thousands(1234567.8); got != "1,234,568" {
		t.Errorf("got %s", got)
	}
}

func TestQuantile(t *testing.T) {
	for part, want := range map[float64]float64{0: 1, 0.25: 1.75, 0.5: 2.5, 1: 4} {
		if got := quantile([]float64{4, 1, 3, 2}, part); got != want {
			t.Errorf("%v of the values are below %v, not %v", part, want, got)
		}
	}
}

// Ours is compared with the best of those that are written by hand, whichever that is.
func TestFastest(t *testing.T) {
	of := func(key string, speeds ...float64) *entrant {
		e := &entrant{contender: contender{key: key}}
		for _, v := range speeds {
			e.samples = append(e.samples, sample{perSecond: v})
		}
		return e
	}
	r := &race{entrants: []*entrant{of(ours, 9, 9, 9), of(hand, 8, 8, 99), of(handSqlx, 10, 10, 1), of(orm, 50, 50, 50)}}
	if best := r.fastest(byHand.others...); best.key != handSqlx {
		t.Errorf("got %s", best.key)
	}
	if best := r.fastest(native, hand); best.key != hand {
		t.Errorf("got %s", best.key)
	}
	if got := byHand.verdict(r); !strings.HasPrefix(got, "**0.90 missed**") {
		t.Errorf("got %s", got)
	}
}

func TestChoice(t *testing.T) {
	if got, err := choice("mariadb, sqlite"); err != nil || !slices.Equal(got, []database{mariadb, sqlite}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "mysql", "sqlite,sqlite"} {
		if got, err := choice(bad); err == nil {
			t.Errorf("%q is taken for %v", bad, got)
		}
	}
}

// Without a server the others are measured, unless all are required; and results without it are not put into README.md.
func TestAbsentServers(t *testing.T) {
	t.Setenv("PATH", "")
	t.Setenv(servers.Postgres.Variable(), "")
	hosts, err := find([]database{sqlite, postgres}, false)
	if err != nil || len(hosts) != 1 {
		t.Errorf("got %v, %v", hosts, err)
	}
	if err := closeHosts(hosts); err != nil {
		t.Error(err)
	}
	hosts, err = find([]database{sqlite, postgres}, true)
	if !errors.Is(err, servers.ErrAbsent) {
		t.Errorf("got %v", err)
	}
	if err := closeHosts(hosts); err != nil {
		t.Error(err)
	}
	o := options{rounds: 1, time: 1, databases: "sqlite,postgres", write: true}
	if err := measure(o); err == nil {
		t.Error("results of two databases may replace those of all")
	}
}
