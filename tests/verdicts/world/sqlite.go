package world

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/tests/databases"
)

// parameters returns the DSN parameters of a SQLite driver for a journal and a time to wait for locks.
func parameters(d databases.Database, journal string, wait string) url.Values {
	if d.Name == "sqlite/mattn" {
		return url.Values{"_journal_mode": {journal}, "_busy_timeout": {wait}, "_synchronous": {"OFF"}}
	}
	return url.Values{"_pragma": {"busy_timeout(" + wait + ")", "journal_mode(" + journal + ")", "synchronous(off)"}}
}

// SQLite provokes SQLite's errors, and tells each with the extended code that it must have to see, which returns the
// code that it has. It is here, as one of the drivers cannot be in one binary with the others.
func SQLite(t *testing.T, d databases.Database, see func(error) int) {
	type failure struct {
		name    string
		journal string
		code    int
		class   dialect.Class
		provoke func(*testing.T, *World) error
	}
	run := func(t *testing.T, c sqlx.ExecerContext, statements ...string) {
		t.Helper()
		for _, statement := range statements {
			_, err := c.ExecContext(context.Background(), statement)
			require.NoError(t, err, statement)
		}
	}
	conn := func(t *testing.T, w *World) *sqlx.Conn {
		c, err := w.Look.Connx(context.Background())
		require.NoError(t, err)
		t.Cleanup(func() {
			_, _ = c.ExecContext(context.Background(), "ROLLBACK") // there may be none
			_ = c.Close()
		})
		return c
	}
	one := func(statement string) func(*testing.T, *World) error {
		return func(t *testing.T, w *World) error {
			_, err := conn(t, w).ExecContext(context.Background(), statement)
			return err
		}
	}
	const write, read = `UPDATE players SET score = score + 1`, `SELECT count(*) FROM players`
	for _, f := range []failure{
		{"write lock held", "wal", 5, dialect.Busy, func(t *testing.T, w *World) error {
			holder, c := conn(t, w), conn(t, w)
			run(t, holder, `BEGIN IMMEDIATE`)
			_, err := c.ExecContext(context.Background(), `BEGIN IMMEDIATE`)
			return err
		}},
		{"snapshot out of date", "wal", 517, dialect.Conflict, func(t *testing.T, w *World) error {
			c := conn(t, w)
			run(t, c, `BEGIN`)
			var n int
			require.NoError(t, c.GetContext(context.Background(), &n, read))
			run(t, w.Look, write)
			_, err := c.ExecContext(context.Background(), write)
			return err
		}},
		{"COMMIT with a reader", "delete", 5, dialect.Busy, func(t *testing.T, w *World) error {
			reader, c := conn(t, w), conn(t, w)
			run(t, reader, `BEGIN`)
			var n int
			require.NoError(t, reader.GetContext(context.Background(), &n, read))
			run(t, c, `BEGIN IMMEDIATE`, write)
			_, err := c.ExecContext(context.Background(), `COMMIT`)
			return err
		}},
		{"unique", "wal", 2067, dialect.Other, one(`UPDATE players SET name = 'Bob' WHERE id = 7`)},
		{"primary key", "wal", 1555, dialect.Other, func(t *testing.T, w *World) error {
			run(t, w.Look, `CREATE TABLE IF NOT EXISTS keys (a TEXT PRIMARY KEY)`, `INSERT INTO keys VALUES ('x')`)
			return one(`INSERT INTO keys VALUES ('x')`)(t, w)
		}},
		{"check", "wal", 275, dialect.Other, one(`UPDATE players SET score = -1`)},
		{"too big", "wal", 18, dialect.OutOfRange, one(`SELECT zeroblob(9223372036854775807)`)},
		{"read only", "wal", 8, dialect.Other, func(t *testing.T, w *World) error {
			c := conn(t, w)
			run(t, c, `PRAGMA query_only = ON`)
			defer run(t, c, `PRAGMA query_only = OFF`)
			_, err := c.ExecContext(context.Background(), write)
			return err
		}},
		{"no such table", "wal", 1, dialect.Other, one(`UPDATE missing SET n = 1`)},
		{"foreign key at COMMIT", "wal", 787, dialect.Other, func(t *testing.T, w *World) error {
			c := conn(t, w)
			run(t, c, `PRAGMA foreign_keys = ON`, `CREATE TABLE prizes (player REFERENCES players DEFERRABLE INITIALLY DEFERRED)`,
				`BEGIN`, `INSERT INTO prizes VALUES (99)`)
			_, err := c.ExecContext(context.Background(), `COMMIT`)
			return err
		}},
	} {
		t.Run(f.name, func(t *testing.T) {
			w := New(t, d, databases.Options{Parameters: parameters(d, f.journal, "0")})
			err := f.provoke(t, w)
			require.Error(t, err)
			require.Equal(t, f.code, see(err), "%v", err)
			assert.Equal(t, f.class, w.Dialect.Classify(err), "%v", err)
			assert.False(t, w.Dialect.EndsTransaction(err))
			assert.True(t, w.Dialect.Refused(err), "what runs in this process tells how it ended")
		})
	}
	t.Run("updaters", func(t *testing.T) { sqliteUpdaters(t, d, see) })
}

