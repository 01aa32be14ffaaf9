// Package contract holds every pattern to the contract on every database, with every driver.
package contract

import (
	"net/url"
	"os"
	"testing"

	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3" // the driver under test

	"github.com/raceproof/raceproof/internal/conformance"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
)

func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }

// settings are the parameters of a DSN that change what the driver sends or what the server answers.
var settings = map[string][]url.Values{
	"postgres/pgx": {
		{"default_query_exec_mode": {"exec"}},
		{"default_query_exec_mode": {"simple_protocol"}},
	},
	"postgres/pq": {
		{"binary_parameters": {"yes"}},
	},
	"mariadb/mysql": {
		{"clientFoundRows": {"true"}, "parseTime": {"true"}},
		{"interpolateParams": {"true"}},
		{"interpolateParams": {"true"}, "clientFoundRows": {"true"}, "parseTime": {"true"}},
		{"innodb_snapshot_isolation": {"1"}},
	},
}

// each calls f for every database, driver, isolation level and setting.
func each(t *testing.T, f func(*testing.T, databases.Database, conformance.Open)) {
	for _, d := range databases.All() {
		run := func(name string, o databases.Options) {
			t.Run(d.Name+"/"+name, func(t *testing.T) {
				f(t, d, func(t testing.TB) *sqlx.DB { return d.Open(t, o) })
			})
		}
		for _, level := range d.Isolation {
			name := level
			if name == "" {
				name = "default isolation"
			}
			run(name, databases.Options{Isolation: level})
		}
		for _, parameters := range settings[d.Name] {
			run(parameters.Encode(), databases.Options{Parameters: parameters})
		}
	}
}

func TestPatterns(t *testing.T) {
	each(t, func(t *testing.T, _ databases.Database, open conformance.Open) {
		for _, p := range conformance.Patterns() {
			t.Run(p.Name, func(t *testing.T) { conformance.Run(t, open, p) })
		}
	})
}

func TestMixed(t *testing.T) {
	each(t, func(t *testing.T, _ databases.Database, open conformance.Open) {
		conformance.Mixed(t, open, conformance.Patterns())
	})
}

// impatient are parameters with which a naive updater that waits for itself does not do so for long.
var impatient = map[servers.Kind]url.Values{
	servers.Postgres: {"lock_timeout": {"200"}},
	servers.MariaDB:  {"innodb_lock_wait_timeout": {"1"}},
}

// On a server too every check is one that a naive updater fails.
func TestControls(t *testing.T) {
	for _, d := range databases.All() {
		if d.Kind == "" {
			continue // the root's own tests do that
		}
		open := func(t testing.TB) *sqlx.DB { return d.Open(t, databases.Options{Parameters: impatient[d.Kind]}) }
		t.Run(d.Name, func(t *testing.T) {
			conformance.Controls(t, open)
			t.Run("two updates at once", func(t *testing.T) { conformance.NaiveLoses(t, open) })
		})
	}
}
