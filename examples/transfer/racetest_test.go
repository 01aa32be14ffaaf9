package main

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/examples/internal/everywhere"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/racetest"
)

// naive is how a transfer is written before one knows better: read both, compute, write both.
func naive(ctx context.Context, pool *sqlx.DB, t transfer) error {
	var from, to Account
	if err := pool.GetContext(ctx, &from, "SELECT * FROM "+table+" WHERE id = ?", t.from); err != nil {
		return err
	}
	if err := pool.GetContext(ctx, &to, "SELECT * FROM "+table+" WHERE id = ?", t.to); err != nil {
		return err
	}
	if err := t.pay(&from, &to); err != nil {
		return err
	}
	for _, a := range []Account{from, to} {
		if _, err := pool.ExecContext(ctx, "UPDATE "+table+" SET balance = ? WHERE id = ?", a.Balance, a.ID); err != nil {
			return err
		}
	}
	return nil
}

// An actor makes one transfer, as a process of its own.
type actor = func(context.Context, *sql.DB) error

// by is an actor that counts its attempts beyond the first.
func by(driver string, w way, t transfer, again *atomic.Int64) actor {
	return func(ctx context.Context, own *sql.DB) error {
		db, err := raceproof.New(sqlx.NewDb(own, driver))
		if err != nil {
			return err
		}
		defer db.Close()
		attempts, err := w(ctx, lock.New(db, accounts, nil), t)
		again.Add(attempts - 1)
		return err
	}
}

func byNaive(t transfer) actor {
	return func(ctx context.Context, own *sql.DB) error { return naive(ctx, sqlx.NewDb(own, "sqlite3"), t) }
}

// The transfers that meet: one each way between two accounts.
var there, back = transfer{0, 1, 60}, transfer{1, 0, 70}

// meeting is a scenario of transfers that have enough money in whatever order they are made: afterwards each account has what
// it began with, and what it was paid, less what it paid.
func meeting(b *bank, driver, dsn string, actors racetest.Actors, made ...transfer) racetest.Scenario {
	want := []int64{opening, opening}
	for _, m := range made {
		want[m.from] -= m.amount
		want[m.to] += m.amount
	}
	return racetest.Scenario{
		Open:   racetest.Driver(driver, dsn),
		Actors: actors,
		Setup:  func(ctx context.Context, _ *sql.DB) error { return b.fill(ctx, len(want)) },
		Check: func(ctx context.Context, db *sql.DB, _ map[string]error) error {
			var balances []int64
			err := sqlx.NewDb(db, driver).SelectContext(ctx, &balances, "SELECT balance FROM "+table+" ORDER BY id")
			if err == nil && !assert.ObjectsAreEqual(want, balances) {
				err = fmt.Errorf("the balances are %v, want %v", balances, want)
			}
			return err
		},
	}
}

// The first schedule that loses money is as simple as can be: one transfer is interrupted, once, before it writes.
func TestSchedulesNaiveLosesMoney(t *testing.T) {
	dsn := "file:" + filepath.Join(t.TempDir(), "x.db") + "?_journal_mode=WAL"
	actors := racetest.Actors{"ada": byNaive(there), "bob": byNaive(back)}
	s := meeting(openBank(t, "sqlite3", dsn), "sqlite3", dsn, actors, there, back)
	_, err := racetest.Run(t.Context(), s)
	var f *racetest.Failure
	require.ErrorAs(t, err, &f)
	assert.Equal(t, racetest.Invariant, f.Kind, "%v", f)
	assert.Equal(t, 1, f.Switches)
	assert.ErrorContains(t, f.Err, "want [110 90]")
}

// In no order of their statements do two transfers, one each way, lose money. By UpdateMany neither is ever made again; nested,
// on a server, there are orders in which one is, as a deadlock refuses it. Some of them are among the first.
func TestSchedulesKeepTheMoney(t *testing.T) {
	everywhere.Run(t, func(t *testing.T, driver, dsn string) {
		b := openBank(t, driver, dsn)
		for _, w := range ways {
			var again atomic.Int64
			actors := racetest.Actors{"ada": by(driver, w.way, there, &again), "bob": by(driver, w.way, back, &again)}
			s := meeting(b, driver, dsn, actors, there, back)
			if w.name == "nested" {
				s.Limit, s.Partial = 12, true
			}
			racetest.Explore(t, s)
			if w.name == "UpdateMany" || driver == "sqlite3" {
				assert.Zero(t, again.Load(), w.name)
			} else {
				assert.Positive(t, again.Load(), w.name)
			}
		}
	})
}
