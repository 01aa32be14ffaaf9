// Package waits asks databases who waits for a lock.
package waits

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// A Database is asked about the connections of tests.
type Database struct {
	Name string // "SQLite", "PostgreSQL", "MariaDB", "MySQL"

	// ID is the statement by which a connection learns what the database calls it; "" if it has no name there.
	ID string

	// Immediate says that a statement does not wait in the database: it is told that the database is busy.
	Immediate bool

	// Quiet says that a statement that waits has no effect while it does: it holds no lock, and is in nobody's way.
	Quiet bool

	// Fickle says that what was there before, and was deleted, can decide who waits.
	Fickle bool

	// Catalog says that what queries of the catalog see, and whether they can, depends on no statement that only writes rows.
	Catalog bool

	ask func(ctx context.Context, db *sql.DB, ids []int64) (map[int64][]int64, error)
}

// Of finds out what database this is.
func Of(ctx context.Context, db *sql.DB) (*Database, error) {
	var version string
	err := db.QueryRowContext(ctx, "SELECT version()").Scan(&version)
	switch {
	case err != nil:
		if lite := db.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&version); lite != nil {
			return nil, err
		}
		var journal string
		err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal)
		return &Database{Name: "SQLite", Immediate: true, Catalog: journal == "wal", Quiet: journal == "wal"}, err
	case strings.HasPrefix(version, "PostgreSQL"):
		return &Database{Name: "PostgreSQL", ID: "SELECT pg_backend_pid()", Catalog: true, ask: postgres}, nil
	case strings.Contains(version, "MariaDB"):
		return &Database{Name: "MariaDB", ID: "SELECT CONNECTION_ID()", Catalog: true, Fickle: true, ask: mysql}, nil
	case len(version) > 1 && '5' <= version[0] && version[0] <= '9' && version[1] == '.':
		return &Database{Name: "MySQL", ID: "SELECT CONNECTION_ID()", Catalog: true, Fickle: true, ask: mysql}, nil
	}
	return nil, fmt.Errorf("SQLite, PostgreSQL, MariaDB and MySQL are known, not %q", version)
}

// Ask returns those of the connections that wait for a lock now, and for whose as far as the database says.
func (d *Database) Ask(ctx context.Context, db *sql.DB, ids []int64) (map[int64][]int64, error) {
	if d.ask == nil || len(ids) == 0 {
		return nil, nil
	}
	waiting, err := d.ask(ctx, db, ids)
	if err != nil {
		return nil, fmt.Errorf("cannot ask %s who waits for a lock: %w", d.Name, err)
	}
	return waiting, nil
}

// End ends a connection and what it waits for, if the database has a name for it. It is for what cannot be ended otherwise,
// and whether it could is seen elsewhere.
func (d *Database) End(ctx context.Context, db *sql.DB, id int64) {
	switch {
	case id == 0:
	case d.Name == "PostgreSQL":
		_, _ = db.ExecContext(ctx, fmt.Sprintf("SELECT pg_terminate_backend(%d)", id))
	default:
		_, _ = db.ExecContext(ctx, fmt.Sprintf("KILL %d", id))
	}
}

func list(ids []int64) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(ids), " ", ","), "[]")
}

// Errors are told apart without importing drivers, by the types that are known to have a code.

// Busy tells whether SQLite has refused a statement because of somebody else's lock (SQLITE_BUSY), stale if waiting cannot
// help, as the transaction has read what has been changed since (SQLITE_BUSY_SNAPSHOT).
func Busy(err error) (busy, stale bool) {
	const (
		code     = 5
		snapshot = 5 | 2<<8
	)
	for _, is := range codes(err, map[string][]string{
		"github.com/mattn/go-sqlite3.Error":   {"Code", "ExtendedCode"},
		"modernc.org/sqlite.Error":            {"Code"},
		"github.com/ncruces/go-sqlite3.Error": {"Code", "ExtendedCode"},
	}) {
		busy = busy || is&0xff == code
		stale = stale || is == snapshot
	}
	return busy, stale
}

// Deadlock tells whether the database has ended a transaction because others waited for it while it waited for them.
func Deadlock(err error) bool {
	var state interface{ SQLState() string }
	if errors.As(err, &state) {
		return state.SQLState() == "40P01"
	}
	for _, is := range codes(err, map[string][]string{"github.com/go-sql-driver/mysql.MySQLError": {"Number"}}) {
		if is == 1213 {
			return true
		}
	}
	return false
}

// codes returns the codes of the errors of known types in the tree: the fields, or what the methods return, of these names.
func codes(err error, known map[string][]string) (found []int64) {
	if err == nil {
		return nil
	}
	v := reflect.ValueOf(err)
	t := v.Type()
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for _, name := range known[t.PkgPath()+"."+t.Name()] {
		if n, ok := code(v, name); ok {
			found = append(found, n)
		}
	}
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		found = append(found, codes(e.Unwrap(), known)...)
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			found = append(found, codes(err, known)...)
		}
	}
	return found
}

func code(v reflect.Value, name string) (n int64, ok bool) {
	if v.Kind() == reflect.Pointer && v.IsNil() {
		return 0, false
	}
	is := reflect.Value{}
	if m := v.MethodByName(name); m.IsValid() && m.Type().NumIn() == 0 && m.Type().NumOut() == 1 {
		is = m.Call(nil)[0]
	} else if s := reflect.Indirect(v); s.Kind() == reflect.Struct {
		is = s.FieldByName(name)
	}
	switch {
	case !is.IsValid():
		return 0, false
	case is.CanInt():
		return is.Int(), true
	case is.CanUint():
		return int64(is.Uint()), true
	}
	return 0, false
}
