// Package transactions_test holds what is promised of Transact, its options and what is called after it, against real
// servers through the real drivers.
package transactions_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3" // one of the two drivers of that name
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

func TestMain(m *testing.M) {
	_ = mysql.SetLogger(&mysql.NopLogger{}) // broken connections are what some of the tests are about
	os.Exit(databases.Main(m))
}

// Which databases a test is for.
func everywhere(databases.Database) bool   { return true }
func nowhere(databases.Database) bool      { return false }
func onServers(d databases.Database) bool  { return d.Kind != "" }
func onPostgres(d databases.Database) bool { return d.Kind == servers.Postgres }
func onMariaDB(d databases.Database) bool  { return d.Kind == servers.MariaDB }
func onSQLite(d databases.Database) bool   { return d.Kind == "" }

// each runs a test on databases, one after the other, and fails it if it leaves goroutines behind.
func each(t *testing.T, on func(databases.Database) bool, test func(*testing.T, databases.Database)) {
	t.Helper()
	for _, d := range databases.All() {
		if !on(d) {
			continue
		}
		t.Run(d.Name, func(t *testing.T) {
			if d.Kind != "" {
				databases.DSN(t, d) // the server is started by then, and what belongs to it runs
			}
			before := runtime.NumGoroutine()
			t.Cleanup(func() {
				world.Until(t, "no goroutine is left behind", func() bool { return runtime.NumGoroutine() <= before })
			})
			test(t, d)
		})
	}
}

// eachWorld is each with a world whose connections are as they are by default.
func eachWorld(t *testing.T, on func(databases.Database) bool, test func(*testing.T, *world.World)) {
	t.Helper()
	each(t, on, func(t *testing.T, d databases.Database) { test(t, world.New(t, d, databases.Options{})) })
}

// The statements that most tests send. Versions are not raised, as these are not about who else looks at them.
const (
	writeAda = `UPDATE players SET score = score + 1 WHERE id = 7`
	writeBob = `UPDATE players SET score = score + 1 WHERE id = 8`
	violate  = `UPDATE players SET name = 'Bob' WHERE id = 7`
	overtake = `UPDATE players SET score = score + 100, version = version + 1 WHERE id = 7`
)

var (
	errOwn   = errors.New("the function's own error")
	errCause = errors.New("the caller has gone")
)

// exec sends a statement in the context's transaction.
func exec(ctx context.Context, db *raceproof.DB, statement string) error {
	_, err := db.Ext(ctx).ExecContext(ctx, statement)
	return err
}

// add is a statement that adds to the score of a row.
func add(points, id int64) string {
	return fmt.Sprintf(`UPDATE players SET score = score + %d WHERE id = %d`, points, id)
}

// scoreOf reads a score in the context's transaction.
func scoreOf(ctx context.Context, db *raceproof.DB, id int64) (score int64, err error) {
	err = sqlx.GetContext(ctx, db.Ext(ctx), &score, fmt.Sprintf(`SELECT score FROM players WHERE id = %d`, id))
	return score, err
}

// overtaken is an optimistic update that comes too late: the row is changed between its read and its write. It is
// somebody else who does that, but for SQLite, where nobody else can while a transaction has the write lock.
func overtaken(ctx context.Context, w *world.World) error {
	_, err := w.Pattern("optimistic").Update(ctx, 7, world.Change{Func: func(_ context.Context, p *world.Player) error {
		p.Score++
		if w.Kind == "" && w.DB.Pool().InTransaction(ctx) {
			return exec(ctx, w.DB, overtake)
		}
		_, err := w.Look.ExecContext(ctx, overtake)
		return err
	}})
	return err
}

// scores fails the test unless the rows have these scores.
func scores(t *testing.T, w *world.World, ada, bob int64, about ...any) {
	t.Helper()
	require.Equal(t, []int64{ada, bob}, []int64{w.Row(7).Score, w.Row(8).Score}, about...)
}

func minute(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// tries is a policy of so many attempts, without pauses to speak of.
func tries(n int) raceproof.TransactOption {
	return raceproof.Retry(raceproof.RetryPolicy{MaxAttempts: n, MinPause: 1, MaxPause: time.Microsecond})
}

// parameter returns the one of the drivers' parameters that is for the database, and none if it is empty.
func parameter(d databases.Database, postgres, mariadb string, value string) databases.Options {
	name := map[servers.Kind]string{servers.Postgres: postgres, servers.MariaDB: mariadb}[d.Kind]
	if name == "" {
		return databases.Options{}
	}
	return databases.Options{Parameters: url.Values{name: {value}}}
}

// only tells whether a database is one of those that are named.
func only(names ...string) func(databases.Database) bool {
	return func(d databases.Database) bool { return slices.Contains(names, d.Name) }
}

// alone runs f by a goroutine of its own, and tells what it panicked with, and whether it came to its end.
func alone(f func()) (panicked any, ended bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		f()
		ended = true
	}()
	<-done
	return panicked, ended
}
