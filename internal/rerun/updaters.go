package rerun

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
)

// A Pattern makes an updater that adds to a Counter's N, and that attempts to write once.
type Pattern struct {
	Name string
	New  func(*raceproof.DB, *raceproof.Table[Counter]) raceproof.Updater[Counter, int64]
}

// Patterns are the patterns of this module.
func Patterns() []Pattern {
	add := func(n int64) raceproof.Func[Counter] {
		return func(_ context.Context, c *Counter) error { c.N += n; return nil }
	}
	return []Pattern{
		{"lock", func(db *raceproof.DB, table *raceproof.Table[Counter]) raceproof.Updater[Counter, int64] {
			return raceproof.Bind(lock.New(db, table, nil), add)
		}},
		{"optimistic", func(db *raceproof.DB, table *raceproof.Table[Counter]) raceproof.Updater[Counter, int64] {
			return raceproof.Bind(optimistic.New(db, table, &optimistic.Options{Retry: raceproof.RetryPolicy{MaxAttempts: 1}}), add)
		}},
		{"atomic", func(db *raceproof.DB, table *raceproof.Table[Counter]) raceproof.Updater[Counter, int64] {
			return raceproof.Bind(atomic.New(db, table, nil), func(n int64) atomic.Change {
				return atomic.Set("n", atomic.F("n").Add(n))
			})
		}},
	}
}

// CheckUpdaters loses the answer to the write, and that to the COMMIT, of each pattern in each mode.
func CheckUpdaters(t *testing.T, d Driver, patterns ...Pattern) {
	table := d.newTable(t)
	for _, mode := range d.Modes {
		for _, p := range patterns {
			t.Run(mode+" "+p.Name+" write", func(t *testing.T) { table.update(t, d, mode, p, table.isWrite) })
			t.Run(mode+" "+p.Name+" commit", func(t *testing.T) { table.update(t, d, mode, p, isCommit) })
		}
	}
}

var (
	isCommit = faultproxy.Prefix("COMMIT")
	isBegin  = func(text string) bool {
		return faultproxy.Prefix("BEGIN")(text) || faultproxy.Prefix("START TRANSACTION")(text)
	}
)

// update makes one update of a new row, loses the first answer that matches, and checks that the write was executed at
// most once, that the loss was reported, and that the row is as the server was asked to leave it.
func (table table) update(t *testing.T, d Driver, mode string, p Pattern, lost func(text string) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	id := table.newRow(t)
	proxy, pool := d.open(t, mode)
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	defer db.Close()
	counters, err := raceproof.NewTable[Counter](table.name)
	require.NoError(t, err)
	rule := proxy.On(lost, 1, faultproxy.Drop())
	var u raceproof.Updater[Counter, int64] = p.New(db, counters)

	_, err = u.Update(ctx, id, 1)

	writes, begun, committed := proxy.Executed(table.isWrite), proxy.Executed(isBegin) > 0, proxy.Executed(isCommit)
	t.Logf("executed %d, in a transaction %v, COMMIT executed %d, error %v", writes, begun, committed, err)
	assert.Equal(t, 1, writes)
	assert.LessOrEqual(t, committed, 1)
	if begun {
		assert.Equal(t, 1, rule.Fired(), "the proxy has not seen what it was to lose")
	}
	if rule.Fired() > 0 {
		assert.Error(t, err)
	} else {
		assert.NoError(t, err) // a statement that is a transaction of its own has no COMMIT
	}
	want := int64(writes)
	if begun {
		want = int64(committed)
	}
	got := table.row(t, id)
	assert.Equal(t, Counter{id, want, want}, got)
}
