package lock_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// An impatient choice is one that gives up, and how long it waits.
type impatient struct {
	name  string
	o     lock.Options
	waits time.Duration
}

func impatience(w *world.World) []impatient {
	return []impatient{
		{"NoWait", lock.Options{NoWait: true}, 0},
		{"SkipLocked", lock.Options{SkipLocked: true}, 0},
		{"WaitAtMost", lock.Options{WaitAtMost: little(w)}, little(w)},
		{"UpdateFirst", lock.Options{WaitAtMost: little(w), UpdateFirst: true}, little(w)},
	}
}

// A way is one that comes to want the lock of row 7.
type way struct {
	name string
	f    func(context.Context, *world.World, lock.Options) error
}

var ways = []way{
	{"Update", func(ctx context.Context, w *world.World, o lock.Options) error {
		_, err := lock.New(w.DB, world.Players, &o).Update(ctx, 7, add(1))
		return err
	}},
	{"UpdateMany", func(ctx context.Context, w *world.World, o lock.Options) error {
		_, err := lock.New(w.DB, world.Players, &o).UpdateMany(ctx, []any{8, 7},
			func(_ context.Context, rows []*world.Player) error { rows[0].Score++; return nil })
		return err
	}},
	{"Select", func(ctx context.Context, w *world.World, o lock.Options) error {
		_, err := lock.Select(ctx, w.DB, world.Players, 7, &o)
		return err
	}},
	{"SelectWhere", func(ctx context.Context, w *world.World, o lock.Options) error {
		_, err := lock.SelectWhere(ctx, w.DB, world.Players, atomic.F("id").Eq(7), &o)
		return err
	}},
}

// refuses fails the test unless f gives up as soon as it should, and not before.
func (i impatient) refuses(t *testing.T, about string, f func() error) {
	t.Helper()
	start := time.Now()
	locked(t, f(), "%s, %s", i.name, about)
	took := time.Since(start)
	assert.GreaterOrEqual(t, took, i.waits-10*time.Millisecond, "%s, %s", i.name, about)
	assert.Less(t, took, i.waits+slow/3, "%s, %s", i.name, about)
}

// Somebody else holds the row. Outside a transaction the call gives up; inside one it does too, and the transaction goes on as
// before, and its function is not called again, also if it returns the error.
func TestGivesUp(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		warm(t, w)
		_, rollback := w.Hold(7)
		free := sync.OnceFunc(rollback)
		defer free()
		kept := int64(0)
		for _, i := range impatience(w) {
			for _, way := range ways {
				if i.name == "SkipLocked" && way.name == "SelectWhere" {
					continue // it leaves the row out
				}
				seconds := i.waits >= time.Second // there not everything is tried
				if seconds && way.name == "UpdateMany" {
					continue
				}
				if way.name[0] == 'U' {
					i.refuses(t, way.name, func() error { return way.f(minute(t), w, i.o) })
				}
				if !seconds || way.name == "Select" {
					i.refuses(t, way.name+", returned", func() error {
						calls := 0
						err := w.DB.Transact(minute(t), func(ctx context.Context) error { calls++; return way.f(ctx, w, i.o) })
						assert.Equal(t, 1, calls, "%s, %s", i.name, way.name)
						return err
					})
				}
				about := i.name + ", " + way.name
				require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
					before := timeout(t, ctx, w)
					require.NoError(t, exec(ctx, w, `UPDATE players SET level = level + 1 WHERE id = 8`), about)
					i.refuses(t, way.name+", handled", func() error { return way.f(ctx, w, i.o) })
					assert.Equal(t, before, timeout(t, ctx, w), about)
					require.NoError(t, w.DB.Transact(ctx, func(ctx context.Context) error {
						if !seconds {
							i.refuses(t, way.name+", nested", func() error { return way.f(ctx, w, i.o) })
						}
						return exec(ctx, w, `UPDATE players SET level = level + 1 WHERE id = 8`)
					}), about)
					assert.Equal(t, before, timeout(t, ctx, w), about)
					return nil
				}), about)
				kept += 2
			}
		}
		free()
		want := world.Bob
		want.Level = kept
		assert.Equal(t, world.Ada, w.Row(7))
		assert.Equal(t, want, w.Row(8))
	})
}

