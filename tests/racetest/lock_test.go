package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/racetest"
)

// A locking is a way to lock, on the databases that have it. None of them tells with time: a minute is not over in a schedule.
type locking struct {
	name     string
	options  lock.Options
	dialects []string
	refuses  bool // somebody who finds the row locked
	three    bool // actors too
}

var (
	all     = []string{"sqlite", "postgres", "mariadb"}
	servers = []string{"postgres", "mariadb"}
)

var lockings = []locking{
	{"NoWait", lock.Options{NoWait: true}, all, true, true},
	{"SkipLocked", lock.Options{SkipLocked: true}, servers, true, false},
	{"WaitAtMost", lock.Options{WaitAtMost: time.Minute}, all, false, true},
	{"Update", lock.Options{Strength: lock.Update}, servers, false, false},
	{"NoKeyUpdate", lock.Options{Strength: lock.NoKeyUpdate}, []string{"postgres"}, false, false},
	{"UpdateFirst", lock.Options{UpdateFirst: true}, all, false, true},
	{"UpdateFirst and WaitAtMost", lock.Options{UpdateFirst: true, WaitAtMost: time.Minute}, all, false, false},
	{"UpdateFirst and NoWait", lock.Options{UpdateFirst: true, NoWait: true}, []string{"sqlite"}, true, false},
}

func (l locking) adder(db *raceproof.DB) raceproof.Updater[Account, int64] {
	return raceproof.Bind(lock.New(db, accounts, &l.options), plus)
}

func (l locking) mayFail(_ string, err error) bool {
	return l.refuses && errors.Is(err, raceproof.ErrLocked)
}

// amounts are what actors add, in the order of their names.
var amounts = []int64{5, 10, 3}

// acknowledged is a Check: account 1 has 100, and what those have added who were not refused, of whom there is one at least.
// It counts the others.
func acknowledged(refused *int) func(context.Context, *sql.DB, map[string]error) error {
	return func(ctx context.Context, db *sql.DB, returned map[string]error) error {
		sum, done := 100, 0
		for name, err := range returned {
			if err == nil {
				sum += int(amounts[name[0]-'a'])
				done++
			}
		}
		*refused += len(returned) - done
		if done == 0 {
			return errors.New("everybody was refused")
		}
		return has(sum, 100)(ctx, db, returned)
	}
}

// brief is bounded, for one of many scenarios.
func brief(limit int, s racetest.Scenario) racetest.Scenario {
	s = bounded(limit, s)
	s.Random.Schedules = min(s.Random.Schedules, 3)
	return s
}

func TestLockOptions(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, l := range lockings {
			if !slices.Contains(l.dialects, w.Dialect) {
				continue
			}
			add := func(n int64) func(context.Context, *sql.DB) error { return w.adds(l.adder, n) }
			t.Run(l.name, func(t *testing.T) {
				refused := 0
				w.explored(t, brief(8, racetest.Scenario{MayFail: l.mayFail, Check: acknowledged(&refused)}), add, amounts[:2]...)
				assert.Equal(t, l.refuses, refused > 0)
				if l.three {
					w.explored(t, brief(8, racetest.Scenario{MayFail: l.mayFail, Check: acknowledged(&refused)}), add, amounts...)
				}
			})
		}
	})
}

// moved takes from one account and gives to another under both locks.
func (w *world) moved(o *lock.Options, from, to, n int64) func(context.Context, *sql.DB) error {
	return w.with(func(ctx context.Context, db *raceproof.DB) error {
		_, err := lock.New(db, accounts, o).UpdateMany(ctx, []any{from, to}, func(_ context.Context, a []*Account) error {
			a[0].Balance -= n
			a[1].Balance += n
			return nil
		})
		return err
	})
}

// Two ways, and in a ring: nobody waits for each other, whatever the order of the keys.
func TestUpdateMany(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, o := range map[string]*lock.Options{"default": nil, "UpdateFirst": {UpdateFirst: true}} {
			t.Run(name, func(t *testing.T) {
				r := racetest.Explore(t, brief(8, racetest.Scenario{
					Open: w.connector, Setup: rows, Check: has(105, 95),
					Actors: racetest.Actors{"alice": w.moved(o, 1, 2, 5), "bob": w.moved(o, 2, 1, 10)},
				}))
				assert.Positive(t, r.Blocked)
				assert.Zero(t, r.Deadlocks)
				r = racetest.Explore(t, brief(8, racetest.Scenario{
					Open:   w.connector,
					Setup:  fill(`DELETE FROM accounts`, `INSERT INTO accounts VALUES (1, 100, 0), (2, 100, 0), (3, 100, 0)`),
					Check:  has(101, 98),
					Actors: racetest.Actors{"alice": w.moved(o, 1, 2, 1), "bob": w.moved(o, 2, 3, 3), "carol": w.moved(o, 3, 1, 2)},
				}))
				assert.Positive(t, r.Blocked)
				assert.Zero(t, r.Deadlocks)
			})
		}
	})
}

// One creates the row, and all add to it.
func TestUpsert(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, o := range map[string]*lock.Options{"default": nil, "UpdateFirst": {UpdateFirst: true}} {
			t.Run(name, func(t *testing.T) { w.upserted(t, o) })
		}
	})
}

func (w *world) upserted(t *testing.T, o *lock.Options) {
	create := func(_ context.Context, a *Account) error {
		a.Balance = 1000
		return nil
	}
	upsert := func(n int64) func(context.Context, *sql.DB) error {
		return w.with(func(ctx context.Context, db *raceproof.DB) error {
			_, err := lock.New(db, accounts, o).Upsert(ctx, 3, create, plus(n))
			return err
		})
	}
	check := func(ctx context.Context, db *sql.DB, returned map[string]error) error {
		want := 1015
		if len(returned) == 3 {
			want = 1018
		}
		balance, err := count(ctx, db, `SELECT balance FROM accounts WHERE id = 3`)
		if err == nil && balance != want {
			err = fmt.Errorf("the balance is %d, want %d", balance, want)
		}
		return err
	}
	r := w.explored(t, brief(8, racetest.Scenario{Check: check}), upsert, amounts[:2]...)
	assert.Zero(t, r.Deadlocks)
	r = w.explored(t, brief(8, racetest.Scenario{Check: check}), upsert, amounts...)
	assert.Zero(t, r.Deadlocks)
}
