package transactions_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// eachRefusal runs a test with a world for each refusal that a database has.
func eachRefusal(t *testing.T, test func(*testing.T, *world.World, refusal)) {
	for _, r := range refusals {
		t.Run(r.name, func(t *testing.T) {
			each(t, r.on, func(t *testing.T, d databases.Database) {
				w := world.New(t, d, r.options(d))
				w.Look.MustExec(`INSERT INTO players VALUES (9, 'Cid', 1, 0, 0)`) // what a transaction has done besides
				w.Look.MustExec(`CREATE TABLE doors (n BIGINT)`)
				test(t, w, r)
			})
		})
	}
}

const countCid = `UPDATE players SET level = level + 1 WHERE id = 9`

// What is made of the error of a refusal by the function that meets it.
var replies = []struct {
	name     string
	of       func(error) error
	lastWord bool // the error is gone, so that only a doomed transaction is made again
	own      bool // there is one of the function's own in its place
}{
	{"as it is", func(err error) error { return err }, false, false},
	{"wrapped", func(err error) error { return fmt.Errorf("%w, and more: %w", errOwn, err) }, false, false},
	{"as a text", func(err error) error { return fmt.Errorf("%v", err) }, true, true},
	{"another error", func(error) error { return errOwn }, true, true},
	{"none", func(error) error { return nil }, true, false},
}

// Whatever is refused on account of another is made again, and is there once; also if the error is hidden, if the
// transaction can only be rolled back.
func TestMadeAgain(t *testing.T) {
	eachRefusal(t, func(t *testing.T, w *world.World, r refusal) {
		for _, reply := range replies {
			about := reply.name
			calls := 0
			err := w.DB.Transact(minute(t), func(ctx context.Context) error {
				require.NoError(t, exec(ctx, w.DB, countCid))
				if calls++; calls > 2 {
					return nil
				}
				err := r.provoke(t, ctx, w)
				if err == nil {
					return nil // it comes with COMMIT
				}
				return reply.of(err)
			}, raceproof.Isolation(r.level))
			// A lock that was not free can be one that the function has not wanted to wait for: its own error is its last word.
			doomed := r.dooms(w.Database) && !(reply.own && r.want == raceproof.ErrLocked)
			if !reply.lastWord || doomed {
				require.NoError(t, err, about)
				assert.Equal(t, 3, calls, about)
				assert.Equal(t, int64(1), w.Row(9).Level, about)
			} else {
				assert.Equal(t, 1, calls, "%s: %v", about, err)
			}
			w.Reset()
			w.Look.MustExec(`UPDATE players SET level = 0 WHERE id = 9`)
		}
		w.Idle(w.Pool)
	})
}

// A refusal inside that the function around it handles is no failure of that, and nothing is called again, unless the
// database has given up the whole.
func TestRefusedInside(t *testing.T) {
	eachRefusal(t, func(t *testing.T, w *world.World, r refusal) {
		if r.level == sql.LevelSerializable {
			return // it comes with COMMIT
		}
		outer, inner := 0, 0
		err := w.DB.Transact(minute(t), func(ctx context.Context) error {
			outer++
			require.NoError(t, exec(ctx, w.DB, countCid))
			_ = w.DB.Transact(ctx, func(ctx context.Context) error {
				if inner++; inner > 1 {
					return nil
				}
				err := r.provoke(t, ctx, w)
				assert.Error(t, err)
				return err
			})
			if err := exec(ctx, w.DB, countCid); err != nil {
				return errOwn // which hides why
			}
			return nil
		}, raceproof.Isolation(r.level), tries(3))
		require.NoError(t, err)
		whole := onMariaDB(w.Database) && r.dooms(w.Database)
		assert.Equal(t, map[bool]int{true: 2, false: 1}[whole], outer)
		assert.Equal(t, outer, inner)
		assert.Equal(t, int64(2), w.Row(9).Level)
	})
}

// When the attempts are used up the error tells how many there were, and what the last of them failed with.
func TestAttemptsUsedUp(t *testing.T) {
	eachRefusal(t, func(t *testing.T, w *world.World, r refusal) {
		for _, most := range []int{1, 2, 4} {
			calls := 0
			var last error
			err := w.DB.Transact(minute(t), func(ctx context.Context) error {
				calls++
				require.NoError(t, exec(ctx, w.DB, countCid))
				last = r.provoke(t, ctx, w)
				return last
			}, raceproof.Isolation(r.level), tries(most))
			assert.Equal(t, most, calls)
			var told *raceproof.RetryError
			require.ErrorAs(t, err, &told)
			require.Same(t, told, err, "it is not wrapped in anything")
			assert.Equal(t, most, told.Attempts)
			assert.NoError(t, told.Ended)
			assert.ErrorIs(t, err, r.want)
			assert.NotErrorIs(t, err, map[error]error{raceproof.ErrConflict: raceproof.ErrLocked,
				raceproof.ErrLocked: raceproof.ErrConflict}[r.want])
			assert.NotErrorIs(t, err, raceproof.ErrRetryBudget)
			if last != nil {
				assert.ErrorIs(t, err, last, "the last attempt's own")
			} else {
				var state interface{ SQLState() string }
				require.ErrorAs(t, err, &state, "the driver's own error")
				assert.Equal(t, "40001", state.SQLState())
			}
			assert.Equal(t, int64(0), w.Row(9).Level)
			w.Reset()
			w.Look.MustExec(`UPDATE players SET level = 0 WHERE id = 9`)
		}
		w.Idle(w.Pool)
	})
}

