package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof/racetest"
)

// sqlxAdds reads a row into a struct and writes the struct back, with whatever is behind the SELECT.
func (w *world) sqlxAdds(n int64, behind string) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) (err error) {
		tx, err := sqlx.NewDb(db, w.Driver).BeginTxx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, tx.Rollback())
			}
		}()
		var a Account
		if err := tx.GetContext(ctx, &a, tx.Rebind(`SELECT * FROM accounts WHERE id = ?`+behind), 1); err != nil {
			return err
		}
		a.Balance += n
		if _, err := tx.NamedExecContext(ctx, `UPDATE accounts SET balance = :balance WHERE id = :id`, a); err != nil {
			return err
		}
		return tx.Commit()
	}
}

func TestSqlx(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		plain := func(n int64) func(context.Context, *sql.DB) error {
			return func(ctx context.Context, pool *sql.DB) error {
				db := sqlx.NewDb(pool, w.Driver)
				var a Account
				if err := db.GetContext(ctx, &a, db.Rebind(`SELECT * FROM accounts WHERE id = ?`), 1); err != nil {
					return err
				}
				a.Balance += n
				_, err := db.NamedExecContext(ctx, `UPDATE accounts SET balance = :balance WHERE id = :id`, a)
				return err
			}
		}
		f := caught(t, w.race(plain(5), plain(10)), racetest.Invariant)
		assert.Equal(t, "a b b a", f.Token)
		s := w.race(w.sqlxAdds(5, ""), w.sqlxAdds(10, ""))
		if w.Dialect == "sqlite" {
			turnedAway(t, s)
			return
		}
		caught(t, s, racetest.Invariant)
		r := racetest.Explore(t, w.race(w.sqlxAdds(5, " FOR UPDATE"), w.sqlxAdds(10, " FOR UPDATE")))
		assert.Positive(t, r.Blocked)
	})
}

// What sqlc generates of two queries, for database/sql.
type (
	dbtx interface {
		ExecContext(context.Context, string, ...interface{}) (sql.Result, error)
		PrepareContext(context.Context, string) (*sql.Stmt, error)
		QueryContext(context.Context, string, ...interface{}) (*sql.Rows, error)
		QueryRowContext(context.Context, string, ...interface{}) *sql.Row
	}
	queries struct {
		db     dbtx
		rebind func(string) string // sqlc writes the placeholders of one database
	}
)

const getAccount = `-- name: GetAccount :one
SELECT id, balance, version FROM accounts
WHERE id = ? LIMIT 1
`

func (q *queries) GetAccount(ctx context.Context, id int64) (Account, error) {
	row := q.db.QueryRowContext(ctx, q.rebind(getAccount), id)
	var i Account
	err := row.Scan(&i.ID, &i.Balance, &i.Version)
	return i, err
}

const setBalance = `-- name: SetBalance :exec
UPDATE accounts
SET balance = ?
WHERE id = ?
`

func (q *queries) SetBalance(ctx context.Context, id, balance int64) error {
	_, err := q.db.ExecContext(ctx, q.rebind(setBalance), balance, id)
	return err
}

const addBalance = `-- name: AddBalance :one
UPDATE accounts
SET balance = balance + ?
WHERE id = ?
`

func (q *queries) AddBalance(ctx context.Context, id, n int64) error {
	_, err := q.db.ExecContext(ctx, q.rebind(addBalance), n, id)
	return err
}

func (q *queries) WithTx(tx *sql.Tx) *queries { return &queries{tx, q.rebind} }

func TestSqlc(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		calls := func(f func(context.Context, *queries) error) func(context.Context, *sql.DB) error {
			return func(ctx context.Context, db *sql.DB) error {
				return f(ctx, &queries{db, sqlx.NewDb(db, w.Driver).Rebind})
			}
		}
		sets := func(n int64) func(context.Context, *queries) error {
			return func(ctx context.Context, q *queries) error {
				a, err := q.GetAccount(ctx, 1)
				if err != nil {
					return err
				}
				return q.SetBalance(ctx, 1, a.Balance+n)
			}
		}
		adds := func(n int64) func(context.Context, *queries) error {
			return func(ctx context.Context, q *queries) error { return q.AddBalance(ctx, 1, n) }
		}
		inTx := func(f func(context.Context, *queries) error) func(context.Context, *sql.DB) error {
			return func(ctx context.Context, db *sql.DB) error {
				return begin(ctx, db, nil, func(tx *sql.Tx) error {
					return f(ctx, (&queries{db, sqlx.NewDb(db, w.Driver).Rebind}).WithTx(tx))
				})
			}
		}
		caught(t, w.race(calls(sets(5)), calls(sets(10))), racetest.Invariant)
		racetest.Explore(t, w.race(calls(adds(5)), inTx(adds(10))))
		s := w.race(inTx(sets(5)), inTx(sets(10)))
		if w.Dialect == "sqlite" {
			turnedAway(t, s)
			return
		}
		caught(t, s, racetest.Invariant)
	})
}
