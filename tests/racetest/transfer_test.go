package racetest_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/tests/databases"
)

// moves takes from one account and gives to another, in this order, as one writes it by hand.
func moves(from, to, n int) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		return begin(ctx, db, nil, func(tx *sql.Tx) error { return move(ctx, tx, from, to, n) })
	}
}

func move(ctx context.Context, tx *sql.Tx, from, to, n int) error {
	if _, err := tx.ExecContext(ctx, fmt.Sprintf(`UPDATE accounts SET balance = balance - %d WHERE id = %d`, n, from)); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, fmt.Sprintf(`UPDATE accounts SET balance = balance + %d WHERE id = %d`, n, to))
	return err
}

// looksAndMoves also reads first.
func looksAndMoves(from, to, n int) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		return begin(ctx, db, nil, func(tx *sql.Tx) error {
			var balance int
			if err := tx.QueryRowContext(ctx, fmt.Sprintf(`SELECT balance FROM accounts WHERE id = %d`, from)).Scan(&balance); err != nil {
				return err
			}
			if balance < n {
				return fmt.Errorf("account %d has only %d", from, balance)
			}
			return move(ctx, tx, from, to, n)
		})
	}
}

// Two transfers in opposite directions take two locks in opposite order. SQLite has one lock for all: there the second
// waits before it has anything that the first could want.
func TestTransfer(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := racetest.Scenario{
			Open: w.connector, Setup: rows, Check: has(105, 95),
			Actors: racetest.Actors{"alice": moves(1, 2, 5), "bob": moves(2, 1, 10)},
		}
		if w.Dialect == "sqlite" {
			r := racetest.Explore(t, s)
			assert.Positive(t, r.Blocked)
			assert.Zero(t, r.Deadlocks)
			return
		}
		f := caught(t, s, racetest.Deadlock)
		other := map[string]string{"alice": "bob", "bob": "alice"}[f.Actor]
		says := "alice waits for bob, bob waits for alice"
		if w.Dialect == "mariadb" { // it refuses the second before it waits
			says = f.Actor + " and " + other + " would have waited for each other"
		}
		assert.Contains(t, f.Error(), ": deadlock: "+says+"; "+f.Actor+" has failed: ")
		assert.Equal(t, map[string]string{"postgres": "40P01", "mariadb": "1213"}[w.Dialect], refusal(f.Err))
		// Bob comes to alice's row first, and she then to his.
		second := find(t, f, "bob", "WHERE id = 1")
		assert.True(t, second.Blocked)
		assert.Equal(t, []string{"alice"}, second.WaitsFor)
		if last := find(t, f, "alice", "WHERE id = 2"); last.Blocked {
			assert.Equal(t, []string{"bob"}, last.WaitsFor)
		}
	})
}

// Three in a ring: no two of them have anything to do with each other's second row.
func TestTransferRing(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		s := racetest.Scenario{
			Open:   w.connector,
			Setup:  fill(`DELETE FROM accounts`, `INSERT INTO accounts VALUES (1, 100, 0), (2, 100, 0), (3, 100, 0)`),
			Check:  has(100, 100),
			Actors: racetest.Actors{"alice": moves(1, 2, 5), "bob": moves(2, 3, 5), "carol": moves(3, 1, 5)},
		}
		if w.Dialect == "sqlite" { // as in TestTransfer
			assert.Zero(t, racetest.Explore(t, s).Deadlocks)
			return
		}
		f := caught(t, s, racetest.Deadlock)
		if w.Dialect == "postgres" {
			assert.Contains(t, f.Error(), ": deadlock: alice waits for bob, bob waits for carol, carol waits for alice; "+f.Actor+" has failed: ")
		} else {
			assert.Regexp(t, `: deadlock: (carol and alice or bob|bob and alice or carol|alice and bob or carol) would have waited for each other; `+f.Actor+` has failed: `, f.Error())
		}
		assert.Equal(t, []string{"carol"}, find(t, f, "bob", "WHERE id = 3").WaitsFor)
		assert.Equal(t, []string{"bob"}, find(t, f, "alice", "WHERE id = 2").WaitsFor)
	})
}

// find returns the step of an actor whose statement has the text.
func find(t *testing.T, f *racetest.Failure, actor, text string) racetest.Step {
	t.Helper()
	for _, step := range f.Steps {
		if step.Actor == actor && strings.Contains(step.Statement, text) {
			return step
		}
	}
	t.Errorf("%s has no step with %q:%v", actor, text, f)
	return racetest.Step{}
}

// Whoever has read on SQLite and then wants the lock that another has is told at once that it is busy: the other may be
// waiting for the end of that reading, and in a rollback journal it is.
func TestTransferOnSQLite(t *testing.T) {
	for _, d := range databases.All() {
		if d.Dialect != "sqlite" {
			continue
		}
		for _, journal := range []string{"wal", "delete"} {
			t.Run(d.Name+"/"+journal, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, d, databases.Options{Parameters: journalMode(d, journal)})
				f := caught(t, racetest.Scenario{
					Open: w.connector, Setup: rows,
					Check: func(context.Context, *sql.DB, map[string]error) error { return nil },
					// In a WAL the other may have gone already: then what was read is too old, which is no deadlock.
					MayFail: func(_ string, err error) bool { return refusal(err) == "snapshot" },
					Actors:  racetest.Actors{"alice": looksAndMoves(1, 2, 5), "bob": looksAndMoves(2, 1, 10)},
				}, racetest.Deadlock)
				assert.Equal(t, "busy", refusal(f.Err))
				other := map[string]string{"alice": "bob", "bob": "alice"}[f.Actor]
				assert.Contains(t, f.Error(), fmt.Sprintf("deadlock: %s and %s would have waited for each other; %s has failed: ", f.Actor, other, f.Actor))
				assert.Contains(t, find(t, f, f.Actor, "UPDATE").Result, "database is locked")
				if commit := find(t, f, other, "COMMIT"); journal == "delete" {
					assert.Equal(t, []string{f.Actor}, commit.WaitsFor)
				} else {
					assert.False(t, commit.Blocked)
				}
			})
		}
	}
}

func journalMode(d databases.Database, mode string) url.Values {
	if d.Driver == "sqlite3" {
		return url.Values{"_journal_mode": {mode}}
	}
	return url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(" + mode + ")", "synchronous(off)"}}
}

func (w *world) transfers(pattern adder, from, to, n int64) func(context.Context, *sql.DB) error {
	return w.with(func(ctx context.Context, db *raceproof.DB) error {
		updater := pattern(db)
		return db.Transact(ctx, func(ctx context.Context) error {
			if _, err := updater.Update(ctx, from, -n); err != nil {
				return err
			}
			_, err := updater.Update(ctx, to, n)
			return err
		})
	})
}

// In Transact nobody sees anything of it, whichever pattern. On the servers every deadlock costs time, and there are more
// than a thousand schedules with one.
func TestTransferInTransact(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, pattern := range patterns {
			t.Run(name, func(t *testing.T) {
				r := racetest.Explore(t, bounded(30, racetest.Scenario{
					Open: w.connector, Setup: rows, Check: has(105, 95),
					Actors: racetest.Actors{"alice": w.transfers(pattern, 1, 2, 5), "bob": w.transfers(pattern, 2, 1, 10)},
				}))
				assert.Positive(t, r.Blocked)
				if w.Dialect == "sqlite" {
					assert.Zero(t, r.Deadlocks) // it takes the lock when it begins
				} else {
					assert.Positive(t, r.Deadlocks)
				}
			})
		}
	})
}