// timeout returns what lock_timeout is in a transaction of PostgreSQL: to be read twice within milliseconds, so it is told
// in minutes.
func timeout(t *testing.T, ctx context.Context, w *world.World) (minutes int64) {
	t.Helper()
	if w.Kind != servers.Postgres {
		return 0
	}
	var setting int64
	require.NoError(t, sqlx.GetContext(ctx, w.DB.Ext(ctx), &setting, `SELECT setting::bigint FROM pg_settings WHERE name = 'lock_timeout'`))
	return (setting + 59_999) / 60_000
}

// Behind a call that has given up, or has not, the statements of the transaction wait as they did before.
func TestWaitsAsBefore(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		warm(t, w)
		for _, deadline := range []bool{true, false} {
			commit, _ := w.Hold(7)
			ctx, cancel := context.WithCancel(t.Context())
			if deadline {
				ctx = minute(t)
			}
			done := make(chan error, 1)
			go func() {
				done <- w.DB.Transact(ctx, func(ctx context.Context) error {
					_, err := lock.Select(ctx, w.DB, world.Players, 7, &lock.Options{NoWait: true})
					locked(t, err)
					_, err = lock.Select(ctx, w.DB, world.Players, 7, &lock.Options{WaitAtMost: little(w)})
					locked(t, err)
					_, err = lock.Select(ctx, w.DB, world.Players, 8, &lock.Options{WaitAtMost: little(w)})
					assert.NoError(t, err)
					return exec(ctx, w, `UPDATE players SET score = score + 1 WHERE id = 7`)
				})
			}()
			// Longer than any limit above would let it wait, which a condition cannot tell.
			w.Waiting()
			for last := time.Now().Add(2 * little(w)); time.Now().Before(last); {
				w.Waiting()
			}
			commit()
			assert.NoError(t, <-done)
			cancel()
		}
		assert.EqualValues(t, 203, w.Row(7).Score)
	})
}

// The context ends before the limit does: the error is that of the lock, and of the context with its cause.
func TestContextEndsFirst(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		warm(t, w)
		_, rollback := w.Hold(7)
		defer rollback()
		for name, o := range map[string]lock.Options{"": {}, "WaitAtMost": {WaitAtMost: 30 * time.Second}, "UpdateFirst": {UpdateFirst: true, WaitAtMost: 30 * time.Second}} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, errCause) // enough to come to the lock
			start := time.Now()
			_, err := lock.New(w.DB, world.Players, &o).Update(ctx, 7, add(1))
			assert.Less(t, time.Since(start), slow, name)
			if w.Kind != servers.MariaDB { // which counts seconds, so that the statement is cut off before it can tell
				assert.ErrorIs(t, err, raceproof.ErrLocked, name)
			}
			assert.ErrorIs(t, err, context.DeadlineExceeded, name)
			assert.ErrorIs(t, err, errCause, name)
			cancel()
		}
	})
}

// SkipLocked leaves out what somebody else has, and workers with a Limit get different rows.
func TestSkipLocked(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		_, rollback := w.Hold(7)
		free := sync.OnceFunc(rollback)
		defer free()
		pick := func(ctx context.Context, limit int) []int64 {
			rows, err := lock.SelectWhere(ctx, w.DB, world.Players, atomic.F("id").Gt(0), &lock.Options{SkipLocked: true, Limit: limit})
			require.NoError(t, err)
			ids := []int64{}
			for _, r := range rows {
				ids = append(ids, r.ID)
			}
			return ids
		}
		readCommitted := raceproof.Isolation(2)
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			assert.Equal(t, []int64{8}, pick(ctx, 0))
			return nil
		}, readCommitted))
		free()
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			assert.Equal(t, []int64{7}, pick(ctx, 1))
			return w.DB.Transact(minute(t), func(ctx context.Context) error {
				assert.Equal(t, []int64{8}, pick(ctx, 1))
				return w.DB.Transact(minute(t), func(ctx context.Context) error {
					assert.Empty(t, pick(ctx, 1))
					return nil
				}, readCommitted)
			}, readCommitted)
		}, readCommitted))
	})
}
