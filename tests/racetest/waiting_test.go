package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/raceproof/raceproof/racetest"
)

// A statement that waits for one row has locked another already. Who skips what is locked then finds nothing; in all other
// schedules he finds something.
func TestLockedWhileWaiting(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		if w.Dialect == "sqlite" {
			t.Skip("SQLite locks no rows")
		}
		holder := func(ctx context.Context, db *sql.DB) error {
			return begin(ctx, db, nil, func(tx *sql.Tx) error {
				return exec(ctx, tx, `UPDATE accounts SET version = 1 WHERE id = 2`)
			})
		}
		both := func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, `UPDATE accounts SET balance = 5 WHERE id IN (1, 2)`)
			return err
		}
		worker := func(ctx context.Context, db *sql.DB) error {
			var id int
			err := db.QueryRowContext(ctx, `SELECT id FROM accounts ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED`).Scan(&id)
			if errors.Is(err, sql.ErrNoRows) {
				return errors.New("nothing to do")
			}
			return err
		}
		for _, names := range [][3]string{{"a", "b", "c"}, {"a", "c", "b"}, {"b", "a", "c"}, {"b", "c", "a"}, {"c", "a", "b"}, {"c", "b", "a"}} {
			caught(t, racetest.Scenario{
				Open: w.connector, Setup: rows, Check: func(context.Context, *sql.DB, map[string]error) error { return nil },
				Actors: racetest.Actors{names[0]: holder, names[1]: worker, names[2]: both},
			}, racetest.ActorFailed)
		}
	})
}
