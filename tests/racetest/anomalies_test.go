package racetest_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/tests/databases"
)

// A verdict is what a level makes of an anomaly.
type verdict string

const (
	found   verdict = "found"   // the level lets it happen
	refused verdict = "refused" // in some schedules the database refuses one of the two
	never   verdict = "never"   // no schedule can show it, and nobody is refused
)

// A level is an isolation level of a database, and the verdicts on the anomalies in their order.
//
// PostgreSQL 15, 13.2 "Transaction Isolation": read committed sees in each statement what is committed by then; repeatable
// read has one snapshot, and refuses to write over what is newer; serializable refuses all that could not have come of one
// transaction after the other, unique constraints included if everybody looks before he inserts.
//
// MariaDB, "SET TRANSACTION": read committed as above; repeatable read has one snapshot for what only reads, and writes
// what is newest without a word, or with innodb_snapshot_isolation refuses to; serializable locks all that is read, so
// that two who have read the same and want to write it wait for each other. What a locking statement finds behind a
// snapshot is what it has not seen: an INSERT meets a row that is not there.
//
// SQLite, "Isolation in SQLite": all is serializable. Who has read what is no longer so, or has read while another writes,
// may not write; who has begun with BEGIN IMMEDIATE is alone in the first place.
//
// tests/hermitage has the same of the servers: P4, G2-item, G-single, PMP, PMP-rw and G2.
type level struct {
	dialect, name string
	isolation     sql.IsolationLevel
	parameters    url.Values
	verdicts      [8]verdict
}

var levels = []level{
	//                                                     lost     write    read   phantom phantom  check    get or   and
	//                                                     update   skew     skew   read    written  insert   create   unique
	{"postgres", "read committed", sql.LevelReadCommitted, nil,
		[8]verdict{found, found, found, found, found, found, found, found}},
	{"postgres", "repeatable read", sql.LevelRepeatableRead, nil,
		[8]verdict{refused, found, never, never, never, found, found, found}},
	{"postgres", "serializable", sql.LevelSerializable, nil,
		[8]verdict{refused, refused, never, never, never, refused, refused, refused}},
	{"mariadb", "read committed", sql.LevelReadCommitted, snapshots("OFF"),
		[8]verdict{found, found, found, found, found, found, found, found}},
	{"mariadb", "repeatable read", sql.LevelRepeatableRead, snapshots("OFF"),
		[8]verdict{found, found, never, never, found, found, found, found}},
	{"mariadb", "repeatable read, snapshot", sql.LevelRepeatableRead, snapshots("ON"),
		[8]verdict{refused, found, never, never, refused, found, found, refused}},
	{"mariadb", "serializable", sql.LevelSerializable, snapshots("OFF"),
		[8]verdict{refused, refused, never, never, never, refused, refused, refused}},
	{"sqlite", "deferred", sql.LevelDefault, nil,
		[8]verdict{refused, refused, never, never, refused, refused, refused, refused}},
	{"sqlite", "immediate", sql.LevelDefault, url.Values{"_txlock": {"immediate"}},
		[8]verdict{never, never, never, never, never, never, never, never}},
}

// Newer servers have it on.
func snapshots(value string) url.Values { return url.Values{"innodb_snapshot_isolation": {value}} }

func TestAnomalies(t *testing.T) {
	for _, d := range databases.All() {
		for _, l := range levels {
			if l.dialect != d.Dialect {
				continue
			}
			t.Run(d.Name+"/"+l.name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, d, databases.Options{Parameters: l.parameters})
				anomalyTables(t, w)
				for i, a := range anomalies {
					t.Run(a.name, func(t *testing.T) { a.at(t, w, l, l.verdicts[i]) })
				}
			})
		}
	}
}

// at explores the anomaly, and compares what comes of it.
func (a anomaly) at(t *testing.T, w *world, l level, want verdict) {
	both, failed := 0, map[string]int{}
	s := racetest.Scenario{
		Open: w.connector, Setup: a.setup, Actors: racetest.Actors{},
		// What could be made again is no anomaly; and nobody must be refused for nothing.
		MayFail: func(_ string, err error) bool { return want != never && conflict(err) },
		Check: func(ctx context.Context, db *sql.DB, returned map[string]error) error {
			done := 0
			for _, err := range returned {
				if err != nil {
					failed[refusal(err)]++
				} else {
					done++
				}
			}
			if done == len(returned) {
				both++
			}
			if a.check == nil {
				return nil
			}
			return a.check(ctx, db, returned)
		},
	}
	for name, do := range a.actors {
		s.Actors[name] = func(ctx context.Context, db *sql.DB) error {
			check := func() error { return nil }
			err := begin(ctx, db, &sql.TxOptions{Isolation: l.isolation}, func(tx *sql.Tx) (err error) {
				check, err = do(ctx, tx)
				return err
			})
			if err != nil || check == nil {
				return err
			}
			return check()
		}
	}
	if want == found {
		caught(t, s, a.kind)
		return
	}
	r, err := racetest.Run(t.Context(), s)
	require.NoError(t, err)
	t.Logf("%v: both done in %d, refused %v", r, both, failed)
	assert.Greater(t, r.Schedules, 1)
	assert.Positive(t, both)
	assert.Equal(t, want == refused, len(failed) > 0, "refused: %v", failed)
}

// count is a query for one number.
func count(ctx context.Context, tx interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}, query string) (n int, err error) {
	err = tx.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

// exec is a statement whose result is not wanted.
func exec(ctx context.Context, tx *sql.Tx, statements ...string) error {
	for _, statement := range statements {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}
