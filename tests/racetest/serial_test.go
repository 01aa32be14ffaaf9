package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/serial"
)

func plusInSQL(n int64) atomic.Change {
	return atomic.Set("balance", atomic.F("balance").Add(n))
}

// served are the patterns behind package serial. An actor is the only caller there, as in a process where nobody waits.
var served = map[string]adder{
	"lock": func(db *raceproof.DB) raceproof.Updater[Account, int64] {
		return raceproof.Bind(serial.Wrap(lock.New(db, accounts, nil)), plus)
	},
	"atomic": func(db *raceproof.DB) raceproof.Updater[Account, int64] {
		return raceproof.Bind(serial.Wrap(atomic.New(db, accounts, nil)), plusInSQL)
	},
	"optimistic": func(db *raceproof.DB) raceproof.Updater[Account, int64] {
		return raceproof.Bind(serial.Wrap(optimistic.New(db, accounts, nil)), plus)
	},
}

// A lone caller is as it were without the wrap: there are as many schedules.
func TestServedTwo(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name := range served {
			t.Run(name, func(t *testing.T) {
				with := func(pattern adder) racetest.Result {
					return w.explored(t, racetest.Scenario{}, func(n int64) func(context.Context, *sql.DB) error { return w.adds(pattern, n) }, 5, 10)
				}
				a, b := with(served[name]), with(patterns[name])
				assert.Equal(t, []int{b.Schedules, b.Statements, b.Longest}, []int{a.Schedules, a.Statements, a.Longest})
			})
		}
	})
}

// inTransact makes the update in a transaction that writes another row too.
func (w *world) inTransact(pattern adder, n int64) func(context.Context, *sql.DB) error {
	return w.with(func(ctx context.Context, db *raceproof.DB) error {
		return db.Transact(ctx, func(ctx context.Context) error {
			if _, err := pattern(db).Update(ctx, 1, n); err != nil {
				return err
			}
			return own(ctx, db, `UPDATE accounts SET balance = balance + %d WHERE id = 2`, n)
		})
	})
}

// Beside actors who are not served, and who are in transactions.
func TestServedBesideOthers(t *testing.T) {
	others := map[string]string{"lock": "optimistic", "atomic": "lock", "optimistic": "atomic"}
	each(t, func(t *testing.T, w *world) {
		for name, pattern := range served {
			t.Run(name, func(t *testing.T) {
				racetest.Explore(t, brief(8, racetest.Scenario{
					Open: w.connector, Setup: rows, Check: has(118, 103),
					Actors: racetest.Actors{"a": w.adds(pattern, 5), "b": w.adds(patterns[others[name]], 10), "c": w.inTransact(pattern, 3)},
				}))
			})
		}
	})
}

// unprotected is an updater that package serial takes for one of package lock, and that locks nothing.
type unprotected struct {
	*lock.Updater[Account]
}

func (u unprotected) Update(ctx context.Context, key any, change raceproof.Func[Account]) (a Account, err error) {
	db := u.DB().Ext(ctx)
	if err := db.QueryRowxContext(ctx, `SELECT id, balance, version FROM accounts WHERE id = 1`).StructScan(&a); err != nil {
		return a, err
	}
	if key != 1 {
		return a, errors.New("it knows one row")
	}
	if err := change(ctx, &a); err != nil {
		return a, err
	}
	a.Version++
	return a, own(ctx, u.DB(), `UPDATE accounts SET balance = %d, version = %d WHERE id = 1`, a.Balance, a.Version)
}

// What does not protect the row is found through the wrap, and beside it.
func TestServedUnprotected(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		naive := func(db *raceproof.DB) raceproof.Updater[Account, int64] {
			return raceproof.Bind(serial.Wrap(unprotected{lock.New(db, accounts, nil)}), plus)
		}
		s := racetest.Scenario{Open: w.connector, Setup: rows, Check: has(115, 100)}
		s.Actors = racetest.Actors{"alice": w.adds(naive, 5), "bob": w.adds(naive, 10)}
		caught(t, s, racetest.Invariant)
		s.Actors = racetest.Actors{"alice": w.adds(served["lock"], 5), "bob": add(1, 10)}
		caught(t, s, racetest.Invariant)
	})
}
