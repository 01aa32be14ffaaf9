// Package once_test holds what package once promises against real servers that crash, networks that lose answers, and
// processes that are killed.
package once_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/mattn/go-sqlite3" // the driver under test
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

func TestMain(m *testing.M) {
	if os.Getenv(childDriver) != "" {
		child()
		return
	}
	_ = mysql.SetLogger(&mysql.NopLogger{}) // broken connections are what the tests are about
	os.Exit(databases.Main(m))
}

var (
	onServers = []string{"postgres/pgx", "postgres/pq", "mariadb/mysql"}
	onSQLite  = []string{"sqlite/mattn", "sqlite/modernc"}

	errMine  = errors.New("the function's own error")
	errCause = errors.New("the caller has gone")
)

// torture says whether to run what takes too long for every change.
var torture = os.Getenv("RACEPROOF_TORTURE") != ""

// number is how many updates a test makes in all.
func number() int {
	if torture {
		return 100_000
	}
	return 10_000
}

// prepare makes a world that has the table of keys.
func prepare(t *testing.T, d databases.Database) *world.World {
	t.Helper()
	w := world.New(t, d, databases.Options{})
	require.NoError(t, once.CreateTable(minute(t), w.DB))
	return w
}

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
		t.Run(d.Name, func(t *testing.T) { test(t, prepare(t, d)) })
	}
}

func minute(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// award adds one to Ada's score in SQL.
func award(w *world.World, db *raceproof.DB) func(context.Context) (world.Player, error) {
	for _, p := range w.PatternsOf(db) {
		if p.Name == "atomic" {
			return func(ctx context.Context) (world.Player, error) { return p.Update(ctx, 7, world.Award(1)) }
		}
	}
	panic("there is no pattern atomic")
}

// gained is by how many awards Ada has more than at first.
func gained(w *world.World) int64 { return w.Row(7).Score - world.Ada.Score }

// keys returns how many keys there are.
func keys(t *testing.T, w *world.World) (n int) {
	t.Helper()
	require.NoError(t, w.Look.Get(&n, `SELECT count(*) FROM raceproof_once`))
	return n
}

// taken says whether work with the key was committed, or can still be: an INSERT waits for whoever may yet commit one.
func taken(t *testing.T, w *world.World, key string) bool {
	t.Helper()
	for {
		is, err := tryTaken(w, key)
		if err != nil && w.Dialect.Classify(err) == dialect.Conflict {
			continue // a deadlock with other keys' insertions
		}
		assert.NoError(t, err)
		return is
	}
}

func tryTaken(w *world.World, key string) (bool, error) {
	tx, err := w.Look.Beginx()
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }()
	d := w.Dialect
	result, err := tx.Exec(w.Look.Rebind(`INSERT INTO raceproof_once (id, fingerprint, created) VALUES (?, ?, `+string(d.Now)+`)`+string(d.OrNothing)),
		[]byte(key), []byte{})
	if d.IsDuplicate(err) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 0, err
}

// asked is how long a caller goes on asking with one key.
const asked = time.Minute
