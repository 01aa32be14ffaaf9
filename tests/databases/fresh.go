package databases

import (
	"crypto/rand"
	"database/sql"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/servers"
)

// A Fresh is a database that was empty when it was made, and is gone after the test. On PostgreSQL it is a schema, a
// hundred times faster than a database; only advisory locks and the like are then shared with other tests.
type Fresh struct {
	Database
	tb     testing.TB
	name   string // of the file or the database
	server string
}

// Options say how to connect.
type Options struct {
	Isolation  string     // the default level of every connection: a name in lower case, as SQL has it
	Parameters url.Values // the driver's own, for the DSN, in place of ours of the same name
	Address    string     // host:port instead of the server's, for a proxy
}

// Connections is how many a pool opens at most, so that tests that run in parallel do not exhaust a server.
const Connections = 10

// Open opens a fresh database, until the test ends.
func (d Database) Open(tb testing.TB, o Options) *sqlx.DB {
	tb.Helper()
	return d.Fresh(tb).Open(o)
}

// Fresh makes a fresh database. It skips the test if there is no server, or fails it if the server is required.
func (d Database) Fresh(tb testing.TB) *Fresh {
	tb.Helper()
	if d.Kind == "" {
		used(tb, d.Name)
		return &Fresh{Database: d, tb: tb, name: filepath.Join(tb.TempDir(), "test.db")}
	}
	f := &Fresh{Database: d, tb: tb, name: "test_" + strings.ToLower(rand.Text()), server: d.server}
	if f.server == "" {
		f.server = shared(tb, d)
	}
	used(tb, d.Name)
	create, drop := "CREATE DATABASE ", "DROP DATABASE "
	if d.Kind == servers.Postgres {
		create, drop = "CREATE SCHEMA ", "DROP SCHEMA "
	}
	if err := f.administer(create + f.name); err != nil {
		tb.Fatalf("%s: %v", d.Name, err)
	}
	tb.Cleanup(func() {
		if d.Kind == servers.Postgres {
			f.name += " CASCADE"
		}
		if err := f.administer(drop + f.name); err != nil {
			tb.Errorf("%s: the test may have left something open: %v", d.Name, err)
		}
	})
	return f
}

// administer sends a statement to the server, outside of the fresh database.
func (f *Fresh) administer(statement string) error {
	limit := url.Values{"lock_timeout": {"10s"}}
	if f.Kind == servers.MariaDB {
		limit = url.Values{"lock_wait_timeout": {"10"}}
	}
	db, err := sql.Open(f.Driver, f.onServer("", "", limit))
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }()
	if _, err := db.Exec(statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// Open opens another pool of connections to the database, until the test ends.
func (f *Fresh) Open(o Options) *sqlx.DB {
	f.tb.Helper()
	db, err := sqlx.Open(f.Driver, f.DSN(o))
	if err != nil {
		f.tb.Fatalf("%s: %v", f.Name, err)
	}
	db.SetMaxOpenConns(Connections)
	db.SetMaxIdleConns(Connections)
	f.tb.Cleanup(func() { _ = db.Close() })
	return db
}

// DSN returns the name of the database for sql.Open(f.Driver, ...).
func (f *Fresh) DSN(o Options) string {
	f.tb.Helper()
	parameters := maps.Clone(f.defaults)
	if parameters == nil {
		parameters = url.Values{}
	}
	if o.Isolation != "" {
		if !slices.Contains([]string{"read uncommitted", "read committed", "repeatable read", "serializable"}, o.Isolation) || f.Kind == "" {
			f.tb.Fatalf("%s has no isolation level %q", f.Name, o.Isolation)
		}
		name, value := "default_transaction_isolation", o.Isolation
		if f.Kind == servers.MariaDB { // MariaDB 11 has another name for it, and knows this one too
			name, value = "tx_isolation", "'"+strings.ToUpper(strings.ReplaceAll(o.Isolation, " ", "-"))+"'"
		}
		parameters.Set(name, value)
	}
	maps.Copy(parameters, o.Parameters)
	if f.Kind == "" {
		return "file:" + (&url.URL{Path: f.name}).EscapedPath() + "?" + encode(parameters) // the names of subtests can have a #
	}
	return f.onServer(f.name, o.Address, parameters)
}

// onServer returns the server's DSN with some of it replaced.
func (f *Fresh) onServer(name, address string, parameters url.Values) string {
	parameters = maps.Clone(parameters)
	if f.Kind == servers.MariaDB {
		c, err := mysql.ParseDSN(f.server)
		if err != nil {
			f.tb.Fatalf("%s: %v", f.Kind.Variable(), err)
		}
		c.DBName = name
		if address != "" {
			c.Net, c.Addr = "tcp", address
		}
		dsn := c.FormatDSN()
		if len(parameters) == 0 {
			return dsn
		}
		if strings.Contains(dsn, "?") {
			return dsn + "&" + encode(parameters)
		}
		return dsn + "?" + encode(parameters)
	}
	u, err := url.Parse(f.server)
	if err != nil {
		f.tb.Fatalf("%s: %v", f.Kind.Variable(), err)
	}
	if address != "" {
		u.Host = address
	}
	query := u.Query()
	if name != "" {
		query.Set("search_path", name)
		query.Set("application_name", name) // so that its connections can be told from those of other tests
	}
	maps.Copy(query, parameters)
	u.RawQuery = encode(query)
	return u.String()
}

// encode writes a space as every driver reads it: pgx takes a plus for a plus.
func encode(parameters url.Values) string { return strings.ReplaceAll(parameters.Encode(), "+", "%20") }

// Address returns the host and port that a DSN of a server names.
func Address(tb testing.TB, dsn string) string {
	tb.Helper()
	if u, err := url.Parse(dsn); err == nil && u.Host != "" {
		return u.Host
	}
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		tb.Fatalf("%s: %v", dsn, err)
	}
	return c.Addr
}