// sqliteUpdaters provokes the same through every updater: what is permanent is not tried again, what is a lock is.
func sqliteUpdaters(t *testing.T, d databases.Database, see func(error) int) {
	w := New(t, d, databases.Options{})
	for _, p := range w.Patterns() {
		for _, f := range []struct {
			code   int
			change Change
		}{{2067, Rename("Bob")}, {275, Award(-5)}} {
			w.Calls.Store(0)
			_, err := p.Update(t.Context(), 7, f.change)
			assert.Equal(t, f.code, see(err), "%s: %v", p.Name, err)
			assert.ErrorContains(t, err, "players", p.Name)
			assert.LessOrEqual(t, w.Calls.Load(), int64(1), p.Name)
			w.Unchanged(p.Name)
		}
	}
	_, err := w.Pattern("atomic").Update(t.Context(), 7, Award(1<<63-1))
	assert.Equal(t, 18, see(err), err)
	assert.ErrorIs(t, err, raceproof.ErrOutOfRange)
	w.Unchanged()

	// The write lock is held outside.
	holder, err := w.Look.Connx(t.Context())
	require.NoError(t, err)
	_, err = holder.ExecContext(t.Context(), `BEGIN IMMEDIATE`)
	require.NoError(t, err)
	for _, p := range w.Patterns() {
		gone := errors.New("the caller has gone")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Millisecond, gone)
		_, err := p.Update(ctx, 7, Award(1))
		cancel()
		assert.Equal(t, 5, see(err), "%s: %v", p.Name, err)
		for _, want := range []error{raceproof.ErrLocked, context.DeadlineExceeded, gone} {
			assert.ErrorIs(t, err, want, p.Name)
		}
	}
	_, err = holder.ExecContext(t.Context(), `ROLLBACK`)
	require.NoError(t, err)
	require.NoError(t, holder.Close())
	w.Unchanged()

	// The file can be read and not written.
	name, _, _ := strings.Cut(w.DSN(databases.Options{}), "?")
	pool, err := sqlx.Open(d.Driver, name+"?mode=ro")
	require.NoError(t, err)
	defer func() { _ = pool.Close() }()
	refusing, closing := w.wrap(pool)
	defer closing()
	for _, p := range refusing {
		w.Calls.Store(0)
		_, err := p.Update(t.Context(), 7, Award(1))
		assert.Equal(t, 8, see(err)&0xff, "%s: %v", p.Name, err)
		assert.ErrorContains(t, err, "players", p.Name)
		assert.LessOrEqual(t, w.Calls.Load(), int64(1), p.Name)
		w.Unchanged(p.Name)
	}

	// That there is no row is none of its errors.
	_, err = w.Pattern("lock").Update(t.Context(), 9, Award(1))
	assert.ErrorIs(t, err, sql.ErrNoRows)
}
