package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
)

// few rows make every one of them be updated several times in a short test.
const few = 40

// each runs f for every contender in every setting.
func each[TB interface {
	testing.TB
	Run(string, func(TB)) bool
}](tb TB, f func(tb TB, c contender, s setting)) {
	for _, s := range settings() {
		for _, c := range contenders() {
			tb.Run(s.String()+"/contender="+c.key, func(tb TB) { f(tb, c, s) })
		}
	}
}

func begin(tb testing.TB, c contender, rows int, s setting) (context.Context, *entrant) {
	tb.Helper()
	e, err := enter(c, tb.TempDir(), rows, s)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := e.db.Close(); err != nil {
			tb.Error(err)
		}
	})
	ctx, cancel := s.context()
	tb.Cleanup(cancel)
	return ctx, e
}

// BenchmarkUpdate is the same comparison for benchstat: go test -bench . -count 10 | benchstat -col /contender -
func BenchmarkUpdate(b *testing.B) {
	each(b, func(b *testing.B, c contender, s setting) {
		ctx, e := begin(b, c, rows, s)
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
	each(t, func(t *testing.T, c contender, s setting) {
		ctx, e := begin(t, c, few, s)
		if err := e.repeat(ctx, 5*few+few/2); err != nil {
			t.Fatal(err)
		}
	})
}

// Part of the job is that no update is lost when callers meet, although what is timed is one caller.
func TestNoContenderLosesUpdates(t *testing.T) {
	const callers, updates, meeting = 4, 25, 3
	each(t, func(t *testing.T, c contender, s setting) {
		ctx, e := begin(t, c, few, s)
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
	s := setting{pattern: atomicPattern}
	bad := map[string]func(Player) Player{
		"row before the change": func(p Player) Player { p.Score--; p.Version--; return p },
		"version missing":       func(p Player) Player { p.Version = 0; return p },
		"another row":           func(p Player) Player { p.ID++; return p },
	}
	for name, distort := range bad {
		t.Run(name, func(t *testing.T) {
			ctx, e := begin(t, contenders()[0], few, s)
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
		ctx, e := begin(t, contenders()[0], few, s)
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
		if got := verdict(c.ratios, c.least); strings.Contains(got, "missed") != c.missed {
			t.Errorf("%v with the goal %v is shown as %s", c.ratios, c.least, got)
		}
	}
	if got := thousands(1234567.8); got != "1,234,568" {
		t.Errorf("got %s", got)
	}
}
