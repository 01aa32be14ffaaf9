package once_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

func one(context.Context) (int, error) { return 1, nil }

// age makes keys older by half hours.
func age(w *world.World, halfHours int, where string) {
	w.Look.MustExec(`UPDATE raceproof_once SET created = ` + map[string]string{
		"sqlite":   fmt.Sprintf(`created - %d * 1800000000`, halfHours),
		"postgres": fmt.Sprintf(`created - %d * interval '30 minutes'`, halfHours),
		"mysql":    fmt.Sprintf(`created - INTERVAL %d MINUTE`, 30*halfHours),
	}[w.Dialect.Name] + ` WHERE ` + where)
}

func TestExpireDeletesOldKeys(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for i, key := range []string{"young", "30 minutes", "60 minutes", "90 minutes", "120 minutes"} {
			_, err := once.Do(minute(t), w.DB, key, one)
			require.NoError(t, err)
			age(w, i, `id = `+map[bool]string{true: `x'`, false: `'\x`}[w.Kind != servers.Postgres]+fmt.Sprintf("%x'", key))
		}
		for _, c := range []struct {
			age    time.Duration
			n      int64
			leaves int
		}{{3 * time.Hour, 0, 5}, {75 * time.Minute, 2, 3}, {75 * time.Minute, 0, 3}, {time.Hour, 1, 2}, {time.Minute, 1, 1}} {
			n, err := once.Expire(minute(t), w.DB, c.age)
			require.NoError(t, err)
			assert.Equal(t, c.n, n, c.age)
			assert.Equal(t, c.leaves, keys(t, w), c.age)
		}
		n, err := once.Do(minute(t), w.DB, "young", func(context.Context) (int, error) { return 2, nil })
		require.NoError(t, err)
		assert.Equal(t, 1, n)
		n, err = once.Do(minute(t), w.DB, "120 minutes", func(context.Context) (int, error) { return 2, nil })
		require.NoError(t, err)
		assert.Equal(t, 2, n, "the work is done again")
	})
}

// Calls that run meanwhile lose nothing, and Expire loses no call.
func TestExpireBesideCalls(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		_, other := w.Open(databases.Options{})
		var over atomic.Bool
		var expired atomic.Int64
		var expirers, wg sync.WaitGroup
		for range 2 {
			expirers.Go(func() {
				for !over.Load() {
					n, err := once.Expire(minute(t), other, time.Hour)
					assert.NoError(t, err)
					expired.Add(n)
				}
			})
		}
		const each = 20
		for c := range 8 {
			wg.Go(func() {
				for i := range each {
					key := fmt.Sprintf("call %d %d", c, i)
					for range 3 {
						row, err := once.Do(minute(t), w.DB, key, func(ctx context.Context) (int, error) {
							_, err := award(w, w.DB)(ctx)
							return c*each + i, err
						})
						assert.NoError(t, err)
						assert.Equal(t, c*each+i, row)
					}
					_, err := once.Do(minute(t), w.DB, "old "+key, func(ctx context.Context) (int, error) {
						_, err := w.DB.Ext(ctx).ExecContext(ctx, w.Look.Rebind(`UPDATE raceproof_once SET created = `+long[w.Dialect.Name]+` WHERE id = ?`), []byte("old "+key))
						return 1, err
					})
					assert.NoError(t, err)
				}
			})
		}
		wg.Wait()
		over.Store(true)
		expirers.Wait()
		n, err := once.Expire(minute(t), other, time.Hour)
		require.NoError(t, err)
		assert.Equal(t, int64(8*each), expired.Load()+n, "every old one")
		assert.Equal(t, 8*each, keys(t, w), "and no other")
		assert.Equal(t, int64(8*each), gained(w))
	})
}

// long ago.
var long = map[string]string{"sqlite": `created - 7200000000`, "postgres": `created - interval '2 hours'`, "mysql": `created - INTERVAL 2 HOUR`}

// A key is deleted that a call waits for: then the work is done again, or, if the deletion is taken back, it is not.
func TestExpireWhileCallWaits(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for _, deleted := range []bool{true, false} {
			w.Look.MustExec(`DELETE FROM raceproof_once`)
			_, err := once.Do(minute(t), w.DB, "a", one)
			require.NoError(t, err)
			tx, err := w.Look.Beginx()
			require.NoError(t, err)
			_, err = tx.Exec(`DELETE FROM raceproof_once WHERE created IS NOT NULL`)
			require.NoError(t, err)
			done := make(chan int, 1)
			go func() {
				n, err := once.Do(minute(t), w.DB, "a", func(context.Context) (int, error) { return 2, nil })
				assert.NoError(t, err)
				done <- n
			}()
			w.Waiting()
			want := 1
			if deleted {
				want = 2
				require.NoError(t, tx.Commit())
			} else {
				require.NoError(t, tx.Rollback())
			}
			assert.Equal(t, want, <-done)
		}
	}, onServers...)
}

