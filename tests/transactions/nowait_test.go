package transactions_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	moderncsqlite "modernc.org/sqlite"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/session"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A caller is a way to have a function called in a transaction.
type caller struct {
	name string
	call func(context.Context, *world.World, func(context.Context) error) error
	most int // attempts
}

var callers = []caller{
	{"Transact", func(ctx context.Context, w *world.World, f func(context.Context) error) error {
		return w.DB.Transact(ctx, f, tries(5))
	}, 5},
	{"lock", func(ctx context.Context, w *world.World, f func(context.Context) error) error {
		_, err := lock.New(w.DB, world.Players, nil).Update(ctx, 7, func(ctx context.Context, p *world.Player) error {
			p.Score++
			return f(ctx)
		})
		return err
	}, session.DefaultPolicy.MaxAttempts},
}

// Who sends NOWAIT and returns the error has left it to the library when to try again, and that is bounded; who returns
// an error of his own has decided.
func TestNowait(t *testing.T) {
	eachWorld(t, onServers, func(t *testing.T, w *world.World) {
		_, rollback := w.Hold(8)
		free := sync.OnceFunc(rollback)
		defer free() // also if the test has failed
		for _, caller := range callers {
			for _, reply := range []struct {
				name  string
				of    func(error) error
				again bool
			}{
				{"as it is", func(err error) error { return err }, true},
				{"wrapped", func(err error) error { return fmt.Errorf("%w: %w", errOwn, err) }, true},
				{"another error", func(error) error { return errOwn }, false},
				{"as a text", func(err error) error { return errors.New(err.Error()) }, false},
			} {
				if reply.name == "wrapped" && caller.name == "lock" {
					continue // takes seconds, and nothing is looked at there that is not looked at as it is
				}
				about := caller.name + ", " + reply.name
				calls := 0
				var met, returned error
				err := caller.call(minute(t), w, func(ctx context.Context) error {
					calls++
					met = exec(ctx, w.DB, `SELECT 1 FROM players WHERE id = 8 FOR UPDATE NOWAIT`)
					require.Error(t, met)
					returned = reply.of(met)
					return returned
				})
				var told *raceproof.RetryError
				if !reply.again {
					assert.Equal(t, 1, calls, about)
					assert.True(t, err == returned, "%s: it is as it was returned: %v", about, err)
					continue
				}
				assert.Equal(t, caller.most, calls, about)
				require.ErrorAs(t, err, &told, about)
				assert.Equal(t, caller.most, told.Attempts, about)
				assert.NoError(t, told.Ended, about)
				assert.ErrorIs(t, err, raceproof.ErrLocked, about)
				assert.NotErrorIs(t, err, raceproof.ErrConflict, about)
				assert.ErrorIs(t, err, met, "%s: the last attempt's own", about)
			}
		}
		free()
		w.Unchanged()
		w.Idle(w.Pool)
	})
}

// As soon as the lock is free the next attempt has it.
func TestNowaitThenFree(t *testing.T) {
	eachWorld(t, onServers, func(t *testing.T, w *world.World) {
		for _, caller := range callers {
			_, rollback := w.Hold(8)
			free := sync.OnceFunc(rollback)
			defer free() // also if the test has failed
			calls := 0
			require.NoError(t, caller.call(minute(t), w, func(ctx context.Context) error {
				if calls++; calls == 3 {
					free()
				}
				return exec(ctx, w.DB, `SELECT 1 FROM players WHERE id = 8 FOR UPDATE NOWAIT`)
			}), caller.name)
			assert.Equal(t, 3, calls, caller.name)
		}
		w.Idle(w.Pool)
	})
}

// A lock of the transaction's own is in the way: it would be there the next time too, so nothing is made again.
func TestLockedByItself(t *testing.T) {
	eachWorld(t, onSQLite, func(t *testing.T, w *world.World) {
		for _, caller := range callers {
			calls := 0
			var returned error
			err := caller.call(minute(t), w, func(ctx context.Context) error {
				calls++
				rows, err := w.DB.Ext(ctx).QueryContext(ctx, `SELECT id FROM players`)
				require.NoError(t, err)
				defer func() { _ = rows.Close() }()
				require.True(t, rows.Next())
				returned = exec(ctx, w.DB, `DROP TABLE players`)
				return returned
			})
			assert.Equal(t, 1, calls, caller.name)
			assert.Equal(t, 6, sqliteCode(returned), "%s: %v", caller.name, returned)
			assert.ErrorIs(t, err, returned, caller.name)
			for _, not := range []error{raceproof.ErrLocked, raceproof.ErrConflict, raceproof.ErrCommitUnknown} {
				assert.NotErrorIs(t, err, not, caller.name)
			}
			var told *raceproof.RetryError
			assert.False(t, errors.As(err, &told), "%s: %v", caller.name, err)
			w.Unchanged(caller.name)
		}
		w.Idle(w.Pool)
	})
}

// sqliteCode returns the extended code of SQLite's error, and -1 if it is none.
func sqliteCode(err error) int {
	var onMattn sqlite3.Error
	var onModernc *moderncsqlite.Error
	switch {
	case errors.As(err, &onMattn):
		return int(onMattn.ExtendedCode)
	case errors.As(err, &onModernc):
		return onModernc.Code()
	}
	return -1
}
