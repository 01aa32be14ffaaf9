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
	lent     bool                 // a caller's own statements ran on it, and may have left rows open
}

// release ends the use of the connection: it is kept for the next writer or given back to the pool, and the turn to
// write goes to whoever is next.
func (c *Conn) release() {
	if !c.turn {
		c.close()
		return
	}
	p := c.pool
	defer p.writers.Unlock()
	if !p.keep(c) {
		// The writers behind this one must not wait for a caller who still holds rows.
		soon(c.close)
	}
}

// patience is how long something is waited for that can be in the way only because of a caller's mistake.
const patience = time.Second

// soon calls f, and does not wait for it any longer if that takes too long.
func soon(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
	}
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

// query runs a statement of this module that yields rows. Its arguments are settled.
func (c *Conn) query(ctx context.Context, s dialect.Statement) (rows *sql.Rows, err error) {
	prepared, err := c.prepare(ctx, s.Text)
	switch {
	case err != nil:
	case prepared == nil:
		rows, err = c.Conn.QueryContext(ctx, s.Text, s.Args...)
	default:
		rows, err = prepared.QueryContext(ctx, s.Args...)
	}
	return rows, c.alive(err)
}

// run runs a statement of this module that yields no rows, and returns how many it changed. Its arguments are settled.
func (c *Conn) run(ctx context.Context, s dialect.Statement) (n int64, err error) {
	var result sql.Result
	prepared, err := c.prepare(ctx, s.Text)
	switch {
	case err != nil:
	case prepared == nil:
		result, err = c.Conn.ExecContext(ctx, s.Text, s.Args...)
	default:
		result, err = prepared.ExecContext(ctx, s.Args...)
	}
	if err != nil {
		return 0, c.alive(err)
	}
	return result.RowsAffected()
}

// alive looks whether an error says that the connection is no more, and must not be kept.
func (c *Conn) alive(err error) error {
	if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
		c.broken = true
	}
	return err
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
func (c *Conn) One(ctx context.Context, s dialect.Statement, dest ...any) (found bool, err error) {
	if s.Args, err = settle(s.Args); err != nil {
		return false, err
	}
	rows, err := c.query(c.uninterrupted(ctx), s)
	if err != nil {
		return false, err
	}
	done := false // stays false if a caller's Scan method does not return
	defer func() {
		if !done && !s.Read {
			c.undo(rows)
		}
		_ = rows.Close()
	}()
	dest, captures := captured(dest)
	found, err = scanOne(rows, s, dest, func() error { return deliver(captures) })
	done = err == nil
	return found, err
}

// scanOne scans the one row of a statement, calls deliver while the statement can still be undone, and closes the rows
// if all went well.
func scanOne(rows *sql.Rows, s dialect.Statement, dest []any, deliver func() error) (found bool, err error) {
	if !rows.Next() {
		return false, rows.Err()
	}
	if err := rows.Scan(dest...); err != nil {
		return false, err
	}
	if err := deliver(); err != nil {
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
	// Not prepared: to make room for it, the very statement that is to be undone could be closed.
	_, err := c.Conn.ExecContext(context.Background(), "BEGIN")
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
