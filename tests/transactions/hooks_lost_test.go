package transactions_test

import (
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// When the answer to COMMIT is lost nobody knows what to do, and nothing is done: nothing is called, and nothing again.
func TestLostCommit(t *testing.T) {
	eachWorld(t, onServers, func(t *testing.T, w *world.World) {
		for name, action := range map[string]faultproxy.Action{"committed": faultproxy.Drop(), "not committed": faultproxy.Cut()} {
			d := &diary{t: t, w: w}
			rule := w.Proxy.On(world.IsCommit, 1, action)
			calls := 0
			err := w.DB.Transact(minute(t), func(ctx context.Context) error {
				calls++
				d.both(ctx, "a")
				require.NoError(t, d.nested(ctx, "b", func(ctx context.Context) error { return exec(ctx, w.DB, writeAda) }))
				return nil
			})
			require.ErrorIs(t, err, raceproof.ErrCommitUnknown, name)
			assert.NotErrorIs(t, err, raceproof.ErrConflict, name)
			assert.Equal(t, 1, rule.Fired(), name)
			assert.Equal(t, 1, calls, name)
			assert.Equal(t, []string{"end of b"}, d.entries, name)
			scores(t, w, map[string]int64{"committed": 2, "not committed": 1}[name], 1, name)
			w.Reset()
		}
	})
}

// A COMMIT that is refused is a rollback.
func TestRefusedCommit(t *testing.T) {
	eachWorld(t, onPostgres, func(t *testing.T, w *world.World) {
		w.Look.MustExec(`ALTER TABLE players DROP CONSTRAINT players_name_key, ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED`)
		d := &diary{t: t, w: w}
		err := w.DB.Transact(minute(t), func(ctx context.Context) error {
			d.both(ctx, "a")
			return exec(ctx, w.DB, violate)
		})
		require.Error(t, err)
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
		assert.Equal(t, []string{"-a"}, d.entries)
		w.Unchanged()
	})
}

// A transaction whose function does not return is rolled back like any other that fails.
func TestHooksOfFunctionsThatDoNotReturn(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		for name, leave := range map[string]func(){"panics": func() { panic("f") }, "ends": runtime.Goexit} {
			d := &diary{t: t, w: w}
			panicked, ended := alone(func() {
				_ = w.DB.Transact(minute(t), func(ctx context.Context) error {
					d.both(ctx, "a")
					return d.nested(ctx, "b", func(context.Context) error { leave(); return nil })
				})
			})
			assert.False(t, ended, name)
			assert.Equal(t, map[string]any{"panics": "f", "ends": nil}[name], panicked)
			assert.Equal(t, []string{"-b", "-a"}, d.entries, name)
		}
	})
}

// What cannot be honoured is an error, and the function is not called.
func TestHooksTooLate(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		never := func(context.Context) { panic("called") }
		hooks := []func(context.Context, func(context.Context)) error{w.DB.AfterCommit, w.DB.AfterRollback}
		for _, hook := range hooks {
			assert.ErrorContains(t, hook(t.Context(), nil), "nil")
			for _, ending := range []error{nil, errOwn} {
				var outer, inner context.Context
				err := w.DB.Transact(minute(t), func(ctx context.Context) error {
					outer = ctx
					assert.ErrorContains(t, hook(ctx, nil), "nil")
					require.ErrorIs(t, w.DB.Transact(ctx, func(ctx context.Context) error {
						inner = ctx
						return ending
					}), ending)
					assert.ErrorIs(t, hook(inner, never), raceproof.ErrFinished, "the savepoint is over")
					return ending
				})
				require.ErrorIs(t, err, ending)
				assert.ErrorIs(t, hook(inner, never), raceproof.ErrFinished)
				assert.ErrorIs(t, hook(outer, never), raceproof.ErrFinished)
			}
			// The database knows nothing of the transaction any more, so there is no end to wait for.
			require.Error(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
				assert.Error(t, exec(ctx, w.DB, `ROLLBACK`))
				assert.ErrorIs(t, hook(ctx, never), raceproof.ErrFinished)
				return nil
			}))
		}
	})
}

// Those that are given while others are called belong to no transaction.
func TestHooksInHooks(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		d := &diary{t: t, w: w}
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			require.NoError(t, w.DB.AfterCommit(ctx, func(ctx context.Context) { d.both(ctx, "a") }))
			d.both(ctx, "b")
			return nil
		}))
		assert.Equal(t, []string{"+a", "+b"}, d.entries)
	})
}

// An updater that begins the transaction itself calls them when its own is over.
func TestHooksOfUpdaters(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		w.Pool.SetMaxOpenConns(1)
		for _, ending := range []error{nil, errOwn} {
			d := &diary{t: t, w: w}
			_, err := w.Pattern("lock").Update(minute(t), 7, world.Change{Func: func(ctx context.Context, p *world.Player) error {
				p.Score++
				d.both(ctx, "a")
				return ending
			}})
			require.ErrorIs(t, err, ending)
			assert.Equal(t, map[bool][]string{true: {"+a"}, false: {"-a"}}[ending == nil], d.entries)
		}
		scores(t, w, 2, 1)
	})
}
