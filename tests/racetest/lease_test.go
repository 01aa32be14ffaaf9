package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lease"
	"github.com/raceproof/raceproof/tests/databases"
)

// held leases have no goroutine, and no time of theirs is over while a schedule runs: only "time" ends them.
var held = &lease.Options{Manual: true, TTL: time.Hour}

// guarded is what the holders of a name write. stale says that somebody wrote behind one with a higher token, inside how
// many are there, and most how many were at once.
func (w *world) guarded(t *testing.T) {
	pool := w.Fresh.Open(databases.Options{})
	_, err := pool.Exec(`CREATE TABLE guarded (token BIGINT NOT NULL, stale BIGINT NOT NULL, inside BIGINT NOT NULL, most BIGINT NOT NULL)`)
	require.NoError(t, err)
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	require.NoError(t, lease.CreateTable(t.Context(), db))
}

// unknown is a Setup: nobody has ever held the name.
func unknown(ctx context.Context, db *sql.DB) error {
	for _, table := range []string{"guarded", "raceproof_lease", "raceproof_fence"} {
		if _, err := db.ExecContext(ctx, empties(db)+table); err != nil {
			return err
		}
	}
	_, err := db.ExecContext(ctx, `INSERT INTO guarded VALUES (0, 0, 0, 0)`)
	return err
}

// released is a Setup: somebody has held the name, and released it. It spares the transactions of that.
func (w *world) released(ctx context.Context, db *sql.DB) error {
	name, nobody := `X'6A6F62'`, `X''`
	if w.Dialect == "postgres" {
		name, nobody = `'job'`, `''`
	}
	err := unknown(ctx, db)
	for _, statement := range []string{
		`INSERT INTO raceproof_fence (name, place, token, uses) VALUES (` + name + `, 0, 1, 0), (` + name + `, 1, 1, 1)`,
		`INSERT INTO raceproof_lease (name, place, shown, ttl, renewals) VALUES (` + name + `, 1, ` + nobody + `, 0, 1)`,
	} {
		if err == nil {
			_, err = db.ExecContext(ctx, statement)
		}
	}
	return err
}

// writes is one statement, so that the row's lock puts those of all holders into an order.
func writes(ctx context.Context, db *raceproof.DB, l *lease.Lease) error {
	return own(ctx, db, `UPDATE guarded SET stale = CASE WHEN token > %d THEN 1 ELSE stale END, token = %d`, l.Token(), l.Token())
}

// A holder acquires the name, and works while it has it.
func (w *world) holder(n int, work func(context.Context, *raceproof.DB, *lease.Lease) error) func(context.Context, *sql.DB) error {
	return w.with(func(ctx context.Context, db *raceproof.DB) error {
		s, err := lease.NewSemaphore(db, "job", n, held)
		if err != nil {
			return err
		}
		l, err := s.TryAcquire(ctx)
		if err != nil {
			return err
		}
		return work(ctx, db, l)
	})
}

func fenced(ctx context.Context, db *raceproof.DB, l *lease.Lease) error {
	return db.Transact(ctx, func(ctx context.Context) error {
		if err := writes(ctx, db, l); err != nil {
			return err
		}
		return l.Fence(ctx)
	})
}

// unfenced is what a fence is for.
func unfenced(ctx context.Context, db *raceproof.DB, l *lease.Lease) error {
	return db.Transact(ctx, func(ctx context.Context) error { return writes(ctx, db, l) })
}

// renewsAndReleases is all that one can do with a lease.
func renewsAndReleases(ctx context.Context, db *raceproof.DB, l *lease.Lease) error {
	lost := l.Renew(ctx)
	if err := fenced(ctx, db, l); !errors.Is(err, lost) {
		return fmt.Errorf("renewed: %w; and then with the fence: %w", lost, err)
	}
	return l.Release(ctx)
}

// Time passes: whoever holds the name has not renewed it for an hour.
func (w *world) time(ctx context.Context, db *sql.DB) error {
	past := map[string]string{"sqlite": `0`, "postgres": `clock_timestamp() - interval '1 hour'`, "mariadb": `UTC_TIMESTAMP(6) - INTERVAL 1 HOUR`}
	_, err := db.ExecContext(ctx, `UPDATE raceproof_lease SET expires = `+past[w.Dialect]+` WHERE holder IS NOT NULL`)
	return err
}

// late tells that a holder was told of what he could not do: the name is held, or was lost.
func late(_ string, err error) bool {
	return errors.Is(err, raceproof.ErrLocked) || errors.Is(err, raceproof.ErrLeaseLost)
}

// inOrder is a Check: the tokens in the row only rose. It counts the leases that were lost.
func inOrder(lost *int) func(context.Context, *sql.DB, map[string]error) error {
	return func(ctx context.Context, db *sql.DB, returned map[string]error) error {
		for _, err := range returned {
			if errors.Is(err, raceproof.ErrLeaseLost) {
				*lost++
			}
		}
		var stale int
		err := db.QueryRowContext(ctx, `SELECT stale FROM guarded`).Scan(&stale)
		if err == nil && stale > 0 {
			err = errors.New("who had lost the lease wrote over what the next one had written")
		}
		return err
	}
}
