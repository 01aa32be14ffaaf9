// Package plain_test holds what is promised of row.Plain, against real servers through the real drivers: whatever could tell
// several writes of a row from the last of them is found, and the table that has none of that is plain.
package plain_test

import (
	"context"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3" // one of the two drivers of that name
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/tests/databases"
)

func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }

// A thing is a row of the tables of these tests, some of which have more columns.
type thing struct {
	ID      int64 `db:"id"`
	N       int64 `db:"n"`
	Version int64 `db:"version"`
}

// The columns of a thing by their indexes.
const (
	theID = iota
	theN
	theVersion
)

// each runs a test on every database, each with an empty one of its own.
func each(t *testing.T, test func(*testing.T, databases.Database, *sqlx.DB)) {
	t.Helper()
	for _, d := range databases.All() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			test(t, d, d.Open(t, databases.Options{}))
		})
	}
}

// opened makes the library know the pool.
func opened(t *testing.T, pool *sqlx.DB) *raceproof.DB {
	t.Helper()
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db
}

// tableOf makes the table known to the library, which so has not asked about it yet.
func tableOf[T any](t *testing.T, db *raceproof.DB, name string, o ...raceproof.TableOption) *row.Table[T] {
	t.Helper()
	table, err := row.NewTable(db, raceproof.MustTable[T](name, o...))
	require.NoError(t, err)
	return table
}

// plainOf asks about a table.
func plainOf[T any](t *testing.T, db *raceproof.DB, name string, o ...raceproof.TableOption) *row.Plain {
	t.Helper()
	p, err := tableOf[T](t, db, name, o...).Plain(minute(t))
	require.NoError(t, err)
	require.NotNil(t, p)
	return p
}

// holds tells whether the value that a column has in a row is stored as it is.
func holds[T any](p *row.Plain, column int, value T) bool {
	return p.Holds(column, reflect.ValueOf(&value).Elem())
}

// run sends statements that a semicolon at the end of a line separates.
func run(t *testing.T, on sqlx.Execer, statements string) {
	t.Helper()
	for _, s := range strings.Split(statements, ";\n") {
		if strings.TrimSpace(s) == "" {
			continue
		}
		_, err := on.Exec(s)
		require.NoError(t, err, s)
	}
}

func minute(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
