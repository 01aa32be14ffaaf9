package once_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	dbatomic "github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// account is a row of another table, with the same key and the same arguments as a player.
type account struct {
	ID      int64 `db:"id"`
	Balance int64 `db:"balance"`
	Version int64 `db:"version"`
}

var accounts = raceproof.MustTable[account]("accounts")

// One key is for one update. A request that makes two is told so, instead of being told that both were made.
func TestWrapTwoUpdatersOneKey(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		w.Look.MustExec(`CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, version BIGINT NOT NULL)`)
		w.Look.MustExec(`INSERT INTO accounts VALUES (7, 100, 0)`)
		credit := once.Wrap(raceproof.Bind(dbatomic.New(w.DB, world.Players, nil), func(n int) dbatomic.Change {
			return dbatomic.Set("score", dbatomic.F("score").Add(n))
		}))
		debit := once.Wrap(raceproof.Bind(dbatomic.New(w.DB, accounts, nil), func(n int) dbatomic.Change {
			return dbatomic.Set("balance", dbatomic.F("balance").Sub(n))
		}))
		ctx := once.WithKey(minute(t), "request")
		_, err := credit.Update(ctx, 7, 10)
		require.NoError(t, err)
		row, err := debit.Update(ctx, 7, 10)
		assert.ErrorIs(t, err, once.ErrKeyReused)
		assert.Zero(t, row)
		var untouched account
		require.NoError(t, w.Look.Get(&untouched, `SELECT * FROM accounts`))
		assert.Equal(t, account{7, 100, 0}, untouched)
		assert.Equal(t, int64(10), gained(w))
	})
}

// A change in SQL is compared by what it does.
func TestWrapChanges(t *testing.T) {
	score := dbatomic.F("score")
	add := func(n int) dbatomic.Change { return dbatomic.Set("score", score.Add(n)) }
	for _, c := range []struct {
		name          string
		first, second dbatomic.Change
		same          bool
	}{
		{"the same", add(10), add(10), true},
		{"made in another way", add(10).If(score.Ge(0)).If(score.Lt(50)), add(10).If(score.Ge(0).And(score.Lt(50))), true},
		{"another operand", add(10), add(500), false},
		{"another operator", add(10), dbatomic.Set("score", score.Mul(10)), false},
		{"another column", add(10), dbatomic.Set("level", score.Add(10)), false},
		{"one column more", add(10), add(10).Set("level", 1), false},
		{"a condition", add(10), add(10).If(score.Ge(0)), false},
		{"another condition", add(10).If(score.Ge(0)), add(10).If(score.Gt(0)), false},
		{"a condition on another value", add(10).If(score.Ge(0)), add(10).If(score.Ge(1)), false},
		{"a text instead of a column", dbatomic.Set("name", dbatomic.F("name")), dbatomic.Set("name", "name"), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			onAll(t, func(t *testing.T, w *world.World) {
				u := once.Wrap(dbatomic.New(w.DB, world.Players, nil))
				ctx := once.WithKey(minute(t), "request")
				first, err := u.Update(ctx, 7, c.first)
				require.NoError(t, err)
				second, err := u.Update(ctx, 7, c.second)
				if c.same {
					require.NoError(t, err)
					assert.Equal(t, first, second)
				} else {
					assert.ErrorIs(t, err, once.ErrKeyReused)
				}
				assert.Equal(t, first, w.Row(7))
			}, "sqlite/mattn", "postgres/pgx", "mariadb/mysql") // drivers make no difference
		})
	}
}

// A column of JSON is the same when it has been stored as JSON, but for its spaces.
func TestWrapJSONColumn(t *testing.T) {
	type document struct {
		ID      int64           `db:"id"`
		Doc     json.RawMessage `db:"doc"`
		N       int64           `db:"n"`
		Version int64           `db:"version"`
	}
	types := map[servers.Kind][]string{servers.Postgres: {"JSONB", "JSON", "BYTEA"}, servers.MariaDB: {"JSON", "LONGTEXT"}, "": {"BLOB"}}
	onAll(t, func(t *testing.T, w *world.World) {
		for _, kind := range types[w.Kind] {
			t.Run(kind, func(t *testing.T) {
				const stored = "{ \"a\":  [1, 2],\n\"b\" : \"x  y\" }"
				name := "of_" + strings.ToLower(kind)
				w.Look.MustExec(`CREATE TABLE ` + name + ` (id BIGINT PRIMARY KEY, doc ` + kind + ` NOT NULL, n BIGINT NOT NULL, version BIGINT NOT NULL)`)
				var given any = stored
				if kind == "BLOB" || kind == "BYTEA" {
					given = []byte(stored)
				}
				w.Look.MustExec(w.Look.Rebind(`INSERT INTO `+name+` VALUES (7, ?, 0, 0)`), given)
				u := once.Wrap(lock.New(w.DB, raceproof.MustTable[document](name), nil))
				ctx := once.WithKey(minute(t), kind)
				for range 2 {
					row, err := u.Update(ctx, 7, func(_ context.Context, d *document) error { d.N++; return nil })
					require.NoError(t, err)
					assert.JSONEq(t, stored, string(row.Doc))
					assert.Equal(t, document{7, row.Doc, 1, 1}, row)
				}
				row, err := u.Update(minute(t), 7, func(_ context.Context, d *document) error {
					d.Doc = json.RawMessage(`{"a" : null}`)
					return nil
				})
				require.NoError(t, err)
				assert.JSONEq(t, `{"a": null}`, string(row.Doc))
				assert.Equal(t, document{7, row.Doc, 1, 2}, row)
			})
		}
	})
}

// Without a key, inside a transaction, it is that which is exactly once or not.
func TestWrapWithoutKeyInTransaction(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		for _, p := range w.Patterns() {
			u := once.Wrap(p.Updater)
			both := func(end error) error {
				return w.DB.Transact(minute(t), func(ctx context.Context) error {
					for i := range int64(2) {
						row, err := u.Update(ctx, 7, world.Award(1))
						if err != nil {
							return err
						}
						assert.Equal(t, world.Player{ID: 7, Name: "Ada", Score: 2 + i, Version: 1 + i}, row, p.Name)
					}
					var n int
					require.NoError(t, w.DB.Ext(ctx).QueryRowxContext(ctx, `SELECT count(*) FROM raceproof_once`).Scan(&n))
					assert.Zero(t, n, p.Name)
					return end
				})
			}
			assert.Equal(t, errMine, both(errMine), p.Name)
			assert.Equal(t, world.Ada, w.Row(7), p.Name)
			require.NoError(t, both(nil), p.Name)
			assert.Equal(t, int64(2), gained(w), p.Name)
			assert.Zero(t, keys(t, w), p.Name)
			w.Reset()
		}
	})
}
