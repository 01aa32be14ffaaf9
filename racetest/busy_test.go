package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/raceproof/raceproof/racetest"
)

// A situation is one in which somebody is in the way of a statement.
type situation struct {
	name   string
	mode   string // of the journal
	before []string
	hold   []string // what the other does after that
	ask    string
	waits  bool // as SQLite does, and not as it should
}

const (
	reads  = "SELECT score FROM players WHERE id = 7"
	writes = "UPDATE players SET score = score + 1 WHERE id = 7"
)

var situations = []situation{
	{name: "a lock is asked for first", mode: "WAL", hold: []string{"BEGIN IMMEDIATE"}, ask: "BEGIN IMMEDIATE", waits: true},
	{name: "a lock is asked for first, without WAL", mode: "DELETE", hold: []string{"BEGIN IMMEDIATE"}, ask: "BEGIN IMMEDIATE", waits: true},
	{name: "a write by itself", mode: "WAL", hold: []string{"BEGIN IMMEDIATE"}, ask: writes, waits: true},
	{name: "a write that returns rows", mode: "WAL", hold: []string{"BEGIN IMMEDIATE"}, ask: writes + " RETURNING score", waits: true},
	{name: "a write by itself while somebody reads", mode: "DELETE", hold: []string{"BEGIN", reads}, ask: writes, waits: true},
	{name: "a read while all is locked", mode: "DELETE", hold: []string{"BEGIN EXCLUSIVE"}, ask: reads, waits: true},
	{name: "the first read in a transaction while all is locked", mode: "DELETE", before: []string{"BEGIN"}, hold: []string{"BEGIN EXCLUSIVE"}, ask: reads, waits: true},
	{name: "the first write in a transaction", mode: "WAL", before: []string{"BEGIN"}, hold: []string{"BEGIN IMMEDIATE"}, ask: writes, waits: true},
	{name: "the first write in a transaction, without WAL", mode: "DELETE", before: []string{"BEGIN"}, hold: []string{"BEGIN IMMEDIATE"}, ask: writes, waits: true},
	{name: "a write after a setting", mode: "WAL", before: []string{"BEGIN", "PRAGMA query_only = OFF"}, hold: []string{"BEGIN IMMEDIATE"}, ask: writes, waits: true},
	{name: "a write after a savepoint in a transaction", mode: "WAL", before: []string{"BEGIN", "SAVEPOINT a"}, hold: []string{"BEGIN IMMEDIATE"}, ask: writes, waits: true},
	{name: "a write after a read", mode: "WAL", before: []string{"BEGIN", reads}, hold: []string{"BEGIN IMMEDIATE"}, ask: writes},
	{name: "a write after a read, without WAL", mode: "DELETE", before: []string{"BEGIN", reads}, hold: []string{"BEGIN IMMEDIATE"}, ask: writes},
	{name: "a write after a read that others have overtaken", mode: "WAL", before: []string{"BEGIN", reads}, hold: []string{"BEGIN", writes, "COMMIT", "BEGIN"}, ask: writes},
	{name: "a write after a read that has failed", mode: "WAL", before: []string{"BEGIN", "SELECT abs(-9223372036854775808) FROM players"}, hold: []string{"BEGIN IMMEDIATE"}, ask: writes},
	{name: "a write after a savepoint", mode: "WAL", before: []string{"SAVEPOINT a"}, hold: []string{"BEGIN IMMEDIATE"}, ask: writes, waits: true},
	{name: "a write after a savepoint and a read", mode: "WAL", before: []string{"SAVEPOINT a", reads}, hold: []string{"BEGIN IMMEDIATE"}, ask: writes},
	{name: "COMMIT while somebody reads", mode: "DELETE", before: []string{"BEGIN", writes}, hold: []string{"BEGIN", reads}, ask: "COMMIT", waits: true},
	{name: "END while somebody reads", mode: "DELETE", before: []string{"BEGIN", writes}, hold: []string{"BEGIN", reads}, ask: "END", waits: true},
	{name: "the release of a savepoint while somebody reads", mode: "DELETE", before: []string{"SAVEPOINT a", writes}, hold: []string{"BEGIN", reads}, ask: "RELEASE a", waits: true},
}

