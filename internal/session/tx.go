package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/dialect"
)

// A transaction is one BEGIN on a connection, with all that is nested in it.
type transaction struct {
	conn *Conn

	mu         sync.Mutex // one statement at a time
	top        *Tx        // the innermost level that is open
	over       error      // why no more statements are sent, nil while they are
	statements int        // how many were sent
	theirs     bool       // a caller's own statements were among them
	ending     []context.CancelCauseFunc
}

// A Tx is one level of a transaction: the whole, or a savepoint in it. It is a Querier for statements of this module, and
// a sqlx.ExtContext for a caller's own. Contexts that a caller has kept can hold it for longer than it is open; it then
// sends nothing any more.
type Tx struct {
	*transaction
	outer *Tx // nil for the whole transaction
	depth int
	done  bool // guarded by mu
}

// guarded runs one statement, if this level is the one to run it.
func guarded[R any](t *Tx, statement func(*Conn) (R, error)) (result R, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(); err != nil {
		return result, err
	}
	t.statements++
	result, err = statement(t.conn)
	if err != nil {
		t.look(err)
	}
	return result, err
}

// usable returns an error if no statement may be sent at this level.
func (t *Tx) usable() error {
	if t.theirs {
		t.look(nil)
	}
	switch {
	case t.over != nil:
		return t.over
	case t.done:
		return ErrFinished
	case t.top != t:
		return errors.New("raceproof: the context's transaction has a nested one open: " +
			"use the context that the innermost function was given, from one goroutine at a time")
	}
	return nil
}

// look finds out whether the transaction is still there. SQLite rolls the whole of it back when a write is interrupted,
// or the disk is full, or memory (https://www.sqlite.org/lang_transaction.html, "Response To Errors Within A
// Transaction"), and what followed would be committed statement by statement. Drivers do not always pass the database's
// error on, a caller sees those of his rows alone, and may also have sent a COMMIT. So the database is asked: after an
// error, and before each statement once a caller's own were sent.
func (t *transaction) look(cause error) {
	outside := t.conn.pool.dialect.Outside
	if t.over != nil || outside == "" || t.conn.exec(outside) != nil {
		return
	}
	t.over = fmt.Errorf("%w: the database has ended it before its time", ErrFinished)
	if cause != nil {
		t.over = fmt.Errorf("%w: %w", t.over, cause)
	}
}

// Statements returns how many statements were sent in the transaction so far.
func (t *Tx) Statements() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.statements
}

// One runs a statement in the transaction.
func (t *Tx) One(ctx context.Context, s dialect.Statement, dest ...any) (bool, error) {
	return guarded(t, func(c *Conn) (bool, error) {
		rows, err := c.query(c.uninterrupted(ctx), s)
		if err != nil {
			return false, err
		}
		found, err := scanOne(rows, s, dest)
		_ = rows.Close()
		return found, goOn(err)
	})
}

// Change runs a statement in the transaction and returns how many rows it changed.
func (t *Tx) Change(ctx context.Context, s dialect.Statement) (int64, error) {
	return guarded(t, func(c *Conn) (int64, error) { return c.run(c.uninterrupted(ctx), s) })
}

// Columns returns the names of the columns that a query yields.
func (t *Tx) Columns(ctx context.Context, s dialect.Statement) ([]string, error) {
	return guarded(t, func(c *Conn) ([]string, error) { return c.Columns(ctx, s) })
}

// theirs runs one statement of a caller's, with a context that ends with the transaction: rows that were left open then
// are closed, and do not hold the connection for ever.
func theirs[R any](ctx context.Context, t *Tx, args []any, statement func(context.Context, *Conn, []any) (R, error)) (R, error) {
	return guarded(t, func(c *Conn) (result R, err error) {
		args, err := settle(args)
		if err != nil {
			return result, err
		}
		t.transaction.theirs, c.shared = true, true
		ctx, cancel := context.WithCancelCause(ctx)
		t.ending = append(t.ending, cancel)
		return statement(ctx, c, args)
	})
}

// QueryContext runs a caller's query in the transaction.
func (t *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return theirs(ctx, t, args, func(ctx context.Context, c *Conn, args []any) (*sql.Rows, error) {
		return c.Conn.QueryContext(ctx, query, args...)
	})
}

// QueryxContext runs a caller's query in the transaction.
func (t *Tx) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	return theirs(ctx, t, args, func(ctx context.Context, c *Conn, args []any) (*sqlx.Rows, error) {
		return c.Conn.QueryxContext(ctx, query, args...)
	})
}

// QueryRowxContext runs a caller's query in the transaction.
func (t *Tx) QueryRowxContext(ctx context.Context, query string, args ...any) *sqlx.Row {
	row, err := theirs(ctx, t, args, func(ctx context.Context, c *Conn, args []any) (*sqlx.Row, error) {
		row := c.Conn.QueryRowxContext(ctx, query, args...)
		return row, row.Err()
	})
	if row == nil {
		// Only sqlx can make a Row that holds an error; it holds that of a context that has ended.
		dead, cancel := context.WithCancelCause(ctx)
		cancel(err)
		row = t.conn.pool.db.QueryRowxContext(dead, query, args...)
	}
	return row
}

// ExecContext runs a caller's statement in the transaction.
func (t *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return theirs(ctx, t, args, func(ctx context.Context, c *Conn, args []any) (sql.Result, error) {
		return c.Conn.ExecContext(ctx, query, args...)
	})
}

// DriverName returns the name under which the pool's driver was registered.
func (t *Tx) DriverName() string { return t.conn.pool.db.DriverName() }

// Rebind turns a query's ? into what the driver takes.
func (t *Tx) Rebind(query string) string { return t.conn.pool.db.Rebind(query) }

// BindNamed turns a query with named parameters into one with positions.
func (t *Tx) BindNamed(query string, arg any) (string, []any, error) {
	return t.conn.pool.db.BindNamed(query, arg)
}
