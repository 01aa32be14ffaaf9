package racetest_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof/racetest"
)

// PostgreSQL has waits that are for no lock: for a snapshot that no serializable transaction can make wrong.
func TestDeferrable(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		if w.Dialect != "postgres" {
			t.Skip("has no DEFERRABLE")
		}
		reports := func(ctx context.Context, db *sql.DB) error {
			c, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			for _, statement := range []string{"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE", "SELECT sum(balance) FROM accounts", "COMMIT"} {
				if _, err := c.ExecContext(ctx, statement); err != nil {
					return err
				}
			}
			return nil
		}
		adds := func(ctx context.Context, db *sql.DB) error {
			return begin(ctx, db, &sql.TxOptions{Isolation: sql.LevelSerializable}, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, "UPDATE accounts SET balance = balance + 1")
				return err
			})
		}
		r := racetest.Explore(t, racetest.Scenario{Open: w.connector, Setup: rows, Check: has(101, 101),
			Actors: racetest.Actors{"reports": reports, "adds": adds}})
		assert.Positive(t, r.Blocked)
	})
}
