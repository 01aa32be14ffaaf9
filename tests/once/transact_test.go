package once_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// atLevels runs a test at each isolation level that the database has.
func atLevels(t *testing.T, test func(*testing.T, *world.World, sql.IsolationLevel), names ...string) {
	onAll(t, func(t *testing.T, w *world.World) {
		for _, level := range []sql.IsolationLevel{sql.LevelDefault, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
			if w.Kind == "" && (level == sql.LevelReadCommitted || level == sql.LevelRepeatableRead) {
				continue
			}
			w.Reset()
			w.Look.MustExec(`DELETE FROM raceproof_once`)
			t.Run(level.String(), func(t *testing.T) { test(t, w, level) })
		}
	}, names...)
}

// Inside the caller's transaction key, work and result live and die with that.
func TestInTransaction(t *testing.T) {
	atLevels(t, func(t *testing.T, w *world.World, level sql.IsolationLevel) {
		both := func(end error) error {
			calls := 0
			return w.DB.Transact(minute(t), func(ctx context.Context) error {
				calls = 0
				for range 2 {
					row, err := once.Do(ctx, w.DB, "a", func(ctx context.Context) (world.Player, error) {
						calls++
						return award(w, w.DB)(ctx)
					})
					if err != nil {
						return err
					}
					assert.Equal(t, int64(2), row.Score)
				}
				assert.Equal(t, 1, calls)
				return end
			}, raceproof.Isolation(level))
		}
		assert.ErrorIs(t, both(errMine), errMine)
		assert.Zero(t, gained(w))
		assert.False(t, taken(t, w, "a"))
		require.NoError(t, both(nil))
		assert.Equal(t, int64(1), gained(w))
		_, err := once.Do(minute(t), w.DB, "a", never(t))
		require.NoError(t, err)

		// A failure inside takes back the key, and leaves the rest.
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			_, err := award(w, w.DB)(ctx)
			require.NoError(t, err)
			_, err = once.Do(ctx, w.DB, "b", func(ctx context.Context) (int, error) {
				_, err := award(w, w.DB)(ctx)
				require.NoError(t, err)
				return 0, errMine
			})
			assert.ErrorIs(t, err, errMine)
			return nil
		}, raceproof.Isolation(level)))
		assert.Equal(t, int64(2), gained(w))
		assert.False(t, taken(t, w, "b"))
	})
}

// The key was committed by somebody else after the transaction has begun and read, so that its snapshot does not have it.
func TestKeyAfterSnapshot(t *testing.T) {
	atLevels(t, func(t *testing.T, w *world.World, level sql.IsolationLevel) {
		_, other := w.Open(databases.Options{})
		calls, attempts := 0, 0
		var row world.Player
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			var n int
			if err := w.DB.Ext(ctx).QueryRowxContext(ctx, `SELECT score FROM players WHERE id = 8`).Scan(&n); err != nil {
				return err
			}
			if attempts++; attempts == 1 {
				_, err := once.Do(minute(t), other, "a", func(ctx context.Context) (world.Player, error) {
					row, err := award(w, other)(ctx)
					row.Name = "theirs"
					return row, err
				})
				require.NoError(t, err)
			}
			var err error
			row, err = once.Do(ctx, w.DB, "a", func(ctx context.Context) (world.Player, error) {
				calls++
				return award(w, w.DB)(ctx)
			})
			return err
		}, raceproof.Isolation(level)))
		assert.Equal(t, "theirs", row.Name)
		assert.Zero(t, calls)
		assert.Equal(t, int64(1), gained(w))
		assert.LessOrEqual(t, attempts, 2)
	}, onServers...)
}
