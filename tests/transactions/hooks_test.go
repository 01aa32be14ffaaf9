package transactions_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A diary has what happened, in order.
type diary struct {
	t       *testing.T
	w       *world.World
	entries []string
}

func (d *diary) note(entry string) { d.entries = append(d.entries, entry) }

// both has the diary note a name with a sign of which of the two it was.
func (d *diary) both(ctx context.Context, name string) {
	d.t.Helper()
	require.NoError(d.t, d.w.DB.AfterCommit(ctx, func(context.Context) { d.note("+" + name) }))
	require.NoError(d.t, d.w.DB.AfterRollback(ctx, func(context.Context) { d.note("-" + name) }))
}

// nested calls f inside, and notes that it is over.
func (d *diary) nested(ctx context.Context, name string, f func(context.Context) error) error {
	err := d.w.DB.Transact(ctx, func(ctx context.Context) error {
		d.both(ctx, name)
		return f(ctx)
	})
	d.note("end of " + name)
	return err
}

func nothing(context.Context) error { return nil }
func failing(context.Context) error { return errOwn }

// What is called after a transaction is called once, in order, and only if that has become of it.
func TestHooks(t *testing.T) {
	cases := map[string]struct {
		f       func(context.Context, *diary, context.CancelFunc) error
		want    []string
		failing bool
	}{
		"committed": {func(ctx context.Context, d *diary, _ context.CancelFunc) error {
			d.both(ctx, "a")
			d.both(ctx, "b")
			return nil
		}, []string{"+a", "+b"}, false},
		"rolled back": {func(ctx context.Context, d *diary, _ context.CancelFunc) error {
			d.both(ctx, "a")
			d.both(ctx, "b")
			return errOwn
		}, []string{"-a", "-b"}, true},
		"context ended": {func(ctx context.Context, d *diary, cancel context.CancelFunc) error {
			d.both(ctx, "a")
			cancel()
			return nil
		}, []string{"-a"}, true},
		"nested, both kept": {func(ctx context.Context, d *diary, _ context.CancelFunc) error {
			d.both(ctx, "a")
			require.NoError(d.t, d.nested(ctx, "b", func(ctx context.Context) error { return d.nested(ctx, "c", nothing) }))
			d.both(ctx, "d")
			return nil
		}, []string{"end of c", "end of b", "+a", "+b", "+c", "+d"}, false},
		"nested taken back": {func(ctx context.Context, d *diary, _ context.CancelFunc) error {
			d.both(ctx, "a")
			require.ErrorIs(d.t, d.nested(ctx, "b", failing), errOwn)
			d.both(ctx, "c")
			return nil
		}, []string{"-b", "end of b", "+a", "+c"}, false},
		"nested kept in one taken back": {func(ctx context.Context, d *diary, _ context.CancelFunc) error {
			d.both(ctx, "a")
			require.ErrorIs(d.t, d.nested(ctx, "b", func(ctx context.Context) error {
				require.NoError(d.t, d.nested(ctx, "c", nothing))
				d.both(ctx, "d")
				return errOwn
			}), errOwn)
			return nil
		}, []string{"end of c", "-b", "-c", "-d", "end of b", "+a"}, false},
		"nested taken back in one kept": {func(ctx context.Context, d *diary, _ context.CancelFunc) error {
			return d.nested(ctx, "b", func(ctx context.Context) error {
				require.ErrorIs(d.t, d.nested(ctx, "c", failing), errOwn)
				return nil
			})
		}, []string{"-c", "end of c", "end of b", "+b"}, false},
		"nested kept, the whole rolled back": {func(ctx context.Context, d *diary, _ context.CancelFunc) error {
			d.both(ctx, "a")
			require.NoError(d.t, d.nested(ctx, "b", nothing))
			d.both(ctx, "c")
			return errOwn
		}, []string{"end of b", "-a", "-b", "-c"}, true},
		"a savepoint of an updater": {func(ctx context.Context, d *diary, _ context.CancelFunc) error {
			_, err := d.w.Pattern("lock").Update(ctx, 7, world.Change{Func: func(ctx context.Context, p *world.Player) error {
				p.Score++
				d.both(ctx, "a")
				return nil
			}})
			d.note("updated")
			return err
		}, []string{"updated", "+a"}, false},
		"a savepoint of an updater that fails": {func(ctx context.Context, d *diary, _ context.CancelFunc) error {
			_, err := d.w.Pattern("lock").Update(ctx, 7, world.Change{Func: func(ctx context.Context, p *world.Player) error {
				d.both(ctx, "a")
				return errOwn
			}})
			require.ErrorIs(d.t, err, errOwn)
			d.note("failed")
			return nil
		}, []string{"-a", "failed"}, false},
	}
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		for name, c := range cases {
			d := &diary{t: t, w: w}
			ctx, cancel := context.WithCancel(minute(t))
			err := w.DB.Transact(ctx, func(ctx context.Context) error {
				require.NoError(t, exec(ctx, w.DB, writeBob))
				return c.f(ctx, d, cancel)
			})
			cancel()
			assert.Equal(t, c.failing, err != nil, "%s: %v", name, err)
			assert.Equal(t, c.want, d.entries, name)
		}
	})
}

