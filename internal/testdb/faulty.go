package testdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"sync/atomic"

	"github.com/mattn/go-sqlite3"
)

// Faulty is a driver's name: SQLite's, but for the statements that Fail has made fail before they are sent.
const Faulty = "sqlite3-faulty"

var failing atomic.Pointer[fault]

type fault struct {
	prefix string
	err    error
}

// Fail makes every statement through Faulty that begins with the prefix fail, until it is undone.
func Fail(prefix string, err error) (undo func()) {
	failing.Store(&fault{prefix, err})
	return func() { failing.Store(nil) }
}

func fails(query string) error {
	if f := failing.Load(); f != nil && strings.HasPrefix(query, f.prefix) {
		return f.err
	}
	return nil
}

func init() { sql.Register(Faulty, faultyDriver{&sqlite3.SQLiteDriver{}}) }

type faultyDriver struct{ driver.Driver }

func (d faultyDriver) Open(dsn string) (driver.Conn, error) {
	conn, err := d.Driver.Open(dsn)
	if err != nil {
		return nil, err
	}
	return faultyConn{conn.(*sqlite3.SQLiteConn)}, nil
}

type faultyConn struct{ *sqlite3.SQLiteConn }

func (c faultyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := fails(query); err != nil {
		return nil, err
	}
	return c.SQLiteConn.ExecContext(ctx, query, args)
}

func (c faultyConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	stmt, err := c.SQLiteConn.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return faultyStmt{stmt.(*sqlite3.SQLiteStmt), query}, nil
}

type faultyStmt struct {
	*sqlite3.SQLiteStmt
	query string
}

func (s faultyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := fails(s.query); err != nil {
		return nil, err
	}
	return s.SQLiteStmt.ExecContext(ctx, args)
}

func (s faultyStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := fails(s.query); err != nil {
		return nil, err
	}
	return s.SQLiteStmt.QueryContext(ctx, args)
}
