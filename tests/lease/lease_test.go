package lease_test

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

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/lease"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

func TestHold(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for _, name := range []string{"job", "JOB", "job ", "\x00\xff'", strings.Repeat("x", 255)} {
			a := try(t, w.DB, name, 1)
			e := held(t, w.DB, name, 1)
			assert.Equal(t, name, e.Name)
			assert.Equal(t, "ada", e.Holder)
			assert.Greater(t, e.Left, 10*time.Second)
			assert.LessOrEqual(t, e.Left, 15*time.Second)
			require.NoError(t, a.Renew(minute(t)))
			require.NoError(t, award(t, w, a))
			require.NoError(t, a.Release(minute(t)))
			b := try(t, w.DB, name, 1)
			assert.Greater(t, b.Token(), a.Token())
			shift(w, past, `holder IS NOT NULL`)
			c := try(t, w.DB, name, 1)
			assert.Greater(t, c.Token(), b.Token())
			lost(t, award(t, w, b))
			lost(t, b.Release(minute(t)))
			lost(t, context.Cause(b.Context()))
			require.NoError(t, award(t, w, c))
			require.NoError(t, c.Release(minute(t)))
		}
		assert.Equal(t, world.Ada.Score+10, w.Row(7).Score)
	})
}

func TestSemaphore(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		a, b, c := try(t, w.DB, "a", 3), try(t, w.DB, "a", 3), try(t, w.DB, "a", 3)
		for n := 1; n <= 3; n++ {
			held(t, w.DB, "a", n)
		}
		require.NoError(t, a.Release(minute(t)))
		shift(w, past, `place = 3`)
		held(t, w.DB, "a", 1)
		d := try(t, w.DB, "a", 2)
		lost(t, award(t, w, c))
		lost(t, c.Renew(minute(t)))
		require.NoError(t, b.Renew(minute(t)))
		require.NoError(t, award(t, w, d))
		held(t, w.DB, "a", 2)
		assert.Equal(t, int64(3), number(t, w, `SELECT count(*) FROM raceproof_lease`))
	})
}

func TestRenewsInBackground(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		l, err := lease.Acquire(minute(t), w.DB, "a", &lease.Options{TTL: time.Second})
		require.NoError(t, err)
		world.Until(t, "it is renewed", func() bool { return number(t, w, `SELECT renewals FROM raceproof_lease`) >= 6 })
		require.NoError(t, l.Context().Err())
		require.NoError(t, l.Release(minute(t)))
	})
}

// Never more than may hold a name, from several processes.
func TestNeverMore(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for n := 1; n <= 2; n++ {
			var holders, last atomic.Int64
			var wg sync.WaitGroup
			for range 4 {
				_, db := w.Open(databases.Options{})
				s, err := lease.NewSemaphore(db, fmt.Sprint("a", n), n, nil)
				require.NoError(t, err)
				for range 2 {
					wg.Go(func() {
						for range 5 {
							l, err := s.Acquire(minute(t))
							if !assert.NoError(t, err) {
								return
							}
							assert.LessOrEqual(t, holders.Add(1), int64(n))
							if n == 1 {
								assert.Greater(t, l.Token(), last.Swap(l.Token()))
							}
							assert.NoError(t, db.Transact(minute(t), l.Fence))
							holders.Add(-1)
							assert.NoError(t, l.Release(minute(t)))
						}
					})
				}
			}
			wg.Wait()
		}
	})
}

// The first callers of a name make its rows together.
func TestFirstTogether(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for round := range 10 {
			var wg sync.WaitGroup
			var got atomic.Int64
			for range 8 {
				wg.Go(func() {
					l, err := lease.TryAcquire(minute(t), w.DB, fmt.Sprint(round), manual)
					if err == nil {
						got.Add(1)
						defer func() { assert.NoError(t, l.Release(minute(t))) }()
						return
					}
					assert.ErrorIs(t, err, raceproof.ErrLocked)
				})
			}
			wg.Wait()
			assert.Positive(t, got.Load())
		}
	})
}

