package transactions_test

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// nowait fails at once while somebody else holds Bob's row.
const nowait = `SELECT 1 FROM players WHERE id = 8 FOR UPDATE NOWAIT`

// refusedElsewhere returns a refusal by another DB: as the driver has it, and as what Transact has made of it.
func refusedElsewhere(t *testing.T, w *world.World) (driver, told error) {
	t.Helper()
	other := world.New(t, w.Database, byDefault(w.Database))
	_, rollback := other.Hold(8)
	defer rollback()
	told = other.DB.Transact(minute(t), func(ctx context.Context) error {
		driver = exec(ctx, other.DB, nowait)
		return driver
	}, tries(2))
	require.ErrorIs(t, told, raceproof.ErrLocked)
	return driver, told
}

// What the function has committed itself, and nobody could see it coming, is not done twice on account of a refusal that
// was somewhere else.
func TestCommittedThenRefusedElsewhere(t *testing.T) {
	eachWorld(t, onServers, func(t *testing.T, w *world.World) {
		driver, told := refusedElsewhere(t, w)
		commit := `/* x */ COMMIT`
		if w.Kind == servers.MariaDB {
			commit = `CREATE TABLE IF NOT EXISTS doors (n BIGINT)`
		}
		// A row that the function asks for first can end with an error that only the function sees, so that it is looked into.
		ask := func(ctx context.Context) error { _, err := scoreOf(ctx, w.DB, 7); return err }
		for name, before := range map[string]func(context.Context) error{"at once": nothing, "after a row": ask} {
			for _, theirs := range []error{driver, told} {
				calls := 0
				err := w.DB.Transact(minute(t), func(ctx context.Context) error {
					calls++
					require.NoError(t, before(ctx))
					require.NoError(t, exec(ctx, w.DB, writeAda))
					require.NoError(t, exec(ctx, w.DB, commit))
					return theirs
				}, tries(4))
				about := []any{"%s, %T: %v", name, theirs, err}
				assert.Equal(t, 1, calls, about...)
				assert.ErrorIs(t, err, theirs, about...)
				assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, about...)
				scores(t, w, 2, 1, about...)
				w.Reset()
			}
		}
	})
}

// A lock that is waited for in vain after the first of a query's rows is known only to who reads them, and is a reason to
// call the function again as any other.
func TestLockedAmongRows(t *testing.T) {
	each(t, onMariaDB, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, parameter(d, "", "innodb_lock_wait_timeout", "1"))
		w.Look.MustExec(`INSERT INTO players VALUES (9, 'Cid', 1, 0, 0), (10, 'Dan', 1, 0, 0)`)
		for _, caller := range callers {
			commit, _ := w.Hold(10)
			calls := 0
			var first error
			err := caller.call(minute(t), w, func(ctx context.Context) error {
				if calls++; calls == 2 {
					commit()
				}
				var ids []int64
				err := sqlx.SelectContext(ctx, w.DB.Ext(ctx), &ids, `SELECT id FROM players WHERE id >= 8 ORDER BY id FOR UPDATE`)
				if calls == 1 {
					first = err
				}
				return err
			})
			assert.Error(t, first, "%s: it has met the lock", caller.name)
			assert.NoError(t, err, caller.name)
			assert.Equal(t, 2, calls, caller.name)
			if calls == 1 {
				commit()
			}
		}
		assert.Equal(t, int64(2), w.Row(7).Score, "the locked row was written once")
		w.Idle(w.Pool)
	})
}

// What the function does with a transaction that the database has given up among the rows of a query changes nothing: it
// was refused on account of somebody else's, and the function has said so.
func TestRefusedAmongRowsThenAnotherStatement(t *testing.T) {
	eachWorld(t, onPostgres, func(t *testing.T, w *world.World) {
		calls := 0
		err := w.DB.Transact(minute(t), func(ctx context.Context) error {
			calls++
			var ids []int64
			// What is read from now on is as it was by now. Not by a QueryRowx, after which more is looked into.
			if err := sqlx.SelectContext(ctx, w.DB.Ext(ctx), &ids, `SELECT id FROM players WHERE id = 7`); err != nil {
				return err
			}
			if calls == 1 {
				w.Look.MustExec(writeBob)
			}
			ids = nil
			err := sqlx.SelectContext(ctx, w.DB.Ext(ctx), &ids, `SELECT id FROM players ORDER BY id FOR UPDATE`)
			if calls == 1 {
				assert.Error(t, err, "the second row has changed since")
				assert.Error(t, exec(ctx, w.DB, `SELECT 1`))
			}
			if err != nil {
				return err
			}
			return exec(ctx, w.DB, writeAda)
		}, raceproof.Isolation(sql.LevelRepeatableRead), tries(3))
		assert.NoError(t, err)
		assert.Equal(t, 2, calls)
		scores(t, w, 2, 2)
	})
}

// It is no matter which of the locks that it has met the function returns: it can have tried many rows before it gives up.
func TestFirstOfManyLocks(t *testing.T) {
	eachWorld(t, onMariaDB, func(t *testing.T, w *world.World) {
		const many, first = 20, 100
		var values []string
		var ids []int64
		for id := int64(first); id < first+many; id++ {
			ids = append(ids, id)
			values = append(values, fmt.Sprintf(`(%d, 'number %d', 1, 0, 0)`, id, id))
		}
		w.Look.MustExec(`INSERT INTO players VALUES ` + strings.Join(values, ", "))
		_, rollback := w.Hold(ids...)
		defer rollback()
		calls := 0
		err := w.DB.Transact(minute(t), func(ctx context.Context) error {
			calls++
			var met []error
			for _, id := range ids {
				met = append(met, exec(ctx, w.DB, fmt.Sprintf(`SELECT 1 FROM players WHERE id = %d FOR UPDATE NOWAIT`, id)))
			}
			require.False(t, slices.Contains(met, nil), "%v", met)
			return met[0]
		}, tries(3))
		assert.Equal(t, 3, calls)
		assert.ErrorIs(t, err, raceproof.ErrLocked)
	})
}