// One who cannot be called back waits no longer than his connection does, and once.
func TestLockedWithoutEnd(t *testing.T) {
	eachRefusal(t, func(t *testing.T, w *world.World, r refusal) {
		if r.want != raceproof.ErrLocked {
			return
		}
		calls := 0
		err := w.DB.Transact(context.Background(), func(ctx context.Context) error {
			calls++
			return r.provoke(t, ctx, w)
		})
		assert.ErrorIs(t, err, raceproof.ErrLocked)
		assert.Equal(t, 1, calls)
		w.Unchanged()
	})
}

// On SQLite it is the beginning that waits for the one who has the write lock, so that the function is called once.
func TestBusyBeginning(t *testing.T) {
	eachWorld(t, onSQLite, func(t *testing.T, w *world.World) {
		_, rollback := w.Hold(7)
		calls := 0
		f := func(ctx context.Context) error { calls++; return exec(ctx, w.DB, writeAda) }
		short, cancel := context.WithTimeoutCause(t.Context(), 30*time.Millisecond, errCause)
		err := w.DB.Transact(short, f)
		cancel()
		for _, want := range []error{raceproof.ErrLocked, context.DeadlineExceeded, errCause} {
			assert.ErrorIs(t, err, want)
		}
		assert.Zero(t, calls)
		done := make(chan error, 1)
		go func() { done <- w.DB.Transact(minute(t), f) }()
		rollback()
		require.NoError(t, <-done)
		assert.Equal(t, 1, calls)
		scores(t, w, 2, 1)
	})
}

// Everything else is the last word.
func TestNotMadeAgain(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		other := world.New(t, w.Database, databases.Options{})
		lent := func(ctx context.Context) { require.NoError(t, exec(ctx, w.DB, writeBob)) }
		// Another database's conflict, met by an updater of one attempt, and by a transaction of one.
		theirs := func(ctx context.Context) error {
			return other.DB.Transact(context.WithoutCancel(ctx), func(ctx context.Context) error { return overtaken(ctx, other) }, tries(1))
		}
		for name, c := range map[string]struct {
			f    func(context.Context) error
			want error // nil: none at all
		}{
			"its own error": {func(ctx context.Context) error { lent(ctx); return errOwn }, errOwn},
			"its own error, called a conflict": {func(ctx context.Context) error {
				lent(ctx)
				return fmt.Errorf("mine: %w", raceproof.ErrConflict)
			}, raceproof.ErrConflict},
			"a RetryError of its own making": {func(context.Context) error {
				return &raceproof.RetryError{Attempts: 7, Last: raceproof.ErrConflict}
			}, raceproof.ErrConflict},
			"a constraint": {func(ctx context.Context) error {
				err := exec(ctx, w.DB, violate)
				require.Error(t, err)
				return errors.Join(errOwn, err)
			}, errOwn},
			"a constraint, by a query of one row": {func(ctx context.Context) error {
				err := w.DB.Ext(ctx).QueryRowxContext(ctx, violate).Scan(new(int))
				require.Error(t, err)
				return errors.Join(errOwn, err)
			}, errOwn},
			"no row": {func(ctx context.Context) error {
				_, err := w.Pattern("lock").Update(ctx, 99, world.Award(1))
				return err
			}, raceproof.ErrNotFound},
			"a condition": {func(ctx context.Context) error { return guarded(ctx, w) }, raceproof.ErrConditionFailed},
			"a conflict inside that was handled": {func(ctx context.Context) error {
				assert.ErrorIs(t, w.DB.Transact(ctx, func(ctx context.Context) error { return overtaken(ctx, w) }), raceproof.ErrConflict)
				return nil
			}, nil},
			"a conflict inside that was handled, and then an error": {func(ctx context.Context) error {
				assert.ErrorIs(t, w.DB.Transact(ctx, func(ctx context.Context) error { return overtaken(ctx, w) }), raceproof.ErrConflict)
				return errOwn
			}, errOwn},
			"another database's conflict": {func(ctx context.Context) error { return theirs(ctx) }, raceproof.ErrConflict},
			"another database's conflict, after a statement": {func(ctx context.Context) error {
				lent(ctx)
				return theirs(ctx)
			}, raceproof.ErrConflict},
			"another database's conflict, inside": {func(ctx context.Context) error {
				lent(ctx)
				return w.DB.Transact(ctx, theirs)
			}, raceproof.ErrConflict},
			"another database's updater": {func(ctx context.Context) error {
				return once(ctx, other)
			}, raceproof.ErrConflict},
			"it is not known": {func(context.Context) error {
				return fmt.Errorf("%w: %w", raceproof.ErrCommitUnknown, raceproof.ErrConflict)
			}, raceproof.ErrCommitUnknown},
			"the context's end": {func(context.Context) error { return context.DeadlineExceeded }, context.DeadlineExceeded},
		} {
			calls := 0
			var returned error
			err := w.DB.Transact(minute(t), func(ctx context.Context) error {
				calls++
				returned = c.f(ctx)
				return returned
			}, tries(3))
			assert.Equal(t, 1, calls, name)
			if c.want == nil {
				assert.NoError(t, err, name)
			} else {
				assert.ErrorIs(t, err, c.want, name)
				assert.True(t, err == returned, "%s: it is as it was returned: %v", name, err)
				assert.Equal(t, int64(1), w.Row(8).Score, "%s: nothing was done", name)
			}
			w.Reset()
		}

		calls := 0
		panicked, _ := alone(func() {
			_ = w.DB.Transact(minute(t), func(ctx context.Context) error {
				calls++
				panic(overtaken(ctx, w)) // a panic is no error, whatever it is about
			})
		})
		assert.Equal(t, 1, calls)
		assert.ErrorIs(t, panicked.(error), raceproof.ErrConflict)
	})
}
