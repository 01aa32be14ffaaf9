package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/raceproof/raceproof/internal/servers"
)

// fewRows make every one of them be updated several times in a short test.
const fewRows = 4

// each runs f for every contender in every setting of every database that is there.
func each[TB interface {
	testing.TB
	Run(string, func(TB)) bool
}](tb TB, f func(tb TB, h *host, c contender, s setting)) {
	for _, d := range databases {
		tb.Run("db="+string(d), func(tb TB) {
			h := hostFor(tb, d)
			for _, s := range settings(d, true) {
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
		ctx, e := begin(t, h, c, fewRows, s)
		if err := e.repeat(ctx, 2*fewRows+fewRows/2); err != nil {
			t.Fatal(err)
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
			ctx, e := begin(t, h, contenders(sqlite)[0], fewRows, s)
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
		ctx, e := begin(t, h, contenders(sqlite)[0], fewRows, s)
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

func TestChoice(t *testing.T) {
	if got, err := choice("mariadb, sqlite", databases); err != nil || !slices.Equal(got, []database{mariadb, sqlite}) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"", "mysql", "sqlite,sqlite"} {
		if got, err := choice(bad, databases); err == nil {
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
	for _, o := range []options{{databases: "sqlite,postgres", parts: "one,many,crowd"}, {databases: "sqlite,postgres,mariadb", parts: "one"}} {
		o.rounds, o.crowds, o.time, o.turn, o.write = 1, 1, 1, 1, true
		if err := measure(o); err == nil || !strings.Contains(err.Error(), "replaces") {
			t.Errorf("results of a part may replace those of all: %v", err)
		}
	}
}
