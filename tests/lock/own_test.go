package lock_test

import (
	"context"
	"math"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A function that changes its row through its context, and leaves the one that it was given alone: the row is returned as it
// is then. If it has deleted it there is none to return.
func TestOwnStatements(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		u := updater(t, w, nil)
		change := func(ctx context.Context, _ *world.Player) error {
			_, err := u.Update(ctx, 7, add(5))
			return err
		}
		remove := func(ctx context.Context, _ *world.Player) error {
			return exec(ctx, w, `DELETE FROM players WHERE id = 7`)
		}
		for name, update := range map[string]func(context.Context, raceproof.Func[world.Player]) (world.Player, error){
			"Update": func(ctx context.Context, f raceproof.Func[world.Player]) (world.Player, error) {
				return u.Update(ctx, 7, f)
			},
			"Upsert": func(ctx context.Context, f raceproof.Func[world.Player]) (world.Player, error) {
				return u.Upsert(ctx, 7, named("Ada"), f)
			},
			"UpdateMany": func(ctx context.Context, f raceproof.Func[world.Player]) (world.Player, error) {
				rows, err := u.UpdateMany(ctx, []any{8, 7}, func(ctx context.Context, rows players) error { return f(ctx, rows[1]) })
				if err != nil {
					return world.Player{}, err
				}
				return rows[1], nil
			},
		} {
			got, err := update(minute(t), change)
			require.NoError(t, err, name)
			assert.EqualValues(t, 6, got.Score, name)
			assert.Equal(t, w.Row(7), got, name)
			require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
				got, err = update(ctx, change)
				return err
			}))
			assert.EqualValues(t, 11, got.Score, name)
			assert.Equal(t, w.Row(7), got, "%s, inside", name)
			w.Reset()
			calls := 0
			_, err = update(minute(t), func(ctx context.Context, p *world.Player) error { calls++; return remove(ctx, p) })
			assert.ErrorIs(t, err, raceproof.ErrConflict, name)
			assert.NotErrorIs(t, err, raceproof.ErrNotFound, name)
			assert.Equal(t, 1, calls, name)
			w.Unchanged(name)
		}
	})
}

// An unreadable is what no value of the database can be.
type unreadable string

func (*unreadable) Scan(any) error { return errOwn }

// A selection with UpdateFirst that fails has raised no version, and the transaction goes on.
func TestSelectFirstFails(t *testing.T) {
	broken := raceproof.MustTable[struct {
		ID      int64      `db:"id"`
		Name    unreadable `db:"name"`
		Version int64      `db:"version"`
	}]("players")
	first := &lock.Options{UpdateFirst: true}
	each(t, everywhere, func(t *testing.T, w *world.World) {
		fails := func(is error, f func(ctx context.Context) error) {
			t.Helper()
			before := []world.Player{w.Row(7), w.Row(8)}
			require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
				assert.ErrorIs(t, f(ctx), is)
				return exec(ctx, w, `UPDATE players SET level = level + 1 WHERE id = 7`)
			}))
			before[0].Level++
			assert.Equal(t, before, []world.Player{w.Row(7), w.Row(8)})
		}
		fails(errOwn, func(ctx context.Context) error {
			_, err := lock.Select(ctx, w.DB, broken, 7, first)
			return err
		})
		fails(errOwn, func(ctx context.Context) error {
			_, err := lock.SelectWhere(ctx, w.DB, broken, atomic.F("id").Ge(7), first)
			return err
		})
		_, err := w.Look.Exec(w.Look.Rebind(`UPDATE players SET version = ? WHERE id = 8`), int64(math.MaxInt64))
		require.NoError(t, err)
		fails(raceproof.ErrOutOfRange, func(ctx context.Context) error {
			_, err := lock.SelectWhere(ctx, w.DB, world.Players, atomic.F("id").Ge(7), first)
			return err
		})
	})
}

// The key stays what it is, though create has it in its hands; nothing is inserted if it changes it.
func TestUpsertKeyInPlace(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		tables(w)
		u := lock.New(w.DB, blobs, nil)
		change := func(_ context.Context, b *Blob) error { b.Code[0] = 'X'; return nil }
		upsert := func(ctx context.Context) error {
			key := []byte("abc")
			_, err := u.Upsert(ctx, key, change, nothing[Blob])
			assert.ErrorContains(t, err, "has given it the key")
			assert.Equal(t, "abc", string(key))
			return nil
		}
		require.NoError(t, upsert(minute(t)))
		require.NoError(t, w.DB.Transact(minute(t), upsert))
		var n int
		require.NoError(t, w.Look.Get(&n, `SELECT count(*) FROM blobs`))
		assert.Zero(t, n)
	})
}

// A key of 32 bits, of a row that is not there and then is.
func TestUpsertFloat(t *testing.T) {
	type weight struct {
		ID float32 `db:"id"`
		N  int64   `db:"n"`
	}
	each(t, everywhere, func(t *testing.T, w *world.World) {
		double := map[servers.Kind]string{"": "REAL", servers.Postgres: "DOUBLE PRECISION", servers.MariaDB: "DOUBLE"}[w.Kind]
		w.Look.MustExec(`CREATE TABLE weights (id ` + double + ` PRIMARY KEY, n BIGINT NOT NULL)`)
		u := lock.New(w.DB, raceproof.MustTable[weight]("weights"), nil)
		for n := range int64(2) {
			got, err := u.Upsert(minute(t), float32(1.25), nothing[weight], func(_ context.Context, r *weight) error { r.N++; return nil })
			require.NoError(t, err)
			assert.Equal(t, weight{1.25, n + 1}, got)
		}
	})
}

// create leaves rows open, across a network too: they are closed before anything else is sent.
func TestUpsertRowsLeftOpen(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		u := updater(t, w, nil)
		upsert := func(ctx context.Context, id int64, name string) error {
			_, err := u.Upsert(ctx, id, func(ctx context.Context, p *world.Player) error {
				p.Name = name
				rows, err := w.DB.Ext(ctx).QueryxContext(ctx, `SELECT id FROM players`)
				if err == nil {
					rows.Next()
				}
				return err
			}, add(1))
			return err
		}
		assert.NoError(t, upsert(minute(t), 9, "Cid"))
		assert.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error { return upsert(ctx, 10, "Dan") }))
		assert.Equal(t, world.Player{ID: 9, Name: "Cid", Score: 1, Version: 1}, w.Row(9))
		assert.Equal(t, world.Player{ID: 10, Name: "Dan", Score: 1, Version: 1}, w.Row(10))
	})
}
