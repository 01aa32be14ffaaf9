package racetest_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/racetest"
)

type Account struct {
	ID      int64 `db:"id"`
	Balance int64 `db:"balance"`
	Version int64 `db:"version"`
}

var accounts = raceproof.MustTable[Account]("accounts")

// An adder is a pattern, as a service uses it.
type adder func(*raceproof.DB) raceproof.Updater[Account, int64]

func plus(n int64) raceproof.Func[Account] {
	return func(_ context.Context, a *Account) error {
		a.Balance += n
		return nil
	}
}

var patterns = map[string]adder{
	"lock": func(db *raceproof.DB) raceproof.Updater[Account, int64] {
		return raceproof.Bind(lock.New(db, accounts, nil), plus)
	},
	"atomic": func(db *raceproof.DB) raceproof.Updater[Account, int64] {
		return raceproof.Bind(atomic.New(db, accounts, nil), func(n int64) atomic.Change {
			return atomic.Set("balance", atomic.F("balance").Add(n))
		})
	},
	"optimistic": func(db *raceproof.DB) raceproof.Updater[Account, int64] {
		return raceproof.Bind(optimistic.New(db, accounts, nil), plus)
	},
}

// with is an actor that works with the library. It closes what it has opened, so that nothing is left of a schedule.
func (w *world) with(f func(context.Context, *raceproof.DB) error) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, pool *sql.DB) error {
		db, err := raceproof.New(sqlx.NewDb(pool, w.Driver))
		if err != nil {
			return err
		}
		defer db.Close()
		return f(ctx, db)
	}
}

func (w *world) adds(pattern adder, n int64) func(context.Context, *sql.DB) error {
	return w.with(func(ctx context.Context, db *raceproof.DB) error {
		_, err := pattern(db).Update(ctx, 1, n)
		return err
	})
}

func TestPatterns(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, pattern := range patterns {
			t.Run(name, func(t *testing.T) {
				r := racetest.Explore(t, racetest.Scenario{
					Open: w.connector, Setup: rows, Check: has(115, 100),
					Actors: racetest.Actors{"alice": w.adds(pattern, 5), "bob": w.adds(pattern, 10)},
				})
				assert.Positive(t, r.Schedules)
			})
		}
	})
}
