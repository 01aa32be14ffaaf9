package lease_test

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A falseClock is what the statements of leases take for the database's clock.
type falseClock struct {
	set         func(hours int)
	environment []string      // of the processes that go by it
	db          *raceproof.DB // goes by it too
}

// clocked makes a world with a clock that can be set.
func clocked(t *testing.T, d databases.Database) (*world.World, *falseClock) {
	switch d.Kind {
	case servers.Postgres:
		w := world.New(t, d, databases.Options{})
		return w, clockOfSchema(w)
	case servers.MariaDB:
		file, set := newOffset(t, "%+dh")
		w := world.New(t, d.At(databases.ServerIn(t, fakeTime(t, file), d.Kind).DSN("")), databases.Options{})
		return w, &falseClock{set: set, db: w.DB}
	}
	w := world.New(t, d, databases.Options{})
	file, set := newOffset(t, "%d")
	pool := openSQLite(d, w.DSN(databases.Options{}), file)
	t.Cleanup(func() { _ = pool.Close() })
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return w, &falseClock{set, []string{childTime + "=" + file}, db}
}

// newOffset makes a file with a number of hours, and what sets it in one step for whoever reads it.
func newOffset(t *testing.T, format string) (file string, set func(hours int)) {
	folder, err := os.MkdirTemp("", "clock")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	require.NoError(t, os.Chmod(folder, 0o755), "servers run as other users")
	file = filepath.Join(folder, "offset")
	set = func(hours int) {
		require.NoError(t, os.WriteFile(file+".new", fmt.Appendf(nil, format+"\n", hours), 0o644))
		require.NoError(t, os.Rename(file+".new", file))
	}
	set(0)
	return file, set
}

// fakeTime is the environment of a server whose real-time clock is as a file says, by libfaketime. That opens the file each
// time that the program asks for the time, also in handlers of signals: a process of PostgreSQL's, which do work in them, can so
// wait for itself for ever. MariaDB has a thread for its signals, which waits for them.
func fakeTime(t *testing.T, file string) []string {
	libraries, err := filepath.Glob("/usr/lib*/*/faketime/libfaketimeMT.so.1")
	require.NoError(t, err)
	if len(libraries) == 0 {
		require.Empty(t, os.Getenv("RACEPROOF_REQUIRE"), "libfaketime is absent: install the Debian package libfaketime")
		t.Skip("libfaketime is absent: install the Debian package libfaketime")
	}
	return []string{"LD_PRELOAD=" + libraries[0], "FAKETIME_TIMESTAMP_FILE=" + file, "FAKETIME_NO_CACHE=1",
		"FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"}
}

// clockOfSchema puts a function in front of PostgreSQL's own of that name, for connections whose search path says so.
func clockOfSchema(w *world.World) *falseClock {
	w.Look.MustExec(`CREATE TABLE clock (ahead INTERVAL NOT NULL)`)
	w.Look.MustExec(`INSERT INTO clock VALUES ('0')`)
	w.Look.MustExec(`CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
		AS 'SELECT pg_catalog.clock_timestamp() + ahead FROM clock'`)
	var schema string
	require.NoError(w.TB, w.Look.Get(&schema, `SELECT current_schema`))
	o := databases.Options{Parameters: url.Values{"search_path": {schema + ", pg_catalog"}}}
	_, db := w.Open(o)
	set := func(hours int) { w.Look.MustExec(`UPDATE clock SET ahead = $1 * interval '1 hour'`, hours) }
	return &falseClock{set, []string{childDSN + "=" + w.DSN(o)}, db}
}

// openSQLite opens a file. With a file of hours the function that tells SQLite's time adds them.
func openSQLite(d databases.Database, dsn, hours string) *sqlx.DB {
	if hours == "" {
		return sqlx.MustOpen(d.Driver, dsn)
	}
	name := "sqlite3 by " + hours
	sql.Register(name, &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		return c.RegisterFunc("julianday", func(string) (float64, error) {
			text, err := os.ReadFile(hours)
			if err != nil {
				return 0, err
			}
			ahead, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
			return 2440587.5 + float64(time.Now().UnixMicro())/86400e6 + ahead/24, err
		}, false)
	}})
	return sqlx.MustOpen(name, dsn)
}

// renewed returns by how many hours the clock is ahead of ours that the holder's renewals go by.
func (r *relay) renewed() float64 {
	query := map[string]string{
		"sqlite":   `SELECT COALESCE(MAX(expires), 0) / 1000000 FROM raceproof_lease`,
		"postgres": `SELECT COALESCE(CAST(EXTRACT(EPOCH FROM MAX(expires)) AS BIGINT), 0) FROM raceproof_lease`,
		"mysql":    `SELECT COALESCE(TIMESTAMPDIFF(SECOND, '1970-01-01', MAX(expires)), 0) FROM raceproof_lease`,
	}[r.w.Dialect.Name]
	return time.Until(time.Unix(number(r.T, r.w, query), 0)).Round(30 * time.Minute).Hours()
}

// set sets the clock, and waits until leases go by it.
func (r *relay) set(c *falseClock, hours int) {
	c.set(hours)
	r.until("renewals go by the clock", func() bool { return r.renewed() == float64(hours) })
	other := try(r.T, c.db, "other", 1)
	assert.Greater(r, held(r.T, c.db, "other", 1).Left, 10*time.Second, "so does who looks at the time that is left")
	require.NoError(r, other.Release(minute(r.T)))
	r.writes(5)
}

// die kills the holder, does something, and returns how long it is until another has the lease.
func (r *relay) die(environment []string, meanwhile func()) time.Duration {
	h := r.writes(1)
	h.by.kill()
	began := time.Now()
	meanwhile()
	r.until("another has taken over", func() bool { return r.holder().token > h.token })
	took := time.Since(began)
	r.join("fenced", fmt.Sprint("p", len(r.processes)), environment)
	return took
}

// The database's clock is set while leases are held, by an hour forward and back: nobody writes late, and a holder that has
// died is followed as soon as ever, and not after an hour.
func TestClockIsSet(t *testing.T) {
	for _, name := range withProcesses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, c := clocked(t, databases.Named(name))
			r := newRelay(t, w, "fenced", c.environment...)
			var longest time.Duration
			hours := 0
			for _, hours = range []int{1, 0, -1} {
				r.set(c, hours)
				r.round("look")
				r.round("at random")
				longest = max(longest, r.die(c.environment, func() {}))
			}
			for range 3 {
				hours--
				longest = max(longest, r.die(c.environment, func() { c.set(hours) }))
			}
			r.set(c, hours)
			writes, stale := r.end()
			assert.Zero(t, stale, "stale writes")
			t.Logf("%d writes, %d stale; those who died were followed after %v at most", len(writes), stale, longest)
		})
	}
}
