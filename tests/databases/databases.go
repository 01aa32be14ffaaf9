// Package databases is the list of databases under test, each with its driver, and opens empty ones for tests.
//
// A package of tests calls Main from its TestMain, and imports one of the two drivers that want to be called "sqlite3",
// which is why they are not imported here:
//
//	import _ "github.com/mattn/go-sqlite3"
//
//	func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }
package databases

import (
	"database/sql"
	"fmt"
	"net/url"
	"reflect"
	"slices"

	_ "github.com/go-sql-driver/mysql" // drivers under test
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
	_ "modernc.org/sqlite"

	"github.com/raceproof/raceproof/internal/servers"
)

// A Database is a database with one of its drivers.
type Database struct {
	Name      string       // "postgres/pgx"
	Dialect   string       // "postgres"
	Driver    string       // what database/sql calls the driver
	Kind      servers.Kind // "" if it has no server
	Isolation []string     // "" for its default level, then the names of the others that it has; see Options

	defaults url.Values // the parameters that every DSN gets
	server   string     // the DSN of a server that is not the one for all tests
}

// The default of PostgreSQL is read committed, that of MariaDB repeatable read. MariaDB's read uncommitted is missing:
// nobody runs a service with it.
var (
	ofPostgres = []string{"", "repeatable read", "serializable"}
	ofMariaDB  = []string{"", "read committed", "serializable"}
)

// Test files need not survive a crash of the machine. Two of the drivers do not wait for locks unless they are told to.
var pragmas = url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(wal)", "synchronous(off)"}}

var list = []Database{
	{Name: "sqlite/mattn", Dialect: "sqlite", Driver: "sqlite3", Isolation: []string{""},
		defaults: url.Values{"_journal_mode": {"WAL"}, "_synchronous": {"OFF"}}},
	{Name: "sqlite/ncruces", Dialect: "sqlite", Driver: "sqlite3", Isolation: []string{""}, defaults: pragmas},
	{Name: "sqlite/modernc", Dialect: "sqlite", Driver: "sqlite", Isolation: []string{""}, defaults: pragmas},
	{Name: "postgres/pgx", Dialect: "postgres", Driver: "pgx", Kind: servers.Postgres, Isolation: ofPostgres},
	{Name: "postgres/pq", Dialect: "postgres", Driver: "postgres", Kind: servers.Postgres, Isolation: ofPostgres},
	{Name: "mariadb/mysql", Dialect: "mariadb", Driver: "mysql", Kind: servers.MariaDB, Isolation: ofMariaDB},
}

// The two that cannot be in one binary, by the package of the driver.
var rivals = map[string]string{
	"sqlite/mattn":   "github.com/mattn/go-sqlite3",
	"sqlite/ncruces": "github.com/ncruces/go-sqlite3/driver",
}

// All returns all that this binary has the drivers of: that is all of the list but one.
func All() []Database {
	here := slices.DeleteFunc(slices.Clone(list), func(d Database) bool {
		rival, is := rivals[d.Name]
		return is && rival != sqlite3()
	})
	if len(here) != len(list)-1 {
		panic("the tests import neither " + rivals["sqlite/mattn"] + " nor " + rivals["sqlite/ncruces"])
	}
	offered(here)
	return here
}

// Named returns one of those in All.
func Named(name string) Database {
	if i := slices.IndexFunc(list, func(d Database) bool { return d.Name == name }); i >= 0 {
		if rival, is := rivals[name]; is && rival != sqlite3() {
			panic(fmt.Sprintf("the tests do not import %s but %q", rival, sqlite3()))
		}
		offered(list[i : i+1])
		return list[i]
	}
	panic("there is no database " + name)
}

// At returns the same database and driver on another server, by its DSN: one that a test may kill, for example.
func (d Database) At(dsn string) Database {
	d.server = dsn
	return d
}

// sqlite3 returns the package of the driver of that name.
func sqlite3() string {
	if !slices.Contains(sql.Drivers(), "sqlite3") {
		return ""
	}
	db, err := sql.Open("sqlite3", "") // connects to nothing
	if err != nil {
		panic(err)
	}
	defer func() { _ = db.Close() }()
	return reflect.TypeOf(db.Driver()).Elem().PkgPath()
}
