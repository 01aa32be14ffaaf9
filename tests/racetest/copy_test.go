package racetest_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/tests/databases"
)

// lib/pq sends a COPY when it is prepared, and it may have to wait.
func TestCopyIn(t *testing.T) {
	w := newWorld(t, databases.Named("postgres/pq"), databases.Options{})
	copies := func(ctx context.Context, db *sql.DB) error {
		return begin(ctx, db, nil, func(tx *sql.Tx) error {
			s, err := tx.PrepareContext(ctx, `COPY accounts (id, balance, version) FROM STDIN`)
			if err != nil {
				return err
			}
			if _, err := s.ExecContext(ctx, 3, 100, 0); err != nil {
				return err
			}
			if _, err := s.ExecContext(ctx); err != nil {
				return err
			}
			return s.Close()
		})
	}
	locks := func(ctx context.Context, db *sql.DB) error {
		return begin(ctx, db, nil, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, "LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE")
			return err
		})
	}
	r := racetest.Explore(t, racetest.Scenario{Open: w.connector, Setup: rows, Check: has(100, 100),
		Actors: racetest.Actors{"copies": copies, "locks": locks}})
	assert.Positive(t, r.Blocked)
}
