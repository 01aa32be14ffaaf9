package verdicts_test

import (
	"cmp"
	"context"
	"errors"
	"net"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// closed returns an address that nobody listens on.
func closed(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// A mistake is no conflict: it is told at once, with the table's name and the driver's own error, and tried once.
func TestMistakes(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		through := databases.Options{Address: w.Proxy.Addr()}
		var grant, drop []string
		readOnly := parameter(d, "default_transaction_read_only", "tx_read_only", "1")
		readOnly.Address = through.Address
		codes := map[string]string{"missing table": "42P01", "no such role": "28000", "no privilege": "42501", "read only": "25006",
			"unique": "23505", "check": "23514", "range": "22003", "overflow": "22003", "another type, atomic": "42883"}
		var schema string
		if d.Kind == servers.Postgres {
			require.NoError(t, w.Look.Get(&schema, `SELECT current_schema`))
			grant = []string{`CREATE ROLE reader_` + schema + ` LOGIN`, `GRANT USAGE ON SCHEMA ` + schema + ` TO reader_` + schema,
				`GRANT SELECT ON players TO reader_` + schema}
			drop = []string{`DROP OWNED BY reader_` + schema, `DROP ROLE reader_` + schema}
		} else {
			schema = "mariadb"
			codes = map[string]string{"missing table": "1146", "no such role": "1045", "no privilege": "1142", "read only": "1792",
				"unique": "1062", "check": "4025", "range": "1264", "overflow": "1690", "another type, atomic": "1292"}
			grant = []string{`CREATE USER reader_mariadb IDENTIFIED BY 'secret'`, `GRANT SELECT ON players TO reader_mariadb`}
			drop = []string{`DROP USER reader_mariadb`}
		}
		for _, statement := range grant {
			w.Look.MustExec(statement)
		}
		t.Cleanup(func() {
			for _, statement := range drop {
				w.Look.MustExec(statement)
			}
		})
		wrap := func(pool *sqlx.DB) *raceproof.DB {
			db, err := raceproof.New(pool)
			require.NoError(t, err)
			t.Cleanup(db.Close)
			return db
		}
		overflow := world.Award(1<<63 - 1)
		overflow.Func = nil // Go would roll over
		for name, c := range map[string]struct {
			patterns []world.Pattern
			change   world.Change
		}{
			"dial refused":   {w.PatternsOf(wrap(w.Fresh.Open(databases.Options{Address: closed(t)}))), world.Award(1)},
			"no such role":   {w.PatternsOf(wrap(w.As("nobody_of_this_name", "wrong", through))), world.Award(1)},
			"missing table":  {w.PatternsIn(raceproof.MustTable[world.Player]("players_missing")), world.Award(1)},
			"no privilege":   {w.PatternsOf(wrap(w.As("reader_"+schema, "secret", through))), world.Award(1)},
			"read only":      {w.PatternsOf(wrap(w.Fresh.Open(readOnly))), world.Award(1)},
			"unique":         {w.Patterns(), world.Rename("Bob")},
			"check":          {w.Patterns(), world.Award(-5)},
			"range":          {w.Patterns(), world.Promote(40000)},
			"overflow":       {w.Patterns(), overflow},
			"no such column": {w.PatternsIn(raceproof.MustTable[world.Player]("players_other")), world.Award(1)},
			"another type":   {w.PatternsIn(raceproof.MustTable[world.Player]("players_typed")), world.Award(1)},
		} {
			w.Look.MustExec(`CREATE TABLE IF NOT EXISTS players_other (id BIGINT PRIMARY KEY, version BIGINT NOT NULL)`)
			w.Look.MustExec(`DROP TABLE IF EXISTS players_typed`)
			w.Look.MustExec(`CREATE TABLE players_typed (id BIGINT PRIMARY KEY, name VARCHAR(20) NOT NULL, score VARCHAR(20) NOT NULL,
				level BIGINT NOT NULL, version BIGINT NOT NULL)`)
			w.Look.MustExec(`INSERT INTO players_typed VALUES (7, 'Ada', 'many', 0, 0)`)
			for _, p := range c.patterns {
				if c.change.Func == nil && p.Name != "atomic" {
					continue
				}
				about := name + ", " + p.Name
				w.Calls.Store(0)
				writes, locks, begins := w.Sent(world.IsWrite), w.Sent(world.IsLock), w.Sent(world.IsBegin)
				_, err := p.Update(minute(t), 7, c.change)
				require.Error(t, err, about)
				assert.ErrorContains(t, err, "players", about)
				assert.Equal(t, cmp.Or(codes[name], codes[about]), saw(d, err), "%s: %v", about, err)
				var refused *net.OpError
				if name == "dial refused" {
					assert.True(t, errors.As(err, &refused), "%s: %v", about, err)
				}
				assert.Equal(t, name == "range" || name == "overflow", errors.Is(err, raceproof.ErrOutOfRange), "%s: %v", about, err)
				for _, other := range []error{raceproof.ErrCommitUnknown, raceproof.ErrConflict, raceproof.ErrLocked, context.DeadlineExceeded} {
					assert.NotErrorIs(t, err, other, about)
				}
				assert.LessOrEqual(t, w.Calls.Load(), int64(1), about)
				assert.LessOrEqual(t, writes(), 1, about)
				assert.LessOrEqual(t, locks(), 1, about)
				assert.LessOrEqual(t, begins(), 4, "%s: of which 3 look at the table", about)
				w.Unchanged(about)
			}
		}
		var typed string
		require.NoError(t, w.Look.Get(&typed, `SELECT score FROM players_typed WHERE version = 0`))
		assert.Equal(t, "many", typed)
		w.Idle(w.Pool)
	})
}