// Neither the key whose work is being done is deleted, nor that which others wait for.
func TestExpireWhileWorkIsDone(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		_, other := w.Open(databases.Options{})
		_, err := once.Do(minute(t), w.DB, "old", one)
		require.NoError(t, err)
		age(w, 4, `result IS NOT NULL`)
		// InnoDB locks the first key that is too young as well: if that is one whose work is being done, Expire waits for it.
		_, err = once.Do(minute(t), w.DB, "young", one)
		require.NoError(t, err)
		there, leave := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			n, err := once.Do(minute(t), w.DB, "a", func(context.Context) (int, error) {
				close(there)
				<-leave
				return 1, nil
			})
			assert.NoError(t, err)
			assert.Equal(t, 1, n)
		})
		<-there
		wg.Go(func() {
			n, err := once.Do(minute(t), w.DB, "a", func(context.Context) (int, error) { return 2, nil })
			assert.NoError(t, err)
			assert.Equal(t, 1, n)
		})
		if w.Kind != "" {
			w.Waiting()
		}
		wg.Go(func() {
			n, err := once.Expire(minute(t), other, time.Hour)
			assert.NoError(t, err)
			assert.Equal(t, int64(1), n)
		})
		if w.Kind != "" { // on SQLite all writers wait for each other
			world.Until(t, "the old one is deleted while the work is done", func() bool {
				n := 0
				require.NoError(t, w.Look.Get(&n, `SELECT count(*) FROM raceproof_once WHERE result IS NOT NULL`))
				return n == 1
			})
		}
		close(leave)
		wg.Wait()
	})
}

// Where rows are locked, work that takes long keeps neither Expire from deleting old keys nor, by way of that, others from
// inserting new ones: however the old ones fill the transactions that they are deleted in.
func TestExpireHoldsUpNobody(t *testing.T) {
	for _, old := range []int{5, 500, 1200} {
		t.Run(fmt.Sprint(old), func(t *testing.T) {
			onAll(t, func(t *testing.T, w *world.World) {
				_, other := w.Open(databases.Options{})
				values := strings.TrimSuffix(strings.Repeat(`(?, '', '1', `+string(w.Dialect.Now)+`), `, old), ", ")
				var ids []any
				for i := range old {
					ids = append(ids, fmt.Appendf(nil, "%x", i*7919%old)) // in no order
				}
				w.Look.MustExec(w.Look.Rebind(`INSERT INTO raceproof_once (id, fingerprint, result, created) VALUES `+values), ids...)
				age(w, 4, `result IS NOT NULL`)

				there, leave := make(chan struct{}), make(chan struct{})
				slow, expired := make(chan error, 1), make(chan error, 1)
				go func() {
					_, err := once.Do(minute(t), w.DB, "slow", func(context.Context) (int, error) {
						close(there)
						<-leave
						return 1, nil
					})
					slow <- err
				}()
				<-there
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // all of it takes a fraction of one
				defer cancel()
				go func() {
					n, err := once.Expire(ctx, other, time.Hour)
					assert.Equal(t, int64(old), n)
					expired <- err
				}()
				for i := range 20 {
					for _, key := range []string{"!", "slow", "~"} { // before, beside and behind the others
						_, err := once.Do(ctx, w.DB, fmt.Sprint(key, i), one)
						if !assert.NoError(t, err) {
							cancel() // else each of them would wait
						}
					}
				}
				assert.NoError(t, <-expired)
				_, err := once.Do(ctx, w.DB, "after it", one)
				assert.NoError(t, err)
				select {
				case err := <-slow:
					assert.Fail(t, "the slow one is not slow", "%v", err)
				default:
				}
				close(leave)
				require.NoError(t, <-slow)
				assert.Equal(t, 62, keys(t, w))
			}, onServers...)
		})
	}
}

func TestCreateTableTogether(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for round := range 10 {
			w.Look.MustExec(`DROP TABLE raceproof_once`)
			start := make(chan struct{})
			var wg sync.WaitGroup
			for range 8 {
				_, db := w.Open(databases.Options{})
				wg.Go(func() {
					<-start
					assert.NoError(t, once.CreateTable(minute(t), db))
					_, err := once.Do(minute(t), db, "a", one)
					assert.NoError(t, err)
				})
			}
			close(start)
			wg.Wait()
			assert.Equal(t, 1, keys(t, w), round)
		}
	})
}

// What Schema returns makes the same table, statement by statement.
func TestSchema(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		w.Look.MustExec(`DROP TABLE raceproof_once`)
		schema, err := once.Schema(w.Dialect.Name)
		require.NoError(t, err)
		require.True(t, strings.HasSuffix(schema, ";\n"))
		for range 2 {
			for statement := range strings.SplitSeq(strings.TrimSuffix(schema, ";\n"), ";\n") {
				w.Look.MustExec(statement)
			}
			require.NoError(t, once.CreateTable(minute(t), w.DB))
			_, err = once.Do(minute(t), w.DB, "a", one)
			require.NoError(t, err)
		}
		assert.Equal(t, 1, keys(t, w))
		age(w, 4, `result IS NOT NULL`)
		n, err := once.Expire(minute(t), w.DB, time.Hour)
		require.NoError(t, err)
		assert.Equal(t, int64(1), n)
	})
}
