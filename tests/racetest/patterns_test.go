package racetest_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/tests/databases"
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

// explored explores, and logs what it has: in the order of its name, as many actors as there are amounts.
func (w *world) explored(t *testing.T, s racetest.Scenario, run func(n int64) func(context.Context, *sql.DB) error, amounts ...int64) racetest.Result {
	t.Helper()
	s.Open, s.Actors = w.connector, racetest.Actors{}
	if s.Setup == nil {
		s.Setup = rows
	}
	sum := int64(100)
	for i, n := range amounts {
		s.Actors[string("abc"[i])] = run(n)
		sum += n
	}
	if s.Check == nil {
		s.Check = has(int(sum), 100)
	}
	r := racetest.Explore(t, s)
	assert.Greater(t, r.Schedules, 1)
	if r.Left == 0 { // what is begun of others is not counted yet
		assert.Greater(t, r.Orders, float64(r.Schedules))
	}
	return r
}

func TestTwo(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, pattern := range patterns {
			t.Run(name, func(t *testing.T) {
				w.explored(t, racetest.Scenario{}, func(n int64) func(context.Context, *sql.DB) error { return w.adds(pattern, n) }, 5, 10)
			})
		}
	})
}

// bounded limits a search that would take minutes to so many schedules, unless there is time: then all are run.
func bounded(limit int, s racetest.Scenario) racetest.Scenario {
	if os.Getenv("RACEPROOF_TORTURE") == "" {
		s.Limit, s.Partial, s.Random = limit, true, racetest.Random{Schedules: 10, Seed: 1}
	}
	return s
}

// All schedules are run but those of optimistic on MariaDB, of which there are thousands.
func TestThree(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, pattern := range patterns {
			t.Run(name, func(t *testing.T) {
				w.explored(t, bounded(300, racetest.Scenario{}), func(n int64) func(context.Context, *sql.DB) error { return w.adds(pattern, n) }, 5, 10, 3)
			})
		}
	})
}

// once makes the table of keys.
func (w *world) once(t *testing.T) {
	db, err := raceproof.New(w.Open(databases.Options{}))
	require.NoError(t, err)
	t.Cleanup(db.Close)
	require.NoError(t, once.CreateTable(t.Context(), db))
}

func rowsAndKeys(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, empties(db)+`raceproof_once`); err != nil {
		return err
	}
	return rows(ctx, db)
}

// Of callers with one key one does the work, and all are told what came of it.
func TestOnceSameKey(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.once(t)
		for name, pattern := range patterns {
			t.Run(name, func(t *testing.T) {
				same := func(n int64) func(context.Context, *sql.DB) error {
					return w.with(func(ctx context.Context, db *raceproof.DB) error {
						a, err := once.Wrap(pattern(db)).Update(once.WithKey(ctx, "a key"), 1, 5)
						if err == nil && a.Balance != 105 {
							err = fmt.Errorf("was told a balance of %d", a.Balance)
						}
						return err
					})
				}
				w.explored(t, racetest.Scenario{Setup: rowsAndKeys, Check: has(105, 100)}, same, 5, 5)
			})
		}
	})
}

func TestOnce(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.once(t)
		for name, pattern := range patterns {
			t.Run(name, func(t *testing.T) {
				wrapped := func(n int64) func(context.Context, *sql.DB) error {
					return w.with(func(ctx context.Context, db *raceproof.DB) error {
						_, err := once.Wrap(pattern(db)).Update(ctx, 1, n)
						return err
					})
				}
				w.explored(t, bounded(40, racetest.Scenario{Setup: rowsAndKeys}), wrapped, 5, 10)
				if name == "lock" {
					w.explored(t, bounded(30, racetest.Scenario{Setup: rowsAndKeys}), wrapped, 5, 10, 3)
				}
			})
		}
	})
}

// Seventy schedules: two actors with four statements each, of which none commute.
func BenchmarkSeventy(b *testing.B) {
	four := func(account int) func(context.Context, *sql.DB) error {
		return func(ctx context.Context, db *sql.DB) error {
			for range 4 {
				if _, err := db.ExecContext(ctx, fmt.Sprintf(`UPDATE accounts SET balance = balance + 1 WHERE id = %d`, account)); err != nil {
					return err
				}
			}
			return nil
		}
	}
	for _, d := range databases.All() {
		b.Run(d.Name, func(b *testing.B) {
			w := newWorld(b, d, databases.Options{})
			for b.Loop() {
				r, err := racetest.Run(b.Context(), racetest.Scenario{Open: w.connector, Setup: rows, Check: has(104, 104),
					Actors: racetest.Actors{"alice": four(1), "bob": four(2)}})
				if err != nil || r.Schedules != 70 {
					b.Fatal(r, err)
				}
			}
		})
	}
}
