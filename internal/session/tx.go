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

// A Tx is a transaction on a connection. It is a Querier for statements of this module, and a sqlx.ExtContext for a
// caller's own. It outlives the transaction in contexts that a caller has kept, and then knows that it is over.
type Tx struct {
	conn *Conn

	mu     sync.Mutex // one statement at a time
	depth  int        // open savepoints
	over   error      // why no more statements are sent, nil while they are
	ending []context.CancelCauseFunc
}

// One runs a statement in the transaction.
func (t *Tx) One(ctx context.Context, s dialect.Statement, dest ...any) (bool, error) {
	return guarded(t, func(c *Conn) (bool, error) {
		rows, err := c.query(c.uninterrupted(ctx), s)
		if err != nil {
			return false, err
		}
		defer func() { _ = rows.Close() }()
		return scanOne(rows, s, dest)
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

// guarded runs one statement, if the transaction is still there.
func guarded[R any](t *Tx, statement func(*Conn) (R, error)) (R, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over != nil {
		var none R
		return none, t.over
	}
	result, err := statement(t.conn)
	if err != nil {
		t.failed(err)
	}
	return result, err
}

// failed looks, after an error, whether the transaction is still there. SQLite rolls the whole of it back when a write
// is interrupted, or the disk is full, or memory (https://www.sqlite.org/lang_transaction.html, "Response To Errors
// Within A Transaction"), and what followed would be committed statement by statement. Drivers do not always pass the
// database's error on, so the database is asked.
func (t *Tx) failed(err error) {
	outside := t.conn.pool.dialect.Outside
	if t.over == nil && outside != "" && t.conn.exec(outside) == nil {
		t.over = fmt.Errorf("%w: the database gave it up after an error: %w", ErrFinished, err)
	}
}

// theirs runs one statement of a caller's, with a context that ends with the transaction: rows that were left open then
// are closed, and do not hold the connection for ever.
func theirs[R any](ctx context.Context, t *Tx, statement func(context.Context, *Conn) (R, error)) (R, error) {
	return guarded(t, func(c *Conn) (R, error) {
		c.shared = true
		ctx, cancel := context.WithCancelCause(ctx)
		t.ending = append(t.ending, cancel)
		return statement(ctx, c)
	})
}

// QueryContext runs a caller's query in the transaction.
func (t *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return theirs(ctx, t, func(ctx context.Context, c *Conn) (*sql.Rows, error) {
		return c.Conn.QueryContext(ctx, query, args...)
	})
}

// QueryxContext runs a caller's query in the transaction.
func (t *Tx) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	return theirs(ctx, t, func(ctx context.Context, c *Conn) (*sqlx.Rows, error) {
		return c.Conn.QueryxContext(ctx, query, args...)
	})
}

// QueryRowxContext runs a caller's query in the transaction.
func (t *Tx) QueryRowxContext(ctx context.Context, query string, args ...any) *sqlx.Row {
	row, err := theirs(ctx, t, func(ctx context.Context, c *Conn) (*sqlx.Row, error) {
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
	return guarded(t, func(c *Conn) (sql.Result, error) {
		c.shared = true
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

// commit ends the transaction. If the database could not commit, the transaction is still there and rollback ends it.
func (t *Tx) commit(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over != nil {
		return t.over
	}
	if t.depth != 0 {
		return errors.New("raceproof: a nested transaction is still open at the end of the outer one")
	}
	t.over = ErrFinished // before COMMIT: no statement may slip in behind it
	// A COMMIT that SQLite refuses as busy waits for readers, has done nothing, and is to be sent again
	// (https://www.sqlite.org/lang_transaction.html): a wait for a lock, not a second attempt.
	if err := t.conn.pool.patiently(ctx, func() error { return t.conn.exec("COMMIT") }); err != nil {
		return fmt.Errorf("raceproof: commit: %w", err)
	}
	return nil
}

// rollback ends a transaction that was not committed. If that fails the connection is closed, which ends it too.
func (t *Tx) rollback() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = ErrFinished
	if t.conn.exec("ROLLBACK") != nil {
		t.conn.broken = true
	}
}

// end closes what callers left open.
func (t *Tx) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, cancel := range t.ending {
		cancel(ErrFinished)
	}
}