// Those of an attempt that is made again are its own, and are called before the next one begins.
func TestHooksOfAttempts(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		d := &diary{t: t, w: w}
		attempt := 0
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			attempt++
			name := string('0' + rune(attempt))
			d.note("attempt " + name)
			d.both(ctx, name)
			return d.nested(ctx, "inner "+name, func(ctx context.Context) error {
				if attempt < 3 {
					return overtaken(ctx, w)
				}
				return nil
			})
		}))
		assert.Equal(t, []string{
			"attempt 1", "-inner 1", "end of inner 1", "-1",
			"attempt 2", "-inner 2", "end of inner 2", "-2",
			"attempt 3", "end of inner 3", "+3", "+inner 3",
		}, d.entries)

		d.entries = nil
		err := w.DB.Transact(minute(t), func(ctx context.Context) error {
			d.both(ctx, "a")
			return overtaken(ctx, w)
		}, tries(2))
		require.ErrorIs(t, err, raceproof.ErrConflict)
		assert.Equal(t, []string{"-a", "-a"}, d.entries)
	})
}

// Without a transaction there is nothing to wait for, and nothing that could be rolled back.
func TestHooksWithoutTransaction(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		d := &diary{t: t, w: w}
		d.both(t.Context(), "a")
		assert.Equal(t, []string{"+a"}, d.entries)
		// Also in a transaction of another DB.
		other := world.New(t, w.Database, databases.Options{})
		require.ErrorIs(t, other.DB.Transact(minute(t), func(ctx context.Context) error {
			d.both(ctx, "b")
			return errOwn
		}), errOwn)
		assert.Equal(t, []string{"+a", "+b"}, d.entries)
	})
}

// The functions are called by whoever called the outermost, with his context, when the connection is back.
func TestHooksAreOutside(t *testing.T) {
	type key struct{}
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		w.Pool.SetMaxOpenConns(1)
		calls := 0
		use := func(ctx context.Context) {
			calls++
			assert.Equal(t, "outermost", ctx.Value(key{}))
			assert.Same(t, w.Pool, w.DB.Ext(ctx), "it carries no transaction")
			assert.False(t, w.DB.Pool().InTransaction(ctx))
			n, err := scoreOf(ctx, w.DB, 8) // by the pool
			assert.NoError(t, err)
			assert.Equal(t, int64(calls), n)
			_, err = w.Pattern("atomic").Update(ctx, 8, world.Award(1))
			assert.NoError(t, err)
			assert.NoError(t, w.DB.Transact(ctx, nothing, raceproof.Durable()))
		}
		for _, ending := range []error{nil, errOwn} {
			ctx := context.WithValue(minute(t), key{}, "outermost")
			err := w.DB.Transact(ctx, func(ctx context.Context) error {
				ctx = context.WithValue(ctx, key{}, "inside")
				require.NoError(t, w.DB.Transact(ctx, func(ctx context.Context) error {
					require.NoError(t, w.DB.AfterRollback(ctx, use))
					return w.DB.AfterCommit(ctx, use)
				}))
				return ending
			})
			require.ErrorIs(t, err, ending)
		}
		assert.Equal(t, 2, calls)

		// After a nested one that failed it is the context that this was given, and goes on in the transaction.
		require.NoError(t, w.DB.Transact(minute(t), func(outer context.Context) error {
			outer = context.WithValue(outer, key{}, "outer")
			require.ErrorIs(t, w.DB.Transact(outer, func(ctx context.Context) error {
				require.NoError(t, w.DB.AfterRollback(ctx, func(ctx context.Context) {
					calls++
					assert.Equal(t, "outer", ctx.Value(key{}))
					assert.NoError(t, exec(ctx, w.DB, writeAda))
				}))
				return errOwn
			}), errOwn)
			return nil
		}))
		assert.Equal(t, 3, calls)
		scores(t, w, 2, 3)
	})
}

// A function that does not return does not keep the others from being called, and goes on where it did not return.
func TestHooksThatDoNotReturn(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		w.Pool.SetMaxOpenConns(1)
		for _, ending := range []error{nil, errOwn} {
			for name, leave := range map[string]func(){"panics": func() { panic("hook") }, "ends": runtime.Goexit} {
				d := &diary{t: t, w: w}
				hook := w.DB.AfterCommit
				if ending != nil {
					hook = w.DB.AfterRollback
				}
				panicked, ended := alone(func() {
					_ = w.DB.Transact(minute(t), func(ctx context.Context) error {
						assert.NoError(t, exec(ctx, w.DB, writeAda))
						return errors.Join(
							hook(ctx, func(context.Context) { d.note("before") }),
							hook(ctx, func(context.Context) { leave() }),
							hook(ctx, func(context.Context) { d.note("between") }),
							hook(ctx, func(ctx context.Context) { assert.NoError(t, w.DB.Transact(ctx, nothing)) }),
							hook(ctx, func(context.Context) { d.note("behind") }),
							ending)
					})
				})
				assert.False(t, ended, name)
				assert.Equal(t, map[string]any{"panics": "hook", "ends": nil}[name], panicked)
				assert.Equal(t, []string{"before", "between", "behind"}, d.entries, "%s, %v", name, ending)
			}
		}
		scores(t, w, 3, 1)
		require.NoError(t, w.DB.Transact(minute(t), nothing))
	})
}
