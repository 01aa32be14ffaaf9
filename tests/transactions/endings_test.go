package transactions_test

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// An error that the function swallows is no better for it: if the database does nothing any more, that is told, and
// nothing is stored; if it goes on, so does the function.
func TestSwallowedErrors(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		aborts := onPostgres(w.Database)
		calls := 0
		err := w.DB.Transact(minute(t), func(ctx context.Context) error {
			calls++
			require.NoError(t, exec(ctx, w.DB, writeBob))
			refused := exec(ctx, w.DB, violate)
			require.Error(t, refused)
			next := exec(ctx, w.DB, writeAda)
			if aborts {
				assert.ErrorIs(t, next, raceproof.ErrFinished)
				assert.ErrorIs(t, next, refused, "it tells why")
				assert.ErrorIs(t, w.DB.Transact(ctx, nothing), raceproof.ErrFinished)
			} else {
				assert.NoError(t, next)
			}
			return nil
		})
		assert.Equal(t, 1, calls)
		if aborts {
			assert.ErrorIs(t, err, raceproof.ErrFinished)
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
			w.Unchanged()
		} else {
			require.NoError(t, err)
			scores(t, w, 2, 2)
		}
		w.Reset()

		// Inside it is that level alone that can do nothing any more.
		err = w.DB.Transact(minute(t), func(ctx context.Context) error {
			require.NoError(t, exec(ctx, w.DB, writeBob))
			err := w.DB.Transact(ctx, func(ctx context.Context) error {
				require.NoError(t, exec(ctx, w.DB, writeAda))
				require.Error(t, exec(ctx, w.DB, violate))
				return nil
			})
			assert.Equal(t, aborts, errors.Is(err, raceproof.ErrFinished), "%v", err)
			return exec(ctx, w.DB, writeBob)
		})
		require.NoError(t, err)
		scores(t, w, map[bool]int64{true: 1, false: 2}[aborts], 3)
		w.Idle(w.Pool)
	})
}

// What begins and ends transactions is left to Transact: sent by the function it ends the transaction, and nothing stays.
func TestOwnControl(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		w.Pool.SetMaxOpenConns(1)
		for _, statement := range []string{"COMMIT", "ROLLBACK", "BEGIN", " commit ;", "END", "Rollback", "START TRANSACTION",
			"COMMIT AND CHAIN", "ABORT", "/* hidden */ ROLLBACK", "-- hidden\nROLLBACK"} {
			for _, swallows := range []bool{false, true} {
				for _, nested := range []bool{false, true} {
					control := func(ctx context.Context) error {
						err := exec(ctx, w.DB, statement)
						after := exec(ctx, w.DB, writeAda)
						assert.ErrorIs(t, after, raceproof.ErrFinished, "%q", statement)
						assert.ErrorIs(t, w.DB.Transact(ctx, nothing), raceproof.ErrFinished, "%q", statement)
						if swallows {
							return nil
						}
						return errors.Join(err, after)
					}
					calls := 0
					err := w.DB.Transact(minute(t), func(ctx context.Context) error {
						calls++
						require.NoError(t, exec(ctx, w.DB, writeBob))
						if !nested {
							return control(ctx)
						}
						assert.ErrorIs(t, w.DB.Transact(ctx, control), raceproof.ErrFinished, "%q", statement)
						assert.ErrorIs(t, exec(ctx, w.DB, writeBob), raceproof.ErrFinished, "%q", statement)
						return nil
					})
					assert.ErrorIs(t, err, raceproof.ErrFinished, "%q", statement)
					assert.Equal(t, 1, calls, "%q", statement)
					w.Unchanged(statement)
				}
			}
		}
		_, err := w.Pool.Exec(writeAda)
		require.NoError(t, err, "the connection is in no transaction")
		scores(t, w, 2, 1)
	})
}

// A transaction's context can be kept for longer than the transaction: nothing is sent with it any more.
func TestFinished(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		for _, ending := range []error{nil, errOwn} {
			var kept context.Context
			require.ErrorIs(t, w.DB.Transact(minute(t), func(ctx context.Context) error { kept = ctx; return ending }), ending)
			ext := w.DB.Ext(kept)
			_, err := ext.ExecContext(t.Context(), writeAda)
			assert.ErrorIs(t, err, raceproof.ErrFinished)
			_, err = ext.QueryContext(kept, `SELECT 1`)
			assert.ErrorIs(t, err, raceproof.ErrFinished)
			_, err = scoreOf(kept, w.DB, 7)
			assert.ErrorIs(t, err, raceproof.ErrFinished)
			assert.ErrorIs(t, w.DB.Transact(kept, func(context.Context) error { panic("called") }), raceproof.ErrFinished)
			for _, p := range w.Patterns() {
				_, err := p.Update(kept, 7, world.Award(1))
				assert.ErrorIs(t, err, raceproof.ErrFinished, p.Name)
			}
		}
		w.Unchanged()
	})
}

// A function that does not return is rolled back, at every level, and its connection is given back.
func TestFunctionsThatDoNotReturn(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		w.Pool.SetMaxOpenConns(1)
		for name, leave := range map[string]func(){"panics": func() { panic(errCause) }, "ends": runtime.Goexit} {
			for depth := range 3 {
				for _, reading := range []bool{false, true} {
					var f func(int) func(context.Context) error
					f = func(depth int) func(context.Context) error {
						return func(ctx context.Context) error {
							assert.NoError(t, exec(ctx, w.DB, writeAda))
							if depth > 0 {
								return w.DB.Transact(ctx, f(depth-1))
							}
							if reading { // the rows are still open
								_, err := w.DB.Ext(ctx).QueryContext(ctx, `SELECT * FROM players`)
								assert.NoError(t, err)
							}
							leave()
							return nil
						}
					}
					panicked, ended := alone(func() { _ = w.DB.Transact(minute(t), f(depth)) })
					assert.False(t, ended, name)
					assert.Equal(t, map[string]any{"panics": errCause, "ends": nil}[name], panicked)
					w.Idle(w.Pool)
					w.Unchanged(name, depth)
					_, err := w.Pool.Exec(`UPDATE players SET level = 0 WHERE id = 7`)
					require.NoError(t, err)
				}
			}
		}
	})
}

// Transact returns what its function does, as it is.
func TestOwnErrors(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		for _, nested := range []bool{false, true} {
			f := func(ctx context.Context) error {
				require.NoError(t, exec(ctx, w.DB, writeAda))
				return errOwn
			}
			err := w.DB.Transact(minute(t), func(ctx context.Context) error {
				if nested {
					return w.DB.Transact(ctx, f)
				}
				return f(ctx)
			})
			assert.True(t, err == errOwn, "%v", err)
		}
		w.Unchanged()
	})
}
