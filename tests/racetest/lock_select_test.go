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
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/tests/databases"
)

// own sends a statement of the caller's own in the context's transaction.
func own(ctx context.Context, db *raceproof.DB, format string, a ...any) error {
	_, err := db.Ext(ctx).ExecContext(ctx, fmt.Sprintf(format, a...))
	return err
}

// selectsAndAdds locks the row, computes, and writes by itself.
func (w *world) selectsAndAdds(o *lock.Options, n int64) func(context.Context, *sql.DB) error {
	return w.with(func(ctx context.Context, db *raceproof.DB) error {
		return db.Transact(ctx, func(ctx context.Context) error {
			a, err := lock.Select(ctx, db, accounts, 1, o)
			if err != nil {
				return err
			}
			return own(ctx, db, `UPDATE accounts SET balance = %d WHERE id = 1`, a.Balance+n)
		})
	})
}

// Who shares a lock and then writes waits for the others who share it, and they for him: one of them does it again.
func TestLockSelect(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, l := range []locking{
			{"default", lock.Options{}, all, false, false},
			{"NoWait", lock.Options{NoWait: true}, all, w.Dialect != "sqlite", false}, // there the transaction has waited already
			{"WaitAtMost", lock.Options{WaitAtMost: time.Minute}, all, false, false},
			{"Update", lock.Options{Strength: lock.Update}, servers, false, false},
			{"UpdateFirst", lock.Options{UpdateFirst: true}, all, false, false},
			{"Share", lock.Options{Strength: lock.Share}, servers, false, false},
		} {
			if !slices.Contains(l.dialects, w.Dialect) {
				continue
			}
			t.Run(l.name, func(t *testing.T) {
				refused := 0
				add := func(n int64) func(context.Context, *sql.DB) error { return w.selectsAndAdds(&l.options, n) }
				r := w.explored(t, brief(8, racetest.Scenario{MayFail: l.mayFail, Check: acknowledged(&refused)}), add, amounts[:2]...)
				assert.Equal(t, l.refuses, refused > 0)
				assert.Equal(t, l.name == "Share", r.Deadlocks > 0)
			})
		}
	})
}

// Who is told that a row is locked goes on in his transaction, and takes another row.
func TestLockedGoesOn(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		other := 0
		add := func(n int64) func(context.Context, *sql.DB) error {
			return w.with(func(ctx context.Context, db *raceproof.DB) error {
				return db.Transact(ctx, func(ctx context.Context) error {
					row := 1
					if _, err := lock.Select(ctx, db, accounts, 1, &lock.Options{NoWait: true}); errors.Is(err, raceproof.ErrLocked) {
						row = 2
					} else if err != nil {
						return err
					}
					return own(ctx, db, `UPDATE accounts SET balance = balance + %d WHERE id = %d`, n, row)
				})
			})
		}
		check := func(ctx context.Context, db *sql.DB, _ map[string]error) error {
			b, err := balances(ctx, db)
			if b[1] > 100 {
				other++
			}
			if err == nil && b[0]+b[1] != 215 {
				err = fmt.Errorf("the balances are %v, want a sum of 215", b)
			}
			return err
		}
		w.explored(t, brief(8, racetest.Scenario{Check: check}), add, amounts[:2]...)
		assert.Equal(t, w.Dialect != "sqlite", other > 0)
	})
}

// bears inserts a row that belongs to account 1, in a transaction that looks at it first.
func (w *world) bears(child int, look func(context.Context, *raceproof.DB) error) func(context.Context, *sql.DB) error {
	return w.with(func(ctx context.Context, db *raceproof.DB) error {
		return db.Transact(ctx, func(ctx context.Context) error {
			if err := look(ctx, db); err != nil {
				return err
			}
			return own(ctx, db, `INSERT INTO accounts VALUES (%d, 0, 0)`, child)
		})
	})
}

// deletes account 1 if nothing belongs to it.
func (w *world) deletes(o *lock.Options) func(context.Context, *sql.DB) error {
	return w.with(func(ctx context.Context, db *raceproof.DB) error {
		return db.Transact(ctx, func(ctx context.Context) error {
			if _, err := lock.Select(ctx, db, accounts, 1, o); err != nil {
				return err
			}
			var children int
			err := db.Ext(ctx).QueryRowxContext(ctx, `SELECT COUNT(*) FROM accounts WHERE id > 10`).Scan(&children)
			if err != nil || children > 0 {
				return err
			}
			return own(ctx, db, `DELETE FROM accounts WHERE id = 1`)
		})
	})
}

