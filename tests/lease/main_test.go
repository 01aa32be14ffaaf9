// Package lease_test holds what package lease promises against every database: that never more hold a name than may, whoever
// is late, and whatever answer is lost.
package lease_test

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/mattn/go-sqlite3" // the driver under test
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lease"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

func TestMain(m *testing.M) {
	if os.Getenv(childWork) != "" {
		child()
		return
	}
	_ = mysql.SetLogger(&mysql.NopLogger{}) // broken connections are some of what the tests are about
	check(flag.Set("test.parallel", "6"))   // unless the command line says otherwise: most of the time is spent waiting
	os.Exit(databases.Main(m))
}

var onServers = []string{"postgres/pgx", "postgres/pq", "mariadb/mysql"}

// manual leases change only when a test says so.
var manual = &lease.Options{Manual: true, Holder: "ada"}

// onAll runs a test on every database, or on those that are named.
func onAll(t *testing.T, test func(*testing.T, *world.World), names ...string) {
	var list []databases.Database
	for _, name := range names {
		list = append(list, databases.Named(name))
	}
	if names == nil {
		list = databases.All()
	}
	for _, d := range list {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			w := world.New(t, d, databases.Options{})
			require.NoError(t, lease.CreateTable(minute(t), w.DB))
			test(t, w)
		})
	}
}

func minute(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// try acquires what must be free.
func try(t *testing.T, db *raceproof.DB, name string, n int) *lease.Lease {
	t.Helper()
	s, err := lease.NewSemaphore(db, name, n, manual)
	require.NoError(t, err)
	l, err := s.TryAcquire(minute(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Release(context.Background()) })
	return l
}

// held is the error of one that is refused.
func held(t *testing.T, db *raceproof.DB, name string, n int) *lease.HeldError {
	t.Helper()
	s, err := lease.NewSemaphore(db, name, n, manual)
	require.NoError(t, err)
	_, err = s.TryAcquire(minute(t))
	var e *lease.HeldError
	require.ErrorAs(t, err, &e)
	return e
}

// past is when every lease's time is over, and future when none's is.
var (
	past = map[string]string{"sqlite": `expires - 3600000000`, "postgres": `expires - interval '1 hour'`, "mysql": `expires - INTERVAL 1 HOUR`}
	soon = map[string]string{"sqlite": `expires + 3600000000`, "postgres": `expires + interval '1 hour'`, "mysql": `expires + INTERVAL 1 HOUR`}
)

// shift has the database's clock be another for the places that match.
func shift(w *world.World, to map[string]string, where string) {
	w.Look.MustExec(`UPDATE raceproof_lease SET expires = ` + to[w.Dialect.Name] + ` WHERE ` + where)
}

// number reads one.
func number(t *testing.T, w *world.World, query string) (n int64) {
	t.Helper()
	require.NoError(t, w.Look.Get(&n, query))
	return n
}

// award adds to Ada's score under a lease, and swallows what the fence says.
func award(t *testing.T, w *world.World, l *lease.Lease) error {
	return w.DB.Transact(minute(t), func(ctx context.Context) error {
		if _, err := w.Pattern("atomic").Update(ctx, 7, world.Award(1)); err != nil {
			return err
		}
		_ = l.Fence(ctx)
		return nil
	})
}

func lost(t *testing.T, err error) {
	t.Helper()
	assert.ErrorIs(t, err, raceproof.ErrLeaseLost)
}
