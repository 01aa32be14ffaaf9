package racetest_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof/racetest"
)

// add reads, computes and writes back, in two statements that nothing protects.
func add(account, n int) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		var balance int
		if err := db.QueryRowContext(ctx, fmt.Sprintf(`SELECT balance FROM accounts WHERE id = %d`, account)).Scan(&balance); err != nil {
			return err
		}
		_, err := db.ExecContext(ctx, fmt.Sprintf(`UPDATE accounts SET balance = %d WHERE id = %d`, balance+n, account))
		return err
	}
}

func TestLostUpdate(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		f := caught(t, racetest.Scenario{
			Open: w.connector, Setup: rows, Check: has(115, 100),
			Actors: racetest.Actors{"alice": add(1, 5), "bob": add(1, 10)},
		}, racetest.Invariant)
		assert.Equal(t, "a b b a", f.Token)
		assert.Equal(t, 1, f.Switches)
		assert.Len(t, f.Steps, 4)
	})
}

// A transaction alone protects nothing.
func addInTx(account, n int) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		return begin(ctx, db, nil, func(tx *sql.Tx) error {
			var balance int
			if err := tx.QueryRowContext(ctx, fmt.Sprintf(`SELECT balance FROM accounts WHERE id = %d`, account)).Scan(&balance); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, fmt.Sprintf(`UPDATE accounts SET balance = %d WHERE id = %d`, balance+n, account))
			return err
		})
	}
}

func TestLostUpdateInTransaction(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := racetest.Scenario{
			Open: w.connector, Setup: rows, Check: has(115, 100),
			Actors: racetest.Actors{"alice": addInTx(1, 5), "bob": addInTx(1, 10)},
		}
		if w.Dialect == "sqlite" {
			caught(t, s, racetest.ActorFailed) // it is refused, and nothing tries again
			return
		}
		caught(t, s, racetest.Invariant)
	})
}
