package transactions_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// soon is when a call has returned at the latest after its context's end: much more than it takes, on a machine that stalls,
// and much less than what any database waits by itself.
const soon = 5 * time.Second

// A way to come to wait for row 7, which somebody else holds.
type way struct {
	name string
	f    func(context.Context, *world.World) error
}

func ways(w *world.World) (all []way) {
	transact := func(f func(context.Context) error, options ...raceproof.TransactOption) func(context.Context, *world.World) error {
		return func(ctx context.Context, w *world.World) error { return w.DB.Transact(ctx, f, options...) }
	}
	for _, p := range w.Patterns() {
		update := func(ctx context.Context) error {
			_, err := p.Update(ctx, 7, world.Award(1))
			return err
		}
		all = append(all,
			way{p.Name, transact(update)},
			way{p.Name + ", nested", transact(func(ctx context.Context) error { return w.DB.Transact(ctx, update) })},
			way{p.Name + ", handled", transact(func(ctx context.Context) error { _ = w.DB.Transact(ctx, update); return nil })},
			way{p.Name + ", serializable", transact(update, raceproof.Isolation(sql.LevelSerializable))})
	}
	own := func(ctx context.Context) error { return exec(ctx, w.DB, writeAda) }
	return append(all, way{"a statement", transact(own)},
		way{"a statement, its error swallowed", transact(func(ctx context.Context) error { _ = own(ctx); return nil })})
}

// Whoever waits for a lock is called back by the end of his context, and nothing is done.
func TestEndWhileWaiting(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		for _, p := range w.Patterns() { // the table is known by now
			_, err := p.Update(minute(t), 8, world.Award(0))
			require.NoError(t, err)
		}
		w.Reset()
		_, rollback := w.Hold(7)
		for _, way := range ways(w) {
			for _, kind := range []string{"cancelled", "deadline"} {
				about := way.name + ", " + kind
				ctx, cancel := context.WithCancelCause(minute(t))
				want := context.Canceled
				stop := func() {}
				if kind == "deadline" {
					want = context.DeadlineExceeded
					ctx, stop = context.WithTimeoutCause(minute(t), 30*time.Millisecond, errCause)
				}
				done := make(chan error, 1)
				go func() { done <- way.f(ctx, w) }()
				switch {
				case kind == "deadline":
				case w.Kind == "":
					world.Until(t, "it has a connection", func() bool { return w.Pool.Stats().InUse > 0 })
				default:
					w.Waiting()
				}
				cancel(errCause)
				if kind == "deadline" {
					<-ctx.Done()
				}
				select {
				case err := <-done:
					assert.ErrorIs(t, err, want, about)
					assert.ErrorIs(t, err, errCause, about)
					assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, about)
				case <-time.After(soon):
					require.Fail(t, "it goes on waiting", about)
				}
				stop()
				w.Idle(w.Pool)
			}
		}
		rollback()
		w.Unchanged()
	})
}

// So is who waits for a connection, or on SQLite for his turn to write.
func TestEndWhileWaitingForATurn(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		w.Pool.SetMaxOpenConns(1)
		for _, options := range [][]raceproof.TransactOption{nil, {raceproof.ReadOnly()}, {raceproof.Isolation(sql.LevelSerializable)}} {
			err := w.DB.Transact(minute(t), func(context.Context) error {
				ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Millisecond, errCause)
				defer cancel()
				start := time.Now()
				err := w.DB.Transact(ctx, func(context.Context) error { panic("called") }, options...)
				assert.Less(t, time.Since(start), soon)
				assert.ErrorIs(t, err, context.DeadlineExceeded)
				assert.ErrorIs(t, err, errCause)
				return nil
			})
			require.NoError(t, err)
		}
	})
}

// A context that has ended before begins nothing.
func TestEndedBefore(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		never := func(context.Context) error { panic("called") }
		ended := func(ctx context.Context) context.Context {
			ctx, cancel := context.WithCancelCause(ctx)
			cancel(errCause)
			return ctx
		}
		check := func(err error) {
			t.Helper()
			assert.ErrorIs(t, err, context.Canceled)
			assert.ErrorIs(t, err, errCause)
		}
		check(w.DB.Transact(ended(t.Context()), never))
		check(w.DB.Transact(ended(t.Context()), never, raceproof.ReadOnly()))
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			check(w.DB.Transact(ended(ctx), never))
			return exec(ctx, w.DB, writeAda)
		}))
		scores(t, w, 2, 1)
	})
}

// A context that ends inside takes that level back, and leaves the rest.
func TestEndInside(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		err := w.DB.Transact(minute(t), func(outer context.Context) error {
			ctx, cancel := context.WithCancelCause(outer)
			err := w.DB.Transact(ctx, func(ctx context.Context) error {
				require.NoError(t, exec(ctx, w.DB, writeAda))
				cancel(errCause)
				return nil
			})
			assert.ErrorIs(t, err, context.Canceled)
			assert.ErrorIs(t, err, errCause)
			return exec(outer, w.DB, writeBob)
		})
		require.NoError(t, err)
		scores(t, w, 1, 2)
	})
}

// A deadline of a level's own limits the waits of that level, and of no other. It is the server that is told.
func TestDeadlineInside(t *testing.T) {
	eachWorld(t, onPostgres, func(t *testing.T, w *world.World) {
		limit := func(ctx context.Context) (milliseconds int64) {
			require.NoError(t, sqlx.GetContext(ctx, w.DB.Ext(ctx), &milliseconds,
				`SELECT setting::bigint FROM pg_settings WHERE name = 'lock_timeout'`))
			return milliseconds
		}
		for _, whole := range []time.Duration{0, time.Hour} { // 0: no deadline
			for _, ending := range []error{nil, errOwn} {
				ctx, stop := context.WithCancel(t.Context())
				least := int64(0)
				if whole > 0 {
					stop()
					ctx, stop = context.WithTimeout(t.Context(), whole)
					least = (whole / 2).Milliseconds()
				}
				check := func(ctx context.Context) {
					t.Helper()
					if whole == 0 {
						assert.Zero(t, limit(ctx), "for ever")
					}
					assert.GreaterOrEqual(t, limit(ctx), least)
				}
				require.NoError(t, w.DB.Transact(ctx, func(ctx context.Context) error {
					check(ctx)
					short, cancel := context.WithTimeout(ctx, 10*time.Minute)
					defer cancel()
					require.ErrorIs(t, w.DB.Transact(short, func(ctx context.Context) error {
						assert.LessOrEqual(t, limit(ctx), (10 * time.Minute).Milliseconds())
						assert.Positive(t, limit(ctx))
						return ending
					}), ending)
					check(ctx)
					return nil
				}))
				stop()
			}
		}
	})
}