// The database's clock was set back by an hour: who waits does not wait for an hour.
func TestClockSetBack(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		dead, err := lease.TryAcquire(minute(t), w.DB, "a", &lease.Options{TTL: 300 * time.Millisecond, Manual: true})
		require.NoError(t, err)
		shift(w, soon, `holder IS NOT NULL`)
		assert.LessOrEqual(t, held(t, w.DB, "a", 1).Left, 300*time.Millisecond)
		l, err := lease.Acquire(minute(t), w.DB, "a", manual)
		require.NoError(t, err)
		lost(t, dead.Release(minute(t)))
		require.NoError(t, l.Release(minute(t)))
	})
}

func TestTables(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for round := range 5 {
			w.Look.MustExec(`DROP TABLE raceproof_lease`)
			w.Look.MustExec(`DROP TABLE raceproof_fence`)
			var wg sync.WaitGroup
			for range 6 {
				_, db := w.Open(databases.Options{})
				wg.Go(func() {
					assert.NoError(t, lease.CreateTable(minute(t), db), round)
					l, err := lease.Acquire(minute(t), db, "a", nil)
					if assert.NoError(t, err) {
						assert.NoError(t, l.Release(minute(t)))
					}
				})
			}
			wg.Wait()
		}
		w.Look.MustExec(`DROP TABLE raceproof_lease`)
		w.Look.MustExec(`DROP TABLE raceproof_fence`)
		schema, err := lease.Schema(w.Dialect.Name)
		require.NoError(t, err)
		for range 2 {
			for statement := range strings.SplitSeq(strings.TrimSuffix(schema, ";\n"), ";\n") {
				w.Look.MustExec(statement)
			}
			require.NoError(t, try(t, w.DB, "a", 1).Release(minute(t)))
		}
	})
}

// Whatever level transactions have by default.
func TestLevels(t *testing.T) {
	for _, name := range onServers {
		d := databases.Named(name)
		for _, level := range d.Isolation[1:] {
			t.Run(name+"/"+level, func(t *testing.T) {
				w := world.New(t, d, databases.Options{Isolation: level})
				require.NoError(t, lease.CreateTable(minute(t), w.DB))
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() {
						for range 5 {
							l, err := lease.Acquire(minute(t), w.DB, "a", manual)
							if !assert.NoError(t, err) {
								return
							}
							assert.NoError(t, award(t, w, l))
							assert.NoError(t, l.Release(minute(t)))
						}
					})
				}
				wg.Wait()
				assert.Equal(t, world.Ada.Score+20, w.Row(7).Score)
			})
		}
	}
}

// A stale transaction that was begun before the lease was taken over is refused, also if what it sees is older.
func TestFenceOfOldSnapshot(t *testing.T) {
	for _, name := range onServers {
		d := databases.Named(name)
		for _, level := range d.Isolation {
			t.Run(name+"/"+level, func(t *testing.T) {
				w := world.New(t, d, databases.Options{Isolation: level})
				require.NoError(t, lease.CreateTable(minute(t), w.DB))
				for name, fence := range map[string]func(context.Context, *lease.Lease){
					"plain":  func(ctx context.Context, l *lease.Lease) { _ = l.Fence(ctx) },
					"nested": func(ctx context.Context, l *lease.Lease) { _ = w.DB.Transact(ctx, l.Fence) },
				} {
					a := try(t, w.DB, name, 1)
					calls := 0
					err := w.DB.Transact(minute(t), func(ctx context.Context) error {
						if _, err := w.Pattern("lock").Update(ctx, 7, world.Award(1)); err != nil {
							return err
						}
						if calls++; calls == 1 {
							shift(w, past, `holder IS NOT NULL`)
							try(t, w.DB, name, 1)
						}
						fence(ctx, a)
						return nil
					})
					lost(t, err)
					assert.Equal(t, dialect.Other, w.Dialect.Classify(err))
					w.Unchanged()
				}
			})
		}
	}
}
