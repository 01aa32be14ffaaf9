// Package testdb opens databases for this module's own tests.
package testdb

import (
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3" // the driver under test

	"github.com/raceproof/raceproof"
)

// File returns the DSN of a new SQLite file that is gone after the test, in WAL mode unless a parameter says otherwise.
func File(tb testing.TB, parameters ...string) string {
	parameters = append(parameters, "_journal_mode=WAL", "_synchronous=OFF") // the driver takes the first of a name
	file := &url.URL{Path: filepath.Join(tb.TempDir(), "test.db")}           // the names of subtests can have a #
	return "file:" + file.EscapedPath() + "?" + strings.Join(parameters, "&")
}

// Open opens a pool of connections to a DSN, until the test ends.
func Open(tb testing.TB, dsn string) *sqlx.DB {
	tb.Helper()
	db, err := sqlx.Open("sqlite3", dsn)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// SQLite opens a pool of connections to a new file, and makes its tables.
func SQLite(tb testing.TB, schema ...string) (*sqlx.DB, *raceproof.DB) {
	tb.Helper()
	pool := Open(tb, File(tb))
	for _, statement := range schema {
		if _, err := pool.Exec(statement); err != nil {
			tb.Fatalf("%s: %v", statement, err)
		}
	}
	db, err := raceproof.New(pool)
	if err != nil {
		tb.Fatal(err)
	}
	return pool, db
}

// Idle fails the test unless every connection is given back to the pool soon.
func Idle(tb testing.TB, pool *sqlx.DB) {
	tb.Helper()
	for deadline := time.Now().Add(10 * time.Second); pool.Stats().InUse > 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			tb.Errorf("%d connections were not given back", pool.Stats().InUse)
			return
		}
	}
}
