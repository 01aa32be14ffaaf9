package racetest_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/tests/databases"
)

// In these, somebody is refused only between the statement of another and his COMMIT.
func TestTextsOfMariaDB(t *testing.T) {
	d := databases.Named("mariadb/mysql")
	for name, texts := range map[string][]string{
		"a quote in double quotes":     {"BEGIN", `SELECT "it\"s", balance FROM accounts WHERE id = 1 FOR UPDATE`, "COMMIT"},
		"no autocommit":                {"SET autocommit = 0", "UPDATE accounts SET balance = 5 WHERE id = 1", "COMMIT"},
		"no autocommit, by a variable": {"SET @@autocommit = 0", "UPDATE accounts SET balance = 5 WHERE id = 1", "COMMIT"},
	} {
		t.Run(d.Name+"/"+name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, d, databases.Options{})
			caught(t, racetest.Scenario{
				Open: w.connector, Setup: rows, Check: func(context.Context, *sql.DB, map[string]error) error { return nil },
				Actors: racetest.Actors{
					"alice": func(ctx context.Context, db *sql.DB) error {
						c, err := db.Conn(ctx)
						if err != nil {
							return err
						}
						defer func() { _ = c.Close() }()
						for _, text := range texts {
							if _, err := c.ExecContext(ctx, text); err != nil {
								return err
							}
						}
						return nil
					},
					"bob": func(ctx context.Context, db *sql.DB) error {
						var balance int
						return db.QueryRowContext(ctx, `SELECT ("it\"s" IS NULL) + balance FROM accounts WHERE id = 1 FOR UPDATE NOWAIT`).Scan(&balance)
					},
				},
			}, racetest.ActorFailed)
		})
	}
}
