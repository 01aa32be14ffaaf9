package main

import (
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib" // the drivers that are measured
	_ "github.com/mattn/go-sqlite3"

	"github.com/raceproof/raceproof/internal/servers"
)

// A database is a system that the contenders are compared on.
type database string

const (
	sqlite   database = "sqlite"
	postgres database = "postgres"
	mariadb  database = "mariadb"
)

var databases = []database{sqlite, postgres, mariadb}

// driver is what database/sql calls the driver.
func (d database) driver() string {
	return map[database]string{sqlite: "sqlite3", postgres: "pgx", mariadb: "mysql"}[d]
}

// title is the name as its makers write it.
func (d database) title() string {
	return map[database]string{sqlite: "SQLite", postgres: "PostgreSQL", mariadb: "MariaDB"}[d]
}

// A host is where every contender gets a database of its own: a folder for the files of SQLite, or a server.
type host struct {
	database database
	version  string
	folder   string // of SQLite

	dsn     string // of the server
	admin   *sql.DB
	private *servers.Server // nil if the server was given by its DSN
	made    []string        // the databases on the server
	flush   string          // MariaDB's innodb_flush_log_at_trx_commit as it was
}

// newHost makes a folder or finds a server. The error is one with servers.ErrAbsent if there is none.
func newHost(d database) (_ *host, err error) {
	h := &host{database: d}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if d == sqlite {
		if h.folder, err = os.MkdirTemp("", "raceproof-bench-"); err != nil {
			return h, err
		}
		h.admin, err = sql.Open(d.driver(), ":memory:")
	} else {
		kind := servers.Kind(d)
		if h.dsn = os.Getenv(kind.Variable()); h.dsn == "" {
			if h.private, err = servers.Start(kind); err != nil {
				return h, err
			}
			h.dsn = h.private.DSN("")
		}
		h.admin, err = sql.Open(d.driver(), h.dsn)
	}
	if err != nil {
		return h, err
	}
	version := map[database]string{sqlite: "SELECT sqlite_version()", postgres: "SHOW server_version", mariadb: "SELECT version()"}
	if err := h.admin.QueryRow(version[d]).Scan(&h.version); err != nil {
		return h, err
	}
	if d == mariadb {
		err = h.admin.QueryRow("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit").Scan(&h.flush)
	}
	return h, err
}

// close leaves nothing behind, also on a server that was given.
func (h *host) close() (err error) {
	if h.admin != nil {
		for _, name := range h.made {
			if h.folder != "" || h.private != nil {
				break // it goes with the folder or the server
			}
			_, e := h.admin.Exec(h.text("DROP SCHEMA "+name+" CASCADE", "DROP DATABASE "+name))
			err = errors.Join(err, e)
		}
		if h.flush != "" {
			err = errors.Join(err, h.setFlush(h.flush))
		}
		err = errors.Join(err, h.admin.Close())
	}
	if h.private != nil {
		err = errors.Join(err, h.private.Stop())
	}
	if h.folder != "" {
		err = errors.Join(err, os.RemoveAll(h.folder))
	}
	return err
}

// text chooses what the server understands. A schema is for PostgreSQL what a database is for MariaDB, and is made a
// hundred times faster than one of its databases.
func (h *host) text(postgresText, mariadbText string) string {
	return choose(h.database == postgres, postgresText, mariadbText)
}

// ready makes the server what the setting wants it to be. MariaDB has no such setting of a connection.
func (h *host) ready(s setting) error {
	if h.database != mariadb {
		return nil
	}
	return h.setFlush(choose(s.unsynced, "0", "1"))
}

func (h *host) setFlush(value string) error {
	_, err := h.admin.Exec("SET GLOBAL innodb_flush_log_at_trx_commit = " + value)
	return err
}

// newDatabase makes a database with a table of the players 1 to rows, and returns the DSN for it. The DSN is the same
// for every contender of a setting, but for the name.
func (h *host) newDatabase(rows int, s setting) (dsn string, err error) {
	name := fmt.Sprintf("raceproof_bench_%d_%d", os.Getpid(), len(h.made))
	if h.database != sqlite {
		if _, err := h.admin.Exec(h.text("CREATE SCHEMA ", "CREATE DATABASE ") + name); err != nil {
			return "", err
		}
	}
	h.made = append(h.made, name)
	if dsn, err = h.dsnOf(name, s); err != nil {
		return "", err
	}
	db, err := sql.Open(h.database.driver(), dsn)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	t := h.database.texts()
	if _, err := db.Exec(t.create); err != nil {
		return "", fmt.Errorf("create the table: %w", err)
	}
	if _, err := db.Exec(fmt.Sprintf(t.fill, rows)); err != nil {
		return "", fmt.Errorf("fill the table: %w", err)
	}
	return dsn, nil
}

func (h *host) dsnOf(name string, s setting) (string, error) {
	switch h.database {
	case sqlite:
		dsn := "file:" + filepath.Join(h.folder, name+".db") + "?_journal_mode=WAL&_busy_timeout=60000&_synchronous="
		dsn += choose(s.full, "FULL", "NORMAL")
		return dsn + choose(s.statementCache, "&_stmt_cache_size=64", ""), nil
	case postgres:
		more := url.Values{"search_path": {name}}
		if s.unsynced {
			more.Set("synchronous_commit", "off")
		}
		return with(h.dsn, more)
	default:
		c, err := mysql.ParseDSN(h.dsn)
		if err != nil {
			return "", err
		}
		c.DBName, c.InterpolateParams = name, s.interpolate
		return c.FormatDSN(), nil
	}
}

// with adds parameters to a DSN that is a URL.
func with(dsn string, more url.Values) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" {
		return "", errors.New("the DSN is not a URL such as postgres://postgres@127.0.0.1:5432/postgres")
	}
	query := u.Query()
	for name := range more {
		query.Set(name, more.Get(name))
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// locking returns the DSN with which BeginTx takes SQLite's write lock at once, if the pattern is lock. A transaction
// that only takes it when it writes fails if somebody else has written since it read.
func (s setting) locking(dsn string) string {
	if s.database == sqlite && s.pattern == lockPattern {
		return dsn + "&_txlock=immediate"
	}
	return dsn
}
