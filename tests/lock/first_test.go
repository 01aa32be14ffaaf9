package lock_test

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// The version rises by one, whatever the function does, and whether T has it or not.
func TestUpdateFirst(t *testing.T) {
	type bare struct {
		ID    int64 `db:"id"`
		Score int64 `db:"score"`
	}
	hidden := raceproof.MustTable[bare]("players", raceproof.WithVersion("version"))
	each(t, everywhere, func(t *testing.T, w *world.World) {
		first := &lock.Options{UpdateFirst: true}
		u, h := updater(t, w, first), lock.New(w.DB, hidden, first)
		require.NoError(t, h.Err())
		version := int64(0)
		rises := func(about string, err error) {
			t.Helper()
			require.NoError(t, err, about)
			version++
			assert.Equal(t, version, w.Row(7).Version, about)
		}
		for _, points := range []int64{0, 1} {
			p, err := u.Update(minute(t), 7, add(points))
			rises("an update", err)
			assert.Equal(t, w.Row(7), p)
			_, err = h.Update(minute(t), 7, func(_ context.Context, b *bare) error { b.Score += points; return nil })
			rises("a hidden version", err)
			p, err = u.Upsert(minute(t), 7, named("Ada"), add(points))
			rises("an upsert", err)
			assert.Equal(t, w.Row(7), p)
			rises("inside a transaction", w.DB.Transact(minute(t), func(ctx context.Context) error {
				p, err := u.Update(ctx, 7, add(points))
				assert.Equal(t, version+1, p.Version)
				return err
			}))
		}
		rises("a selection", w.DB.Transact(minute(t), func(ctx context.Context) error {
			p, err := lock.Select(ctx, w.DB, world.Players, 7, first)
			assert.Equal(t, version+1, p.Version)
			return err
		}))
		assert.EqualValues(t, 5, w.Row(7).Score)
		_, err := u.Update(minute(t), 7, func(context.Context, *world.Player) error { return errOwn })
		assert.Equal(t, errOwn, err)
		_, err = u.Update(minute(t), 7, func(ctx context.Context, p *world.Player) error {
			p.Score++
			return exec(ctx, w, `UPDATE players SET score = 70 WHERE id = 7`)
		})
		assert.ErrorIs(t, err, raceproof.ErrConflict, "the function itself has changed the row, without its version")
		_, err = u.Update(minute(t), 7, func(ctx context.Context, p *world.Player) error {
			p.Score++
			_, err := updater(t, w, nil).Update(ctx, 7, add(1))
			return err
		})
		assert.ErrorIs(t, err, raceproof.ErrConflict, "and with it")
		assert.Equal(t, world.Player{ID: 7, Name: "Ada", Score: 5, Version: version}, w.Row(7))
		_, err = u.Update(minute(t), 99, add(1))
		assert.ErrorIs(t, err, raceproof.ErrNotFound)
	})
}

// A version that is full cannot be raised, and the row is left as it is.
func TestUpdateFirstFull(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		_, err := w.Look.Exec(w.Look.Rebind(`UPDATE players SET version = ? WHERE id = 7`), int64(math.MaxInt64))
		require.NoError(t, err)
		first := &lock.Options{UpdateFirst: true}
		calls := 0
		_, err = updater(t, w, first).Update(minute(t), 7, func(context.Context, *world.Player) error { calls++; return nil })
		assert.ErrorIs(t, err, raceproof.ErrOutOfRange)
		assert.Zero(t, calls)
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			_, err := lock.Select(ctx, w.DB, world.Players, 7, first)
			assert.ErrorIs(t, err, raceproof.ErrOutOfRange)
			return exec(ctx, w, `UPDATE players SET level = 1 WHERE id = 7`)
		}))
		assert.Equal(t, world.Player{ID: 7, Name: "Ada", Score: 1, Level: 1, Version: math.MaxInt64}, w.Row(7))
		_, err = w.Look.Exec(w.Look.Rebind(`UPDATE players SET version = ? WHERE id = 7`), int64(math.MaxInt64-1))
		require.NoError(t, err)
		p, err := updater(t, w, first).Update(minute(t), 7, add(1))
		assert.NoError(t, err, "the last one")
		assert.EqualValues(t, math.MaxInt64, p.Version)
	})
}
