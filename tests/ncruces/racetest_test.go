package ncruces

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/tests/databases"
)

// After a transaction that only reads, the driver lets its connection write again: at COMMIT.
func TestReadOnly(t *testing.T) {
	f := database.Fresh(t)
	looksAndAdds := func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
		if err != nil {
			return err
		}
		var n int
		if err := tx.QueryRowContext(ctx, `SELECT n FROM things`).Scan(&n); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		_, err = db.ExecContext(ctx, `UPDATE things SET n = n + 1`)
		return err
	}
	r := racetest.Explore(t, racetest.Scenario{
		Open: racetest.Driver(f.Driver, f.DSN(databases.Options{})),
		Setup: func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, `DROP TABLE IF EXISTS things; CREATE TABLE things (n BIGINT); INSERT INTO things VALUES (1)`)
			return err
		},
		Actors: racetest.Actors{"alice": looksAndAdds, "bob": looksAndAdds},
		Check: func(ctx context.Context, db *sql.DB, _ map[string]error) error {
			var n int
			err := db.QueryRowContext(ctx, `SELECT n FROM things`).Scan(&n)
			assert.Equal(t, 3, n)
			return err
		},
	})
	assert.Zero(t, r.Deadlocks)
}
