package once_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

const (
	callers = 16
	hot     = 8 // rows
)

// Where a fault can hit, and what it can be.
var (
	places = []struct {
		name  string
		match func(string) bool
	}{
		{"BEGIN", world.IsBegin},
		{"write", world.IsWrite},
		{"key", func(text string) bool { return strings.Contains(text, "INSERT INTO raceproof_once") }},
		{"COMMIT", world.IsCommit},
	}
	kinds = []struct {
		name string
		do   faultproxy.Action
		cuts bool
	}{
		{"dropped", faultproxy.Drop(), true},
		{"withheld", faultproxy.Withhold(), false}, // until the client has given up
		{"delayed", faultproxy.Delay(15 * time.Millisecond), false},
		{"cut", faultproxy.Cut(), true},
	}
)

// totals are what all runs have seen together.
type totals struct {
	updates, fired, cuts, refused, unknown, resolved int
}

func (s *totals) add(o totals) {
	s.updates += o.updates
	s.fired += o.fired
	s.cuts += o.cuts
	s.refused += o.refused
	s.unknown += o.unknown
	s.resolved += o.resolved
}

// a faulty is one database with one pattern.
type faulty struct {
	*testing.T
	w     *world.World
	u     raceproof.Updater[world.Player, world.Change]
	name  string
	rules [][]*faultproxy.Rule // by the place, then the kind, one after the other

	mu     sync.Mutex
	sum    totals
	scores [hot]map[int64]bool // that were returned, by the row
}

// More than one update in five is hit by a fault, and each is made exactly once; every caller is told the truth each time.
func TestFaults(t *testing.T) {
	t.Parallel()
	var all totals
	var mu sync.Mutex
	whole := t.Run("on", func(t *testing.T) {
		for _, name := range onServers {
			for i, pattern := range []string{"lock", "optimistic", "atomic"} {
				t.Run(name+"/"+pattern, func(t *testing.T) {
					t.Parallel()
					w := prepare(t, databases.Named(name))
					f := &faulty{T: t, w: w, u: once.Wrap(w.Patterns()[i].Updater), name: name + ", " + pattern}
					f.run(number()/9 + 1)
					mu.Lock()
					defer mu.Unlock()
					all.add(f.sum)
				})
			}
		}
	})
	if !whole || all.updates == 0 {
		return
	}
	t.Logf("together: %+v", all)
	assert.GreaterOrEqual(t, all.fired*100, all.updates*15, "faults per hundred updates")
	assert.Positive(t, all.unknown)
	assert.Equal(t, all.unknown, all.resolved)
	if all.updates >= 10_000 { // all the servers are there
		assert.GreaterOrEqual(t, all.cuts, 1000, "connections that were lost")
	}
}

func (f *faulty) run(n int) {
	f.rules = make([][]*faultproxy.Rule, len(places)*len(kinds))
	for r := range hot {
		f.scores[r] = map[int64]bool{}
		f.w.Look.MustExec(fmt.Sprintf(`INSERT INTO players VALUES (%d, 'hot %d', 0, 0, 0)`, 100+r, r))
	}
	f.w.Pool.SetMaxOpenConns(callers)
	f.w.Pool.SetMaxIdleConns(callers)
	began := time.Now()
	numbers := make(chan int)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range numbers {
				f.update(i)
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	wg.Wait()
	took := time.Since(began)
	f.sum.updates = n

	var finals []int64
	for r := range hot {
		intended := (n - r + hot - 1) / hot
		row := f.w.Row(int64(100 + r))
		assert.Equal(f, world.Player{ID: row.ID, Name: row.Name, Score: int64(intended), Version: int64(intended)}, row)
		assert.Len(f, f.scores[r], intended, "each was told what the row was after its own update")
		for score := range f.scores[r] {
			assert.True(f, score >= 1 && score <= int64(intended), score)
		}
		finals = append(finals, row.Score)
	}
	assert.Equal(f, n, keys(f.T, f.w))
	f.Log(f.table(finals, took))
}

// update makes an update again, with the same key, until it is made.
func (f *faulty) update(i int) {
	if i%40 < 9 { // a little more than one in five
		which := i / 40 * 9 % (len(places) * len(kinds)) // each in turn
		which = (which + i%40) % (len(places) * len(kinds))
		rule := f.w.Proxy.On(places[which/len(kinds)].match, 1, kinds[which%len(kinds)].do)
		f.mu.Lock()
		f.rules[which] = append(f.rules[which], rule)
		f.mu.Unlock()
	}
	key, r := fmt.Sprintf("award %d", i), i%hot
	wasUnknown := false
	for last, limit := time.Now().Add(asked), patience; ; limit = min(2*limit, longest) {
		// It may be another caller's fault that hits, so all must be able to end soon.
		ctx, cancel := context.WithTimeoutCause(f.Context(), limit, errCause)
		row, err := f.u.Update(once.WithKey(ctx, key), int64(100+r), world.Award(1))
		cancel()
		unknown := errors.Is(err, raceproof.ErrCommitUnknown)
		if err != nil && !unknown && !wasUnknown { // what an earlier call did, this one does not speak of
			assert.False(f, taken(f.T, f.w, key), "it was said not to be made, and is: %v", err)
		}
		f.mu.Lock()
		switch {
		case err == nil:
			assert.False(f, f.scores[r][row.Score], "two updates were the one that made the score %d", row.Score)
			assert.Equal(f, row.Score, row.Version)
			f.scores[r][row.Score] = true
			if wasUnknown {
				f.sum.resolved++
			}
		case !unknown:
			f.sum.refused++
		case !wasUnknown:
			wasUnknown = true
			f.sum.unknown++
		}
		f.mu.Unlock()
		if err == nil {
			return
		}
		if !assert.True(f, time.Now().Before(last), "%s: it is not told: %v", key, err) {
			return
		}
	}
}

// patience is after which time a caller gives up first, and asks again; then he has more, for a slow machine's sake.
const (
	patience = 200 * time.Millisecond
	longest  = 8 * time.Second
)

// table adds up what was hit, and shows it.
func (f *faulty) table(finals []int64, took time.Duration) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %d updates in %v\n%10s", f.name, f.sum.updates, took.Round(time.Millisecond), "")
	for _, kind := range kinds {
		fmt.Fprintf(&b, "%10s", kind.name)
	}
	for p, place := range places {
		fmt.Fprintf(&b, "\n%10s", place.name)
		for k, kind := range kinds {
			fired := 0
			for _, rule := range f.rules[p*len(kinds)+k] {
				fired += rule.Fired()
			}
			require.Positive(f, fired, "%s %s", place.name, kind.name)
			fmt.Fprintf(&b, "%10d", fired)
			f.sum.fired += fired
			if kind.cuts {
				f.sum.cuts += fired
			}
		}
	}
	fmt.Fprintf(&b, "\n%d faults, %d times told that nothing was done, %d unknown, %d of them resolved; in the end %v", f.sum.fired,
		f.sum.refused, f.sum.unknown, f.sum.resolved, finals)
	assert.GreaterOrEqual(f, f.sum.fired*100, f.sum.updates*15, "faults per hundred updates")
	return b.String()
}
