package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lease"
	"github.com/raceproof/raceproof/racetest"
)

// A holder whose time is over can be anywhere: in front of his transaction, in it, or behind its fence.
func TestLeaseFence(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.guarded(t)
		s := racetest.Scenario{
			Open: w.connector, Setup: w.released, MayFail: late,
			Actors: racetest.Actors{"a": w.holder(1, fenced), "b": w.holder(1, fenced), "time": w.time},
		}
		lost := 0
		s.Check = inOrder(&lost)
		r := racetest.Explore(t, brief(36, s))
		assert.Zero(t, r.Deadlocks)
		assert.Positive(t, lost)

		s.Actors = racetest.Actors{"a": w.holder(1, unfenced), "b": w.holder(1, unfenced), "time": w.time}
		f := caught(t, s, racetest.Invariant)
		assert.ErrorContains(t, f, "who had lost the lease wrote over")
	})
}

// Whoever renews or releases behind another who has taken the name over touches nothing of his.
func TestLeaseTakeOver(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.guarded(t)
		lost := 0
		check := func(ctx context.Context, db *sql.DB, returned map[string]error) error {
			held, err := count(ctx, db, `SELECT COUNT(holder) FROM raceproof_lease`)
			if err == nil && returned["b"] == nil && held == 0 {
				err = errors.New("b has not released the lease, and nobody holds it")
			}
			return errors.Join(err, inOrder(&lost)(ctx, db, returned))
		}
		r := racetest.Explore(t, brief(20, racetest.Scenario{
			Open: w.connector, Setup: w.released, MayFail: late, Check: check,
			Actors: racetest.Actors{"a": w.holder(1, renewsAndReleases), "b": w.expires(fenced)},
		}))
		assert.Zero(t, r.Deadlocks)
		assert.Positive(t, lost)
	})
}

// expires is an actor whose first step is that the time of others is over.
func (w *world) expires(work func(context.Context, *raceproof.DB, *lease.Lease) error) func(context.Context, *sql.DB) error {
	acquires := w.holder(1, work)
	return func(ctx context.Context, db *sql.DB) error {
		if err := w.time(ctx, db); err != nil {
			return err
		}
		return acquires(ctx, db)
	}
}

const enters = `UPDATE guarded SET most = CASE WHEN inside + 1 > most THEN inside + 1 ELSE most END, inside = inside + 1`

// inside stands for work that is done elsewhere, and that more than may would do at once.
func inside(ctx context.Context, db *raceproof.DB, l *lease.Lease) error {
	if err := own(ctx, db, enters); err != nil {
		return err
	}
	if err := own(ctx, db, `UPDATE guarded SET inside = inside - 1`); err != nil {
		return err
	}
	return l.Release(ctx)
}

// atOnce is a Check: at most n were inside at once, and at least n got there.
func atOnce(n int) func(context.Context, *sql.DB, map[string]error) error {
	return func(ctx context.Context, db *sql.DB, returned map[string]error) error {
		done := 0
		for _, err := range returned {
			if err == nil {
				done++
			}
		}
		var most int
		err := db.QueryRowContext(ctx, `SELECT most FROM guarded`).Scan(&most)
		if err == nil && (most > n || done < n) {
			err = fmt.Errorf("%d were inside at once, and %d got there, want %d", most, done, n)
		}
		return err
	}
}

// Without time there are never more holders than may be, whether the name is known or not.
func TestLeaseHolders(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.guarded(t)
		for name, setup := range map[string]func(context.Context, *sql.DB) error{"known": w.released, "unknown": unknown} {
			t.Run(name, func(t *testing.T) {
				s := brief(8, racetest.Scenario{Setup: setup, MayFail: late, Check: atOnce(1)})
				holder := func(int64) func(context.Context, *sql.DB) error { return w.holder(1, inside) }
				assert.Zero(t, w.explored(t, s, holder, amounts[:2]...).Deadlocks)
				assert.Zero(t, w.explored(t, s, holder, amounts...).Deadlocks)
			})
		}
		t.Run("semaphore", func(t *testing.T) {
			s := brief(12, racetest.Scenario{Setup: unknown, MayFail: late, Check: atOnce(2)})
			r := w.explored(t, s, func(int64) func(context.Context, *sql.DB) error { return w.holder(2, inside) }, amounts...)
			assert.Zero(t, r.Deadlocks)
		})
	})
}

// A lease as one makes it by hand looks whether the name is free, and then takes it.
func TestLeaseByHand(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		w.guarded(t)
		byHand := w.with(func(ctx context.Context, db *raceproof.DB) error {
			var holder int64
			if err := db.Ext(ctx).QueryRowxContext(ctx, `SELECT token FROM guarded`).Scan(&holder); err != nil {
				return err
			}
			if holder != 0 {
				return raceproof.ErrLocked
			}
			if err := own(ctx, db, `UPDATE guarded SET token = 1`); err != nil {
				return err
			}
			if err := own(ctx, db, enters); err != nil {
				return err
			}
			return own(ctx, db, `UPDATE guarded SET inside = inside - 1, token = 0`)
		})
		f := caught(t, racetest.Scenario{
			Open: w.connector, Setup: unknown, MayFail: late, Check: atOnce(1),
			Actors: racetest.Actors{"alice": byHand, "bob": byHand},
		}, racetest.Invariant)
		assert.ErrorContains(t, f, "2 were inside at once")
	})
}
