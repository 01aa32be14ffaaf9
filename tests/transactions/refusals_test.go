package transactions_test

import (
	"context"
	"database/sql"
	"net/url"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A refusal is a way in which a database refuses a transaction on account of another.
type refusal struct {
	name    string
	on      func(databases.Database) bool
	options func(databases.Database) databases.Options
	level   sql.IsolationLevel

	// provoke brings it about in the context's transaction, and returns its error, or nil if it comes with COMMIT.
	provoke func(t *testing.T, ctx context.Context, w *world.World) error

	dooms func(databases.Database) bool // the whole transaction, whatever its function makes of the error
	want  error
}

func byDefault(databases.Database) databases.Options { return databases.Options{} }

var refusals = []refusal{
	{name: "an update that comes too late", on: everywhere, options: byDefault,
		provoke: func(_ *testing.T, ctx context.Context, w *world.World) error { return overtaken(ctx, w) }, dooms: nowhere,
		want: raceproof.ErrConflict},
	{name: "a row that was changed", on: onPostgres, options: byDefault, level: sql.LevelRepeatableRead,
		provoke: changed, dooms: everywhere, want: raceproof.ErrConflict},
	{name: "a row that was changed, of a connection's own level", on: onPostgres,
		options: func(databases.Database) databases.Options { return databases.Options{Isolation: "serializable"} },
		provoke: changed, dooms: everywhere, want: raceproof.ErrConflict},
	{name: "a row that was changed, of a server that looks", on: onMariaDB, provoke: changed, dooms: everywhere, want: raceproof.ErrConflict,
		options: func(d databases.Database) databases.Options {
			return parameter(d, "", "innodb_snapshot_isolation", "ON")
		}},
	{name: "a row that was changed, among those of a query", on: onPostgres, options: byDefault, level: sql.LevelRepeatableRead,
		provoke: changedAmongRows, dooms: everywhere, want: raceproof.ErrConflict},
	{name: "a row that was changed, by an updater", on: onPostgres, options: byDefault, level: sql.LevelRepeatableRead,
		provoke: func(t *testing.T, ctx context.Context, w *world.World) error {
			_, err := scoreOf(ctx, w.DB, 8)
			require.NoError(t, err)
			w.Look.MustExec(overtake)
			_, err = w.Pattern("atomic").Update(ctx, 7, world.Award(1))
			return err
		}, dooms: nowhere, want: raceproof.ErrConflict}, // it was a savepoint that was refused
	{name: "skew, at COMMIT", on: onPostgres, options: byDefault, level: sql.LevelSerializable, provoke: skewed, dooms: everywhere,
		want: raceproof.ErrConflict},
	{name: "a deadlock", on: onServers, provoke: deadlocked, dooms: everywhere, want: raceproof.ErrConflict,
		options: func(d databases.Database) databases.Options { return parameter(d, "deadlock_timeout", "", "10ms") }},
	{name: "a lock that was not free", on: onServers, want: raceproof.ErrLocked, provoke: locked, dooms: onPostgres,
		options: func(d databases.Database) databases.Options {
			if d.Kind == servers.MariaDB {
				return parameter(d, "", "innodb_lock_wait_timeout", "0")
			}
			return parameter(d, "lock_timeout", "", "20ms")
		}},
	{name: "a table that was not free", on: only("sqlite/mattn"), want: raceproof.ErrLocked, provoke: lockedTable, dooms: nowhere,
		options: func(databases.Database) databases.Options { // the tables of a shared cache have locks of their own
			return databases.Options{Parameters: url.Values{"cache": {"shared"}}}
		}},
}

// changed writes a row that somebody else has changed since the transaction has begun to read.
func changed(t *testing.T, ctx context.Context, w *world.World) error {
	_, err := scoreOf(ctx, w.DB, 8)
	require.NoError(t, err)
	w.Look.MustExec(overtake)
	return exec(ctx, w.DB, writeAda)
}

// changedAmongRows is changed, found out when a row was read already.
func changedAmongRows(t *testing.T, ctx context.Context, w *world.World) error {
	_, err := scoreOf(ctx, w.DB, 8)
	require.NoError(t, err)
	w.Look.MustExec(overtake)
	rows, err := w.DB.Ext(ctx).QueryxContext(ctx, `SELECT id FROM players ORDER BY id DESC FOR UPDATE`)
	require.NoError(t, err, "it is the rows that have the error")
	defer func() { _ = rows.Close() }()
	read := 0
	for rows.Next() {
		read++
	}
	require.NotZero(t, read)
	return rows.Err()
}

// skewed reads what another transaction writes, and writes what that has read.
func skewed(t *testing.T, ctx context.Context, w *world.World) error {
	other, err := w.Look.BeginTxx(t.Context(), &sql.TxOptions{Isolation: sql.LevelSerializable})
	require.NoError(t, err)
	const both = `SELECT sum(score) FROM players`
	require.NoError(t, other.Get(new(int64), both))
	require.NoError(t, sqlx.GetContext(ctx, w.DB.Ext(ctx), new(int64), both))
	_, err = other.Exec(overtake)
	require.NoError(t, err)
	require.NoError(t, exec(ctx, w.DB, writeBob))
	require.NoError(t, other.Commit())
	return nil
}

// deadlocked waits for somebody who waits for it. PostgreSQL gives up who looks first, MariaDB who has done less.
func deadlocked(t *testing.T, ctx context.Context, w *world.World) error {
	other, err := w.Look.Beginx()
	require.NoError(t, err)
	heavier := `SET LOCAL deadlock_timeout = '60s'`
	if w.Kind == servers.MariaDB {
		heavier = `INSERT INTO players SELECT seq, seq, 1, 0, 0 FROM seq_101_to_120`
	}
	_, err = other.Exec(heavier)
	require.NoError(t, err)
	_, err = other.Exec(writeBob)
	require.NoError(t, err)
	require.NoError(t, exec(ctx, w.DB, writeAda))
	done := make(chan error, 1)
	go func() {
		_, err := other.Exec(overtake)
		done <- err
	}()
	w.Waiting()
	refused := exec(ctx, w.DB, writeBob)
	go func() { // PostgreSQL holds the locks until the rollback
		if err := <-done; assert.NoError(t, err) {
			_ = other.Rollback()
		}
	}()
	return refused
}

// locked wants a row that somebody else holds, and who has let it go when the error is there.
func locked(t *testing.T, ctx context.Context, w *world.World) error {
	_, rollback := w.Hold(7)
	defer rollback()
	return exec(ctx, w.DB, writeAda)
}

// lockedTable is locked for a table that somebody else is reading.
func lockedTable(t *testing.T, ctx context.Context, w *world.World) error {
	reader, err := w.Look.Beginx()
	require.NoError(t, err)
	defer func() { _ = reader.Rollback() }()
	require.NoError(t, reader.Get(new(int64), `SELECT count(*) FROM doors`))
	return exec(ctx, w.DB, `INSERT INTO doors VALUES (1)`)
}
