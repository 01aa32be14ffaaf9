package session

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/dialect"
)

// A Conn is a connection taken out of the pool, for one statement or for one transaction. As a sqlx.ExtContext it runs
// a caller's own statements in the transaction.
type Conn struct {
	*sqlx.Conn
	pool    *Pool
	queued  bool   // it holds the pool's turn to write
	restore string // the statement that undoes impatient, or empty
	broken  bool   // it must not be used by anybody else

	mu          sync.Mutex // one statement at a time
	transaction bool       // BEGIN was sent
	depth       int        // open savepoints
	over        error      // why no more statements are sent, nil while they are
}

// release gives the connection back to the pool as it was taken, and the turn to write to whoever is next.
func (c *Conn) release() {
	if c.restore != "" && !c.broken && c.exec(c.restore) != nil {
		c.broken = true
	}
	if c.broken {
		// The pool closes a connection that its driver calls bad. An open transaction ends with it.
		_ = c.Conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	_ = c.Close() // reports only that Raw has closed it
	if c.queued {
		c.pool.writers.Unlock()
	}
}

// rollbackTimeout bounds the statements that clean up, which no caller's context may cut short.
const rollbackTimeout = 5 * time.Second

// exec sends a statement that belongs to the connection's upkeep: it is short, waits for nobody, and must not be cut
// short by a caller's context.
func (c *Conn) exec(statement string) error {
	ctx := context.Background()
	if !c.pool.dialect.InProcess {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, rollbackTimeout)
		defer cancel()
	}
	_, err := c.Conn.ExecContext(ctx, statement)
	return err
}

// One runs a statement of this module that yields at most one row, scans the row and reports whether there was one.
// An error means that the statement has changed nothing, also if it is the scan that failed: outside a transaction
// the statement is then undone, inside one the savepoint around it must be.
func (c *Conn) One(ctx context.Context, s *dialect.SQL, dest ...any) (found bool, err error) {
	if c.pool.dialect.InProcess {
		// These statements are over in microseconds; to interrupt one would end its whole transaction.
		ctx = context.WithoutCancel(ctx)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		return false, c.over
	}
	rows, err := c.Conn.QueryContext(ctx, s.Text(), s.Args()...)
	if err != nil {
		return false, c.failed(err)
	}
	finished := false // stays false if a Scanner of the caller's panics
	defer func() {
		if err != nil || !finished {
			c.undo(rows)
		}
		_ = rows.Close()
	}()
	found, err = scanOne(rows, dest)
	finished = true
	if err != nil {
		return false, c.failed(err)
	}
	return found, nil
}

func scanOne(rows *sql.Rows, dest []any) (found bool, err error) {
	if !rows.Next() {
		return false, rows.Err()
	}
	if err := rows.Scan(dest...); err != nil {
		return false, err
	}
	if rows.Next() {
		return false, errors.New("the key matches more than one row")
	}
	// The database may report what went wrong, a constraint or the implicit COMMIT, only after the last row.
	if err := rows.Err(); err != nil {
		return false, err
	}
	return true, rows.Close()
}

// undo takes back a statement that succeeded but whose row could not be read, before its implicit transaction is
// committed. SQLite commits that when the statement is reset; a BEGIN in between turns the implicit transaction into
// an explicit one (https://www.sqlite.org/lang_transaction.html), which can be rolled back.
func (c *Conn) undo(rows *sql.Rows) {
	if c.transaction || !c.pool.dialect.InProcess {
		return // the transaction or the savepoint around it is rolled back
	}
	err := c.exec("BEGIN")
	_ = rows.Close()
	if err == nil {
		err = c.exec("ROLLBACK")
	}
	if err != nil {
		c.broken = true
	}
}

// failed looks, after an error in a transaction, whether the transaction is still there. SQLite rolls the whole of it
// back when a write is interrupted, or the disk is full, or memory
// (https://www.sqlite.org/lang_transaction.html, "Response To Errors Within A Transaction"), and what followed would be
// committed statement by statement. Drivers do not always pass the database's error on, so the database is asked.
func (c *Conn) failed(err error) error {
	d := c.pool.dialect
	if !c.transaction || c.over != nil || d.Outside == "" || c.exec(d.Outside) != nil {
		return err
	}
	c.over = fmt.Errorf("%w: the database gave it up after an error: %w", ErrFinished, err)
	return err
}

// The methods that make a Conn a sqlx.ExtContext.

// QueryContext runs a caller's query in the transaction.
func (c *Conn) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return guarded(c, func() (*sql.Rows, error) { return c.Conn.QueryContext(ctx, query, args...) })
}

// QueryxContext runs a caller's query in the transaction.
func (c *Conn) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	return guarded(c, func() (*sqlx.Rows, error) { return c.Conn.QueryxContext(ctx, query, args...) })
}

// ExecContext runs a caller's statement in the transaction.
func (c *Conn) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return guarded(c, func() (sql.Result, error) { return c.Conn.ExecContext(ctx, query, args...) })
}

// QueryRowxContext runs a caller's query in the transaction.
func (c *Conn) QueryRowxContext(ctx context.Context, query string, args ...any) *sqlx.Row {
	row, err := guarded(c, func() (*sqlx.Row, error) {
		row := c.Conn.QueryRowxContext(ctx, query, args...)
		return row, row.Err()
	})
	if row == nil {
		// Only sqlx can make a Row that holds an error; it holds that of this context.
		dead, cancel := context.WithCancelCause(ctx)
		cancel(err)
		row = c.Conn.QueryRowxContext(dead, query, args...)
	}
	return row
}

func guarded[R any](c *Conn, statement func() (R, error)) (R, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		var none R
		return none, c.over
	}
	result, err := statement()
	if err != nil {
		_ = c.failed(err)
	}
	return result, err
}

// DriverName returns the name under which the pool's driver was registered.
func (c *Conn) DriverName() string { return c.pool.db.DriverName() }

// BindNamed turns a query with named parameters into one with positions.
func (c *Conn) BindNamed(query string, arg any) (string, []any, error) {
	return c.pool.db.BindNamed(query, arg)
}

// Columns returns the names of the columns that a query of this module yields.
func (c *Conn) Columns(ctx context.Context, s *dialect.SQL) ([]string, error) {
	rows, err := c.QueryContext(ctx, s.Text(), s.Args()...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() { // an error may come only with the end of the rows
	}
	return names, rows.Err()
}