// give is what racetest and SQLite itself are asked with: the same texts, on one connection.
func give(ctx context.Context, c *sql.Conn, text string) error {
	if text == reads || strings.Contains(text, "RETURNING") {
		var score int
		return c.QueryRowContext(ctx, text).Scan(&score)
	}
	_, err := c.ExecContext(ctx, text)
	return err
}

func isBusy(err error) bool {
	var e sqlite3.Error
	return errors.As(err, &e) && e.Code == sqlite3.ErrBusy
}

func (s situation) dsn(t *testing.T) string {
	return "file:" + filepath.Join(t.TempDir(), "test.db") + "?_synchronous=OFF&_journal_mode=" + s.mode
}

// TestBusyIsAsInSQLite compares what racetest decides with what SQLite's own waiting does.
func TestBusyIsAsInSQLite(t *testing.T) {
	for _, s := range situations {
		t.Run(s.name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			assert.Equal(t, s.waits, s.really(t), "SQLite waits")
			assert.Equal(t, s.waits, s.played(t), "racetest waits")
		})
	}
}

// really tells whether SQLite waits: mostly, of five times, for as long as is set. A machine that is busy makes a refusal
// slow now and then, and a COMMIT that is sent again was seen to be refused sooner.
func (s situation) really(t *testing.T) bool {
	const patience = 50 * time.Millisecond
	ctx := t.Context()
	db, err := sql.Open("sqlite3", s.dsn(t)+"&_busy_timeout=50")
	require.NoError(t, err)
	defer func() { assert.NoError(t, db.Close()) }()
	require.NoError(t, setup(ctx, db))
	asker, err := db.Conn(ctx)
	require.NoError(t, err)
	holder, err := db.Conn(ctx)
	require.NoError(t, err)
	for _, text := range s.before {
		if err := give(ctx, asker, text); !strings.Contains(text, "abs(") {
			require.NoError(t, err, text)
		}
	}
	for _, text := range s.hold {
		require.NoError(t, give(ctx, holder, text), text)
	}
	waits := 0
	for range 5 {
		start := time.Now()
		err = give(ctx, asker, s.ask)
		require.True(t, isBusy(err), "%s: %v", s.ask, err)
		if time.Since(start) >= patience {
			waits++
		}
	}
	_, _ = asker.ExecContext(ctx, "ROLLBACK")
	_, _ = holder.ExecContext(ctx, "ROLLBACK")
	require.NoError(t, errors.Join(asker.Close(), holder.Close()))
	return waits > 2
}

// played tells whether racetest lets the statement wait in the same situation.
func (s situation) played(t *testing.T) bool {
	errSeen := errors.New("seen")
	all := func(texts ...string) actorFunc {
		return func(ctx context.Context, db *sql.DB) error {
			c, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = c.Close() }()
			for _, text := range texts {
				if e := give(ctx, c, text); !strings.Contains(text, "abs(") {
					err = errors.Join(err, e)
				}
			}
			_, _ = c.ExecContext(ctx, "ROLLBACK")
			return err
		}
	}
	sc := scenario(&counted{dsn: s.dsn(t)}, racetest.Actors{
		"asker": all(append(s.before[:len(s.before):len(s.before)], s.ask)...), "holder": all(s.hold...),
	})
	sc.MayFail = func(_ string, err error) bool { return isBusy(err) }
	sc.Check = func(context.Context, *sql.DB, map[string]error) error { return errSeen }
	before := 0
	for _, text := range s.before {
		if !strings.HasPrefix(text, "PRAGMA") { // is no choice
			before++
		}
	}
	token := strings.Repeat("a ", before) + strings.Repeat("h ", len(s.hold)) + "a"
	_, err := behaveWith(t, sc, []racetest.Option{racetest.Replay(token)})
	var f *racetest.Failure
	require.ErrorAs(t, err, &f)
	require.ErrorIs(t, err, errSeen)
	step := f.Steps[before+len(s.hold)] // settings are not in the timeline
	require.Equal(t, "asker: "+s.ask, step.Actor+": "+step.Statement)
	require.NotEqual(t, step.Blocked, step.Failed, "it waits and then goes on, or is refused at once: %v", err)
	return step.Blocked
}