// noOrphans is a Check: there is nothing that belongs to nobody.
func noOrphans(ctx context.Context, db *sql.DB, _ map[string]error) error {
	n, err := count(ctx, db, `SELECT COUNT(*) FROM accounts WHERE id > 10 AND NOT EXISTS (SELECT 1 FROM accounts WHERE id = 1)`)
	if err == nil && n > 0 {
		err = fmt.Errorf("%d rows belong to an account that is gone", n)
	}
	return err
}

// The weakest lock is enough for who only refers to a row, and does not keep others from doing so too.
func TestSharedByChildren(t *testing.T) {
	options := map[string][2]*lock.Options{ // of who refers to the row, and of who deletes it
		"sqlite":   {nil, nil},
		"postgres": {{Strength: lock.KeyShare}, {Strength: lock.Update}},
		"mariadb":  {{Strength: lock.Share}, nil},
	}
	each(t, func(t *testing.T, w *world) {
		o := options[w.Dialect]
		locks := func(ctx context.Context, db *raceproof.DB) error {
			_, err := lock.Select(ctx, db, accounts, 1, o[0])
			return err
		}
		s := brief(8, racetest.Scenario{
			Open: w.connector, Setup: rows, Check: noOrphans,
			MayFail: func(_ string, err error) bool { return errors.Is(err, sql.ErrNoRows) },
			Actors:  racetest.Actors{"a": w.bears(11, locks), "b": w.bears(12, locks), "c": w.deletes(o[1])},
		})
		r := racetest.Explore(t, s)
		assert.Zero(t, r.Deadlocks)
		if w.Dialect == "sqlite" {
			return
		}
		delete(s.Actors, "c")
		assert.Zero(t, racetest.Explore(t, s).Blocked) // two children share
		looks := func(ctx context.Context, db *raceproof.DB) error {
			var id int
			return db.Ext(ctx).QueryRowxContext(ctx, `SELECT id FROM accounts WHERE id = 1`).Scan(&id)
		}
		s.Actors = racetest.Actors{"a": w.bears(11, looks), "c": w.deletes(o[1])}
		caught(t, s, racetest.Invariant)
	})
}

// picks takes a job that is ready, and does it: accounts are jobs, the balance their state.
func (w *world) picks(o *lock.Options) func(n int64) func(context.Context, *sql.DB) error {
	return func(n int64) func(context.Context, *sql.DB) error {
		return w.with(func(ctx context.Context, db *raceproof.DB) error {
			return db.Transact(ctx, func(ctx context.Context) error {
				jobs, err := lock.SelectWhere(ctx, db, accounts, atomic.F("balance").Eq(100), o)
				for _, job := range jobs {
					if err := own(ctx, db, `INSERT INTO done VALUES (%d)`, job.ID); err != nil {
						return err
					}
					if err := own(ctx, db, `UPDATE accounts SET balance = 0 WHERE id = %d`, job.ID); err != nil {
						return err
					}
				}
				return err
			})
		})
	}
}

// Two jobs are each done once, by two workers and by three.
func TestJobs(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		setup := func(ctx context.Context, db *sql.DB) error {
			if err := rows(ctx, db); err != nil {
				return err
			}
			_, err := db.ExecContext(ctx, empties(db)+`done`)
			return err
		}
		check := func(ctx context.Context, db *sql.DB, _ map[string]error) error {
			twice, err := count(ctx, db, `SELECT COUNT(*) - COUNT(DISTINCT id) FROM done`)
			if err != nil {
				return err
			}
			left, err := count(ctx, db, `SELECT COUNT(*) FROM accounts WHERE balance <> 0 OR id NOT IN (SELECT id FROM done)`)
			if err == nil && (twice > 0 || left > 0) {
				err = fmt.Errorf("%d jobs were done twice, and %d are left", twice, left)
			}
			return err
		}
		_, err := w.Fresh.Open(databases.Options{}).Exec(`CREATE TABLE done (id BIGINT NOT NULL)`)
		require.NoError(t, err)
		for name, o := range map[string]*lock.Options{"SkipLocked": {SkipLocked: true, Limit: 1}, "waits": {Limit: 1}} {
			if o.SkipLocked && w.Dialect == "sqlite" {
				continue
			}
			t.Run(name, func(t *testing.T) {
				s := racetest.Scenario{Setup: setup, Check: check}
				r := w.explored(t, brief(8, s), w.picks(o), amounts[:2]...)
				assert.Zero(t, r.Deadlocks)
				if o.SkipLocked {
					assert.Zero(t, r.Blocked)
				}
				r = w.explored(t, brief(8, s), w.picks(o), amounts...)
				assert.Zero(t, r.Deadlocks)
				if o.SkipLocked {
					assert.Zero(t, r.Blocked)
				}
			})
		}
	})
}
