package session

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/dialect"
)

// A Conn is a connection taken out of the pool. As a Querier it runs statements that are transactions of their own.
type Conn struct {
	*sqlx.Conn
	pool     *Pool
	turn     bool                 // it holds the pool's turn to write
	prepared map[string]*sql.Stmt // by their text; only for a connection that holds the turn, and so may be kept
	limit    time.Duration        // how long it would wait for a lock by itself, if it were not impatient
	restore  string               // the statement that undoes impatient, or empty
	broken   bool                 // it must not be used by anybody else
	shared   bool                 // a caller's own statements ran on it, and may have left rows open
}

// release ends the use of the connection: it is kept for the next writer or given back to the pool, and the turn to
// write goes to whoever is next.
func (c *Conn) release() {
	if !c.turn {
		c.close()
		return
	}
	p := c.pool
	if !p.keep(c) {
		c.close()
	}
	p.writers.Unlock()
}

// close gives the connection back to the pool as it was taken.
func (c *Conn) close() {
	for _, s := range c.prepared {
		_ = s.Close()
	}
	c.prepared, c.turn = nil, false // what follows is not worth preparing
	if c.restore != "" && !c.broken && c.exec(c.restore) != nil {
		c.broken = true
	}
	if c.broken {
		// The pool closes a connection that its driver calls bad. An open transaction ends with it.
		_ = c.Conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	_ = c.Conn.Close() // reports only that Raw has closed it
}

// preparedAtMost bounds the statements of a connection. There are few, unless expressions are made up as callers come.
const preparedAtMost = 64

// prepare returns the prepared statement of a text, or nil if the connection will not be kept long enough.
func (c *Conn) prepare(ctx context.Context, text string) (*sql.Stmt, error) {
	if s := c.prepared[text]; s != nil || !c.turn {
		return s, nil
	}
	if len(c.prepared) >= preparedAtMost {
		for text, s := range c.prepared {
			_ = s.Close()
			delete(c.prepared, text)
		}
	}
	s, err := c.Conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	if c.prepared == nil {
		c.prepared = map[string]*sql.Stmt{}
	}
	c.prepared[text] = s
	return s, nil
}

// query runs a statement of this module that yields rows.
func (c *Conn) query(ctx context.Context, s dialect.Statement) (*sql.Rows, error) {
	args, err := settle(s.Args)
	if err != nil {
		return nil, err
	}
	prepared, err := c.prepare(ctx, s.Text)
	if err != nil {
		return nil, err
	}
	if prepared == nil {
		return c.Conn.QueryContext(ctx, s.Text, args...)
	}
	return prepared.QueryContext(ctx, args...)
}

// run runs a statement of this module that yields no rows, and returns how many it changed.
func (c *Conn) run(ctx context.Context, s dialect.Statement) (int64, error) {
	args, err := settle(s.Args)
	if err != nil {
		return 0, err
	}
	prepared, err := c.prepare(ctx, s.Text)
	if err != nil {
		return 0, err
	}
	var result sql.Result
	if prepared == nil {
		result, err = c.Conn.ExecContext(ctx, s.Text, args...)
	} else {
		result, err = prepared.ExecContext(ctx, args...)
	}
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// upkeepTimeout bounds the statements that clean up, which no caller's context may cut short.
const upkeepTimeout = 5 * time.Second

// exec sends a statement that belongs to the connection's upkeep: it is short, waits for nobody, and must not be cut
// short by a caller's context.
func (c *Conn) exec(text string) error {
	ctx := context.Background()
	if !c.pool.dialect.InProcess {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, upkeepTimeout)
		defer cancel()
	}
	_, err := c.run(ctx, dialect.Statement{Text: text})
	return err
}

// uninterrupted returns the context for a statement of this module. One that runs in this process is over in
// microseconds; to interrupt it would cost more, and end its whole transaction.
func (c *Conn) uninterrupted(ctx context.Context) context.Context {
	if c.pool.dialect.InProcess && ctx.Done() != nil {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// One runs a statement that is a transaction of its own.
func (c *Conn) One(ctx context.Context, s dialect.Statement, dest ...any) (bool, error) {
	rows, err := c.query(c.uninterrupted(ctx), s)
	if err != nil {
		return false, err
	}
	found, err := scanOne(rows, s, dest)
	if err != nil && !s.Read {
		c.undo(rows)
	}
	_ = rows.Close()
	return found, goOn(err)
}

// scanOne scans the one row of a statement, and closes its rows if all went well.
func scanOne(rows *sql.Rows, s dialect.Statement, dest []any) (found bool, err error) {
	if !rows.Next() {
		return false, rows.Err()
	}
	if err := scan(rows, dest); err != nil {
		return false, err
	}
	if s.Read {
		return true, rows.Close()
	}
	if rows.Next() {
		return false, ErrAmbiguous
	}
	// The database may report what went wrong, a constraint or the implicit COMMIT, only after the last row.
	if err := rows.Err(); err != nil {
		return false, err
	}
	return true, rows.Close()
}

// ErrAmbiguous: more than one row has the key.
var ErrAmbiguous = errors.New("the key matches more than one row")

// undo takes back a statement that succeeded but whose row could not be read, before its implicit transaction is
// committed. SQLite commits that when the statement is reset; a BEGIN in between turns the implicit transaction into
// an explicit one (https://www.sqlite.org/lang_transaction.html), which can be rolled back.
func (c *Conn) undo(rows *sql.Rows) {
	if !c.pool.dialect.InProcess {
		return
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

// Columns returns the names of the columns that a query yields.
func (c *Conn) Columns(ctx context.Context, s dialect.Statement) ([]string, error) {
	rows, err := c.Conn.QueryContext(c.uninterrupted(ctx), s.Text, s.Args...)
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
