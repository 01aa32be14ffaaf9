package verdicts_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// shortLived returns a context that ends after up to three milliseconds: at its deadline, or because it is cancelled.
func shortLived() (context.Context, context.CancelFunc) {
	after := time.Duration(rand.IntN(3000)) * time.Microsecond
	if rand.IntN(3) > 0 {
		return context.WithTimeout(context.Background(), after)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t := time.AfterFunc(after, cancel)
	return ctx, func() {
		t.Stop()
		cancel()
	}
}

// Every verdict is true: with contexts that end at any moment, all patterns on one row, a writer that does not know of
// them, and then also somebody who stops statements and connections, the row is what the acknowledged updates make of
// it, give or take those of which it is not known.
func TestVerdictsAreTrue(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		for _, disturbed := range []bool{false, true} {
			w := world.New(t, d, databases.Options{})
			pool, db := marked(t, w)
			patterns := w.PatternsOf(db)
			var acknowledged, refused, unknown atomic.Int64
			told := func(err error) {
				switch {
				case err == nil:
					acknowledged.Add(1)
				case errors.Is(err, raceproof.ErrCommitUnknown):
					unknown.Add(1)
				default:
					refused.Add(1)
				}
			}
			var callers sync.WaitGroup
			for _, p := range patterns {
				for range 4 {
					callers.Go(func() {
						for range 60 {
							ctx, cancel := shortLived()
							if rand.IntN(4) == 0 { // some that last
								cancel()
								ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
							}
							if rand.IntN(4) > 0 {
								_, err := p.Update(ctx, 7, world.Award(1))
								told(err)
							} else {
								told(db.Transact(ctx, func(ctx context.Context) error {
									_, err := p.Update(ctx, 7, world.Award(1))
									if err != nil && rand.IntN(2) == 0 {
										return errors.New("the function's own error")
									}
									return err
								}))
							}
							cancel()
						}
					})
				}
			}
			callers.Go(func() {
				for range 60 {
					if _, err := w.Look.Exec(`UPDATE players SET score = score + 1, version = version + 1 WHERE id = 7`); assert.NoError(t, err) {
						acknowledged.Add(1)
					}
				}
			})
			over := make(chan struct{})
			var disturber sync.WaitGroup
			if disturbed {
				disturber.Go(func() { disturb(t, w, over) })
			}
			callers.Wait()
			close(over)
			disturber.Wait()

			row := w.Row(7)
			gained := row.Score - world.Ada.Score
			assert.GreaterOrEqual(t, gained, acknowledged.Load(), "an acknowledged update is lost")
			assert.LessOrEqual(t, gained, acknowledged.Load()+unknown.Load(), "an update was made that was said not to be")
			assert.Equal(t, gained, row.Version)
			assert.Positive(t, refused.Load())
			w.Idle(pool)
			t.Logf("disturbed %v: %d acknowledged, %d refused, %d unknown, of which %d were made", disturbed, acknowledged.Load(),
				refused.Load(), unknown.Load(), gained-acknowledged.Load())
		}
	})
}

// marked opens a pool whose connections are told from those of the test itself.
func marked(t *testing.T, w *world.World) (*sqlx.DB, *raceproof.DB) {
	var pool *sqlx.DB
	if w.Kind == servers.MariaDB {
		for _, statement := range []string{`CREATE USER IF NOT EXISTS disturbed IDENTIFIED BY 'secret'`, `GRANT SELECT, UPDATE ON players TO disturbed`} {
			w.Look.MustExec(statement)
		}
		t.Cleanup(func() { w.Look.MustExec(`DROP USER IF EXISTS disturbed`) })
		pool = w.As("disturbed", "secret", databases.Options{})
		pool.SetMaxOpenConns(databases.Connections)
		pool.SetMaxIdleConns(databases.Connections)
	} else {
		var schema string
		require.NoError(t, w.Look.Get(&schema, `SELECT current_schema`))
		pool = w.Fresh.Open(databases.Options{Parameters: url.Values{"application_name": {schema + "_disturbed"}}})
	}
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return pool, db
}

// disturb stops statements and closes connections of the library's until over is closed.
func disturb(t *testing.T, w *world.World, over <-chan struct{}) {
	ids := `SELECT pid FROM pg_stat_activity WHERE application_name = current_schema || '_disturbed'`
	stops := []string{`SELECT pg_cancel_backend(%d)`, `SELECT pg_terminate_backend(%d)`}
	if w.Kind == servers.MariaDB {
		ids = `SELECT id FROM information_schema.processlist WHERE user = 'disturbed' AND db = database()`
		stops = []string{`KILL QUERY %d`, `KILL %d`}
	}
	for {
		select {
		case <-over:
			return
		case <-time.After(5 * time.Millisecond):
		}
		var found []int64
		require.NoError(t, w.Look.Select(&found, ids))
		if len(found) > 0 {
			_, _ = w.Look.Exec(fmt.Sprintf(stops[rand.IntN(2)], found[rand.IntN(len(found))])) // it may be gone
		}
	}
}
