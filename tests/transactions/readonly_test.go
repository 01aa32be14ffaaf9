package transactions_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// snapshot is what makes a transaction see one state of the database throughout.
func snapshot(d databases.Database) []raceproof.TransactOption {
	if d.Kind == "" {
		return []raceproof.TransactOption{raceproof.ReadOnly()}
	}
	return []raceproof.TransactOption{raceproof.ReadOnly(), raceproof.Isolation(sql.LevelRepeatableRead)}
}

// Writes are refused by the database, whoever sends them and whatever becomes of the error; the same connection writes
// again afterwards.
func TestReadOnlyRefusesWrites(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		w.Pool.SetMaxOpenConns(1)
		var writes []func(context.Context) error
		for _, statement := range []string{writeAda, `INSERT INTO players VALUES (9, 'Cid', 1, 0, 0)`, `DELETE FROM players WHERE id = 7`} {
			writes = append(writes, func(ctx context.Context) error { return exec(ctx, w.DB, statement) })
		}
		for _, p := range w.Patterns() {
			writes = append(writes, func(ctx context.Context) error {
				_, err := p.Update(ctx, 7, world.Award(1))
				return err
			})
		}
		for i, write := range writes {
			for _, nested := range []bool{false, true} {
				for _, swallows := range []bool{false, true} {
					err := w.DB.Transact(minute(t), func(ctx context.Context) error {
						err := write(ctx)
						if nested {
							err = w.DB.Transact(ctx, write, raceproof.ReadOnly())
						}
						require.Error(t, err, "write %d", i)
						assert.NotErrorIs(t, err, raceproof.ErrConflict)
						if swallows {
							return nil
						}
						return err
					}, raceproof.ReadOnly())
					if !swallows {
						require.Error(t, err, "write %d", i)
						assert.NotErrorIs(t, err, raceproof.ErrUnsupported)
					}
					w.Unchanged("write", i)
				}
			}
			_, err := w.Pool.Exec(writeBob)
			require.NoError(t, err, "after write %d the connection is as it was", i)
			require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error { return exec(ctx, w.DB, writeBob) }))
			scores(t, w, 1, 3)
			w.Reset()
		}
		var n int
		require.NoError(t, w.Look.Get(&n, `SELECT count(*) FROM players`))
		assert.Equal(t, 2, n)
	})
}

// However it ends, the connection writes again.
func TestReadOnlyEndings(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		w.Pool.SetMaxOpenConns(1)
		for name, f := range map[string]func(context.Context, context.CancelFunc) error{
			"returns":          func(context.Context, context.CancelFunc) error { return nil },
			"fails":            func(context.Context, context.CancelFunc) error { return errOwn },
			"panics":           func(context.Context, context.CancelFunc) error { panic("now") },
			"its context ends": func(_ context.Context, cancel context.CancelFunc) error { cancel(); return nil },
			"rows left open": func(ctx context.Context, _ context.CancelFunc) error {
				_, err := w.DB.Ext(ctx).QueryContext(ctx, `SELECT * FROM players`)
				return err
			},
		} {
			ctx, cancel := context.WithCancel(minute(t))
			alone(func() {
				_ = w.DB.Transact(ctx, func(ctx context.Context) error {
					_, err := scoreOf(ctx, w.DB, 7)
					assert.NoError(t, err, name)
					return f(ctx, cancel)
				}, raceproof.ReadOnly())
			})
			cancel()
			_, err := w.Pool.Exec(writeBob)
			require.NoError(t, err, name)
			w.Reset()
		}
	})
}

// All that it reads is of one moment, though somebody commits in between.
func TestReadOnlySnapshot(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		err := w.DB.Transact(minute(t), func(ctx context.Context) error {
			read := func(ctx context.Context, id, want int64) {
				t.Helper()
				n, err := scoreOf(ctx, w.DB, id)
				require.NoError(t, err)
				assert.Equal(t, want, n)
			}
			if w.Kind == "" { // there it is the moment when it begins, and not that of the first read
				w.Look.MustExec(writeAda)
			}
			read(ctx, 7, 1)
			w.Look.MustExec(writeAda)
			w.Look.MustExec(writeBob)
			read(ctx, 7, 1)
			read(ctx, 8, 1)
			return w.DB.Transact(ctx, func(ctx context.Context) error {
				read(ctx, 8, 1)
				return nil
			}, raceproof.ReadOnly())
		}, snapshot(w.Database)...)
		require.NoError(t, err)
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			n, err := scoreOf(ctx, w.DB, 8)
			assert.Equal(t, int64(2), n, "the next one sees what is there then")
			return err
		}, snapshot(w.Database)...))
	})
}

// Who only reads keeps nobody from writing: neither another pool, nor the writers of the same DB, who on SQLite have a
// queue. And nobody who writes keeps him from reading.
func TestReadOnlyTakesNoTurn(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		err := w.DB.Transact(minute(t), func(ctx context.Context) error {
			_, err := scoreOf(ctx, w.DB, 7)
			require.NoError(t, err)
			w.Look.MustExec(writeAda)
			for _, p := range w.Patterns() {
				_, err := p.Update(minute(t), 7, world.Award(10)) // not with the transaction's context
				require.NoError(t, err, p.Name)
			}
			return nil
		}, raceproof.ReadOnly())
		require.NoError(t, err)
		scores(t, w, 32, 1)

		err = w.DB.Transact(minute(t), func(ctx context.Context) error {
			require.NoError(t, exec(ctx, w.DB, writeAda))
			return w.DB.Transact(minute(t), func(ctx context.Context) error { // beside it, not in it
				n, err := scoreOf(ctx, w.DB, 7)
				assert.Equal(t, int64(32), n)
				return err
			}, raceproof.ReadOnly())
		})
		require.NoError(t, err)
		scores(t, w, 33, 1)
	})
}

// Inside one that writes it cannot be had; inside one that reads there is nothing else.
func TestReadOnlyInside(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		err := w.DB.Transact(minute(t), func(ctx context.Context) error {
			err := w.DB.Transact(ctx, func(context.Context) error { panic("called") }, raceproof.ReadOnly())
			assert.ErrorIs(t, err, raceproof.ErrUnsupported)
			return exec(ctx, w.DB, writeAda)
		})
		require.NoError(t, err)
		err = w.DB.Transact(minute(t), func(ctx context.Context) error {
			return w.DB.Transact(ctx, func(ctx context.Context) error { return exec(ctx, w.DB, writeAda) })
		}, raceproof.ReadOnly())
		require.Error(t, err, "that it says nothing makes it no writer")
		scores(t, w, 2, 1)
	})
}

// A connection of SQLite that refuses writes by itself goes on doing so.
func TestQueryOnlyStays(t *testing.T) {
	each(t, onSQLite, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{}) // makes the table
		pool, db := w.Open(queryOnly(d))
		pool.SetMaxOpenConns(1)
		for _, ending := range []error{nil, errOwn} {
			require.ErrorIs(t, db.Transact(minute(t), func(ctx context.Context) error {
				_, err := scoreOf(ctx, db, 7)
				require.NoError(t, err)
				return ending
			}, raceproof.ReadOnly()), ending)
			var is bool
			require.NoError(t, pool.Get(&is, `PRAGMA query_only`))
			assert.True(t, is)
			_, err := pool.Exec(writeAda)
			require.Error(t, err)
		}
		w.Unchanged()
	})
}
