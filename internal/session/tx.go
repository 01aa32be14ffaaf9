package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
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
	lent       bool       // a caller's own statements were among them
}

// A Tx is one level of a transaction: the whole, or a savepoint in it. It is a Querier for statements of this module, and
// a sqlx.ExtContext for a caller's own. Contexts that a caller has kept can hold it for longer than it is open; it then
// sends nothing any more.
type Tx struct {
	*transaction
	outer *Tx // nil for the whole transaction
	depth int
	done  bool        // guarded by mu
	open  []*sql.Rows // that a caller was given at this level; guarded by mu

	single []context.CancelFunc // closes the sqlx.Rows that a caller was given at this level and has not scanned
}

// singleAtMost bounds what is remembered of the sqlx.Rows: nearly all of them have been scanned at once, and are closed.
const singleAtMost = 64

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
	if t.lent {
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
func (t *Tx) One(ctx context.Context, s dialect.Statement, dest ...any) (found bool, err error) {
	if s.Args, err = settle(s.Args); err != nil {
		return false, err
	}
	dest, captures := captured(dest)
	found, err = guarded(t, func(c *Conn) (bool, error) {
		rows, err := c.query(c.uninterrupted(ctx), s)
		if err != nil {
			return false, err
		}
		defer func() { _ = rows.Close() }()
		return scanOne(rows, s, dest, func() error { return nil })
	})
	if err == nil && found {
		err = deliver(captures)
	}
	return found && err == nil, err
}

// Change runs a statement in the transaction and returns how many rows it changed.
func (t *Tx) Change(ctx context.Context, s dialect.Statement) (n int64, err error) {
	if s.Args, err = settle(s.Args); err != nil {
		return 0, err
	}
	return guarded(t, func(c *Conn) (int64, error) { return c.run(c.uninterrupted(ctx), s) })
}

// Columns returns the names of the columns that a query yields.
func (t *Tx) Columns(ctx context.Context, s dialect.Statement) ([]string, error) {
	return guarded(t, func(c *Conn) ([]string, error) { return c.Columns(ctx, s) })
}

// lend runs one statement of a caller's.
func lend[R any](t *Tx, args []any, statement func(*Conn, []any) (R, error)) (result R, err error) {
	if args, err = settle(args); err != nil {
		return result, err
	}
	return guarded(t, func(c *Conn) (R, error) {
		t.lent, c.lent = true, true
		return statement(c, args)
	})
}

// QueryContext runs a caller's query in the transaction.
func (t *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return lend(t, args, func(c *Conn, args []any) (*sql.Rows, error) {
		rows, err := c.Conn.QueryContext(ctx, query, args...)
		t.remember(rows)
		return rows, err
	})
}

// QueryxContext runs a caller's query in the transaction.
func (t *Tx) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	return lend(t, args, func(c *Conn, args []any) (*sqlx.Rows, error) {
		rows, err := c.Conn.QueryxContext(ctx, query, args...)
		if err == nil {
			t.remember(rows.Rows)
		}
		return rows, err
	})
}

// remember remembers rows that a caller was given, to close them if he does not.
func (t *Tx) remember(rows *sql.Rows) {
	if rows != nil {
		t.open = append(t.open, rows)
	}
}

// closeRows closes the rows that callers have left open at this level: they would hold the connection for ever, and
// keep the transaction from being committed.
func (t *Tx) closeRows() {
	for _, cancel := range t.single {
		cancel()
	}
	t.single = nil
	if len(t.open) == 0 {
		return
	}
	rows := t.open
	t.open = nil
	soon(func() { // it would wait for ever for one whose Scan has panicked in database/sql
		for _, r := range rows {
			_ = r.Close()
		}
	})
}

// QueryRowxContext runs a caller's query in the transaction.
func (t *Tx) QueryRowxContext(ctx context.Context, query string, args ...any) *sqlx.Row {
	row, err := lend(t, args, func(c *Conn, args []any) (*sqlx.Row, error) {
		ctx, cancel := context.WithCancel(ctx)
		if len(t.single) == singleAtMost {
			t.single[0]()
			t.single = slices.Delete(t.single, 0, 1)
		}
		t.single = append(t.single, cancel)
		row := c.Conn.QueryRowxContext(ctx, query, args...)
		return row, row.Err()
	})
	if row == nil {
		return rowOf(ctx, err)
	}
	return row
}

// ExecContext runs a caller's statement in the transaction.
func (t *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return lend(t, args, func(c *Conn, args []any) (sql.Result, error) {
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
