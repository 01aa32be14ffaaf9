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

// levels are those that a database has, from the lowest to the highest.
func levels(w *world.World) []sql.IsolationLevel {
	if w.Kind == "" {
		return []sql.IsolationLevel{sql.LevelSerializable}
	}
	return []sql.IsolationLevel{sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable}
}

// usual is the level of a connection that was told nothing.
func usual(w *world.World) sql.IsolationLevel {
	return map[servers.Kind]sql.IsolationLevel{
		"": sql.LevelSerializable, servers.Postgres: sql.LevelReadCommitted, servers.MariaDB: sql.LevelRepeatableRead,
	}[w.Kind]
}

// levelOf finds out which level a transaction has. PostgreSQL says so; MariaDB says only what the next one will have, so
// that it is told by what a transaction is shown of somebody else's change, and by whether it keeps him from making it.
func levelOf(t *testing.T, ctx context.Context, w *world.World) sql.IsolationLevel {
	t.Helper()
	q := w.DB.Ext(ctx)
	switch w.Kind {
	case "":
		return sql.LevelSerializable
	case servers.Postgres:
		var name string
		require.NoError(t, sqlx.GetContext(ctx, q, &name, `SHOW transaction_isolation`))
		return map[string]sql.IsolationLevel{"read committed": sql.LevelReadCommitted,
			"repeatable read": sql.LevelRepeatableRead, "serializable": sql.LevelSerializable}[name]
	}
	first, err := scoreOf(ctx, w.DB, 8)
	require.NoError(t, err)
	_, err = w.Look.Exec(`SET STATEMENT innodb_lock_wait_timeout = 0 FOR ` + writeBob)
	if err != nil {
		require.ErrorContains(t, err, "1205")
		return sql.LevelSerializable
	}
	second, err := scoreOf(ctx, w.DB, 8)
	require.NoError(t, err)
	if second == first {
		return sql.LevelRepeatableRead
	}
	return sql.LevelReadCommitted
}

// A transaction has the level that was asked for, whatever the connection's own is, and what comes after it on the same
// connection has the connection's own, however it ended.
func TestLevelAskedFor(t *testing.T) {
	each(t, everywhere, func(t *testing.T, d databases.Database) {
		for _, own := range d.Isolation {
			w := world.New(t, d, databases.Options{Isolation: own})
			w.Pool.SetMaxOpenConns(1)
			usual := usual(w)
			if own != "" {
				usual = map[string]sql.IsolationLevel{"read committed": sql.LevelReadCommitted,
					"repeatable read": sql.LevelRepeatableRead, "serializable": sql.LevelSerializable}[own]
			}
			is := func(want sql.IsolationLevel, ending error, options ...raceproof.TransactOption) {
				t.Helper()
				err := w.DB.Transact(minute(t), func(ctx context.Context) error {
					assert.Equal(t, want, levelOf(t, ctx, w), "by default it is %q", own)
					return ending
				}, options...)
				require.ErrorIs(t, err, ending)
			}
			for _, level := range levels(w) {
				for _, ending := range []error{nil, errOwn} {
					is(level, ending, raceproof.Isolation(level))
					is(usual, nil)
					is(level, ending, raceproof.Isolation(level), raceproof.ReadOnly())
					is(usual, nil, raceproof.Isolation(sql.LevelDefault))
					is(usual, nil, raceproof.ReadOnly())
				}
				panicked, _ := alone(func() {
					_ = w.DB.Transact(minute(t), func(context.Context) error { panic("now") }, raceproof.Isolation(level))
				})
				require.Equal(t, "now", panicked)
				is(usual, nil)
				// The service's own statements have it back too.
				if w.Kind == servers.Postgres {
					var name string
					require.NoError(t, w.Pool.Get(&name, `SHOW transaction_isolation`))
					assert.Equal(t, map[bool]string{true: "read committed", false: own}[own == ""], name)
				}
			}
		}
	})
}

// What a database does not have is not replaced by something else.
func TestLevelsThatAreNotThere(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		has := levels(w)
		for level := sql.LevelReadUncommitted; level <= sql.LevelLinearizable+1; level++ {
			called := 0
			f := func(context.Context) error { called++; return nil }
			try := func(ctx context.Context, about string) {
				called = 0
				err := w.DB.Transact(ctx, f, raceproof.Isolation(level))
				if level == has[0] || len(has) == 3 && (level == has[1] || level == has[2]) {
					require.NoError(t, err, "%v %s", level, about)
					assert.Equal(t, 1, called)
					return
				}
				assert.ErrorIs(t, err, raceproof.ErrUnsupported, "%v %s", level, about)
				assert.Zero(t, called, "%v %s", level, about)
			}
			try(minute(t), "outside")
			require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
				try(ctx, "inside")
				return nil
			}, raceproof.Isolation(sql.LevelSerializable)))
		}
	})
}

// Inside a transaction there is no more to be had than it was begun with.
func TestLevelsInside(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		for _, outer := range append([]sql.IsolationLevel{sql.LevelDefault}, levels(w)...) {
			for _, inner := range append([]sql.IsolationLevel{sql.LevelDefault}, levels(w)...) {
				called := false
				err := w.DB.Transact(minute(t), func(ctx context.Context) error {
					err := w.DB.Transact(ctx, func(ctx context.Context) error {
						called = true
						if outer != sql.LevelDefault {
							assert.Equal(t, outer, levelOf(t, ctx, w))
						}
						return exec(ctx, w.DB, writeAda)
					}, raceproof.Isolation(inner))
					if inner > outer && w.Kind != "" {
						assert.ErrorIs(t, err, raceproof.ErrUnsupported, "%v in %v", inner, outer)
						assert.False(t, called, "%v in %v", inner, outer)
						return nil
					}
					assert.True(t, called, "%v in %v", inner, outer)
					return err
				}, raceproof.Isolation(outer))
				require.NoError(t, err, "%v in %v", inner, outer)
			}
		}
	})
}

// A level of a connection's own was not asked for, so it is not relied on.
func TestLevelInsideIsWhatWasAskedFor(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{Isolation: "serializable"})
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			err := w.DB.Transact(ctx, func(context.Context) error { panic("called") }, raceproof.Isolation(sql.LevelReadCommitted))
			assert.ErrorIs(t, err, raceproof.ErrUnsupported)
			return nil
		}))
	})
}

// queryOnly makes the connections of SQLite refuse writes by themselves.
func queryOnly(d databases.Database) databases.Options {
	if d.Name == "sqlite/mattn" {
		return databases.Options{Parameters: url.Values{"_query_only": {"1"}}}
	}
	return databases.Options{Parameters: url.Values{"_pragma": {"query_only(1)", "busy_timeout(5000)"}}}
}
