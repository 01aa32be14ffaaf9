package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/serial"
)

// brief is long enough for a turn to be a turn.
const brief = 20 * time.Millisecond

// fewCallers are enough to get in each other's way.
var fewCallers = workload{hotRow, 8}

// everyContestant runs f for every contender with several callers in every setting of every database that is there.
func everyContestant(t *testing.T, f func(t *testing.T, e *entrant)) {
	for _, d := range databases {
		t.Run("db="+string(d), func(t *testing.T) {
			h := hostFor(t, d)
			for _, s := range systems(d) {
				for _, s.pattern = range patterns {
					for _, c := range contestants(d, s.pattern) {
						if d != sqlite && !c.suits(fewCallers) {
							continue // takes long to connect, and is the same with less
						}
						t.Run(s.String()+"/contender="+c.key+"/"+c.label(), func(t *testing.T) {
							_, e := begin(t, h, c, fewRows, s)
							f(t, e)
						})
					}
				}
			}
		})
	}
}

// No update is lost when callers meet: contest compares the sums with what was acknowledged.
func TestEveryContenderWithSeveralCallers(t *testing.T) {
	var crew crew
	everyContestant(t, func(t *testing.T, e *entrant) {
		s, err := e.contest(fewCallers, brief, &crew)
		if err != nil {
			t.Fatal(err)
		}
		if e.acknowledged == 0 || s.longest < s.p99 || s.p99 < s.p50 || s.p50 == 0 {
			t.Errorf("%d updates, %+v", e.acknowledged, s)
		}
		stats := e.db.Stats()
		if stats.Idle > 0 {
			t.Errorf("%d connections are kept", stats.Idle)
		}
		if e.key != native && stats.MaxOpenConnections != e.pool {
			t.Errorf("the pool has %d connections, not %d", stats.MaxOpenConnections, e.pool)
		}
	})
}

// All who come at once have their answer, or give up because they would have to try again.
func TestCrowds(t *testing.T) {
	h := hostFor(t, sqlite)
	for _, s := range systems(sqlite) {
		for _, s.pattern = range patterns {
			for _, c := range []contender{contenders(sqlite)[0], handContender} {
				_, e := begin(t, h, c, fewRows, s)
				const callers = 100
				n, elapsed, err := e.rush(callers, time.Minute)
				if err != nil || n != callers || elapsed <= 0 {
					t.Errorf("%s, %s: %d in %v, %v", s, c.name, n, elapsed, err)
				}
			}
		}
	}
}

func TestSerialIsSerial(t *testing.T) {
	for _, wrap := range []bool{false, true} {
		u, _, _ := wrapped(lock.New(nil, players, nil), wrap)
		if _, is := u.(*serial.Updater[Player, raceproof.Func[Player]]); is != wrap {
			t.Errorf("wrapped: %v, is %T", wrap, u)
		}
	}
}

// twice is an updater that needs two attempts.
type twice struct{}

func (twice) Update(ctx context.Context, _ any, change raceproof.Func[Player]) (p Player, err error) {
	if err = change(ctx, &p); err == nil {
		err = change(ctx, &p)
	}
	return p, err
}

// When a turn is over nobody tries again, but who has not tried yet does.
func TestGivingUp(t *testing.T) {
	ctx := context.Background()
	for _, j := range []job{{pause: true, over: new(atomic.Bool)}, {over: new(atomic.Bool)}} {
		inGo := j.inGo(twice{})
		if p, err := inGo(ctx, 1); err != nil || p.Score != 2*points {
			t.Errorf("got %+v, %v", p, err)
		}
		if err := j.again(ctx, 2); err != nil {
			t.Errorf("got %v", err)
		}
		j.over.Store(true)
		if p, err := inGo(ctx, 1); !errors.Is(err, errOver) || p.Score != points {
			t.Errorf("got %+v, %v", p, err)
		}
		if err := j.again(ctx, 2); !errors.Is(err, errOver) {
			t.Errorf("got %v", err)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for _, pause := range []bool{false, true} {
		if err := (job{pause: pause, over: new(atomic.Bool)}).again(ended, 1000); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
}

// Checks that never fail prove nothing.
func TestContestsNoticeBadContenders(t *testing.T) {
	// only leaves out a column, and returns what should be in the table.
	only := func(text string) func(*entrant) update {
		return func(e *entrant) update {
			return func(ctx context.Context, id int64) (Player, error) {
				_, err := e.db.ExecContext(ctx, text)
				return Player{id, "nobody", points, 1}, err
			}
		}
	}
	h := hostFor(t, sqlite)
	s := systems(sqlite)[1]
	s.pattern = lockPattern
	failure := errors.New("no")
	for name, c := range map[string]struct {
		update func(*entrant) update
		want   error
	}{
		"version as it was": {only("UPDATE players SET score = score + 1 WHERE id = 1"), errLost},
		"score as it was":   {only("UPDATE players SET version = version + 1 WHERE id = 1"), errLost},
		"update lost": {func(*entrant) update {
			return func(_ context.Context, id int64) (Player, error) { return Player{id, "nobody", points, 1}, nil }
		}, errLost},
		"update made twice": {func(e *entrant) update {
			honest := e.update
			return func(ctx context.Context, id int64) (Player, error) {
				_, _ = honest(ctx, id)
				return honest(ctx, id)
			}
		}, errLost},
		"failure": {func(*entrant) update {
			return func(context.Context, int64) (Player, error) { return Player{}, failure }
		}, failure},
		"another row": {func(e *entrant) update {
			honest := e.update
			return func(ctx context.Context, id int64) (Player, error) { return honest(ctx, id+1) }
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			_, e := begin(t, h, handContender, fewRows, s)
			e.update = c.update(e)
			var crew crew
			if _, err := e.contest(fewCallers, brief, &crew); err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("contest: got %v", err)
			}
			if _, _, err := e.rush(3, time.Minute); err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("rush: got %v", err)
			}
		})
	}
}

// handContender is one for tests that only need one.
var handContender = contender{name: "database/sql", family: handFamily, pool: few, open: openHand}

// Every contender has the same rows to update, and they are spread as the workload says.
func TestChoiceOfRows(t *testing.T) {
	for _, c := range []struct {
		workload
		least, most int // rows that are chosen of 10,000, in as many choices
		top         int // how often the row that is chosen most is at least
	}{
		{workload{hotRow, 4}, 1, 1, 10_000},
		{workload{uniform, 4}, 6000, 6700, 4},
		{workload{zipf, 4}, 1000, 4000, 1000},
	} {
		for i, one := range []func() int64{c.choice(1, 2), c.choice(2, 2)} {
			for range 1000 {
				if id := one(); id < 1 || id > 2 {
					t.Fatalf("%v: caller %d chose %d of 2 rows", c.workload, i+1, id)
				}
			}
		}
		chosen, again, times := c.choice(3, 10_000), c.choice(3, 10_000), map[int64]int{}
		top := 0
		for range 10_000 {
			id := chosen()
			if other := again(); other != id {
				t.Fatalf("%v: %d and %d", c.workload, id, other)
			}
			if id < 1 || id > 10_000 {
				t.Fatalf("%v: %d", c.workload, id)
			}
			times[id]++
			top = max(top, times[id])
		}
		if n := len(times); n < c.least || n > c.most || top < c.top {
			t.Errorf("%v: %d rows, one of them %d times", c.workload, n, top)
		}
	}
}
