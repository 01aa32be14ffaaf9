package sessions

import (
	"context"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/tests/databases"
)

// foreign is a context that package context does not know: whoever waits for its end is a goroutine there.
type foreign struct {
	done chan struct{}
	end  sync.Once
}

func (*foreign) Deadline() (time.Time, bool) { return time.Time{}, false }
func (f *foreign) Done() <-chan struct{}     { return f.done }
func (*foreign) Value(any) any               { return nil }
func (f *foreign) cancel()                   { f.end.Do(func() { close(f.done) }) }
func (f *foreign) Err() error {
	select {
	case <-f.done:
		return context.Canceled
	default:
		return nil
	}
}

// A context that lasts as long as the service, and can be cancelled, is not waited for by what is over: not by goroutines
// while it lasts, and not by functions that are all called when it ends.
func TestRegistrationsLeak(t *testing.T) {
	const (
		transactions = 500 // with three queries each
		few          = 30  // goroutines of the pool and the driver
	)
	onServers(t, func(t *testing.T, d databases.Database) {
		pool, db := open(t, d.Fresh(t), databases.Options{})
		create(pool)
		pool.SetMaxOpenConns(1)
		known, cancel := context.WithCancel(context.Background())
		defer cancel()
		unknown := &foreign{done: make(chan struct{})}
		defer unknown.cancel()
		for name, c := range map[string]struct {
			ctx    context.Context
			cancel func()
		}{"known": {known, cancel}, "unknown": {unknown, unknown.cancel}} {
			transact := func() {
				require.NoError(t, db.Transact(c.ctx, func(ctx context.Context) error {
					var score int
					require.NoError(t, db.Ext(ctx).QueryRowxContext(ctx, `SELECT score FROM players WHERE id = 7`).Scan(&score))
					_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = score + 1 WHERE id = 7`)
					require.NoError(t, err)
					rows, err := db.Ext(ctx).QueryContext(ctx, `SELECT id FROM players`)
					require.NoError(t, err)
					require.True(t, rows.Next()) // and are left open
					return nil
				}), name)
			}
			transact()
			before := runtime.NumGoroutine()
			for range transactions {
				transact()
			}
			until(t, name+": no goroutine waits for the context", func() bool { return runtime.NumGoroutine() <= before+few })
			before = runtime.NumGoroutine()
			processors := runtime.GOMAXPROCS(1) // what the end starts does not run before it is counted
			c.cancel()
			after := runtime.NumGoroutine()
			runtime.GOMAXPROCS(processors)
			assert.LessOrEqual(t, after, before+few, "%s: the end of the context starts goroutines", name)
		}
	})
}
