package session

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/dialect"
)

// A Conn is a connection taken out of the pool. As a Querier it runs statements that are transactions of their own.
// Nothing runs on it through database/sql's pool, which sends a statement again by itself when a driver calls its
// connection bad: the reply to a write can be what was lost (https://github.com/golang/go/issues/11978).
type Conn struct {
	*sqlx.Conn
	pool     *Pool
	turn     bool                 // it holds the pool's turn to write
	reads    bool                 // and only reads
	keepable bool                 // it may be kept after its use
	since    time.Time            // when it was taken out of the pool
	used     time.Time            // when it was kept
	prepared map[string]*sql.Stmt // by their text; only for a connection that may be kept
	limit    time.Duration        // how long it would wait for a lock by itself, if it were not impatient
	restore  []string             // the statements that undo what was set on it
	broken   bool                 // it must not be used by anybody else
	dead     bool                 // and the database does not answer on it
	stuck    bool                 // somebody reads on it, and nobody knows for how long
	lent     bool                 // a caller's own statements ran on it, and may have left rows open
	patience time.Duration        // how long statements of this module wait for locks in its transaction; 0: as long as the context lasts
	seated   bool                 // it takes one of the pool's seats
	stubborn driver.Conn          // the driver's own, if its methods do not return when a context has ended
	span     span
}

// release ends the use of the connection: it is kept for the next update or given back to the pool, and the turn to
// write goes to whoever is next.
func (c *Conn) release() {
	c.endSpan()
	c.patience = 0
	p, turn := c.pool, c.turn
	if turn {
		defer p.endTurn(c.reads)
		c.turn, c.reads = false, false
	}
	if c.seated {
		defer p.seats.Release()
		c.seated = false
	}
	switch {
	case c.stuck:
		go c.close()
	case c.keepable && p.keep(c):
	case turn || c.lent:
		// Nobody must wait for a caller who still holds rows: those can be such that they cannot be closed.
		soon(c.close)
	default:
		c.close()
	}
}

// tolerance is how long something is waited for that can be in the way only because of a caller's mistake.
const tolerance = time.Second

// soon calls f, does not wait for it any longer if that takes too long, and reports whether it is done.
func soon(f func()) bool { return soonFor(context.Background(), f) }

// soonFor is soon for a caller who does not wait for long when his context has ended.
func soonFor(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	t := time.NewTimer(tolerance)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	case <-ctx.Done():
		t.Reset(grace)
	}
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// close gives the connection back to the pool as it was taken.
func (c *Conn) close() {
	for _, s := range c.prepared {
		_ = s.Close()
	}
	c.prepared, c.keepable = nil, false // what follows is not worth preparing
	for _, statement := range c.restore {
		if !c.broken && c.upkeep(context.Background(), statement) != nil {
			c.broken = true
		}
	}
	if c.broken {
		// The pool closes a connection that its driver calls bad. An open transaction ends with it. That would wait for rows that
		// cannot be closed, and a server would keep the transaction's locks, so there the driver's own is closed before.
		_ = c.Conn.Raw(func(own any) error {
			if conn, ok := own.(driver.Conn); ok && !c.pool.dialect.InProcess {
				_ = conn.Close()
			}
			return driver.ErrBadConn
		})
	}
	_ = c.Conn.Close() // reports only that Raw has closed it
}

// preparedAtMost bounds the statements of a connection. There are few, unless expressions are made up as callers come.
const preparedAtMost = 64

// prepare returns the prepared statement of a text, or nil if that would not be worth it.
func (c *Conn) prepare(ctx context.Context, s dialect.Statement) (*sql.Stmt, error) {
	if p := c.prepared[s.Text]; p != nil || !c.keepable {
		return p, nil
	}
	if len(s.Args) == 0 && !c.pool.dialect.InProcess {
		return nil, nil // it travels as it is
	}
	if len(c.prepared) >= preparedAtMost {
		for text, s := range c.prepared {
			_ = s.Close()
			delete(c.prepared, text)
		}
	}
	p, err := c.Conn.PrepareContext(ctx, s.Text)
	switch {
	case err == nil:
	case c.pool.dialect.FromServer(err) && !c.pool.dialect.InProcess:
		return nil, nil // it may have too many already; what is wrong with this one it says again
	default:
		return nil, err
	}
	if c.prepared == nil {
		c.prepared = map[string]*sql.Stmt{}
	}
	c.prepared[s.Text] = p
	return p, nil
}

// query runs a statement of this module that yields rows. Its arguments are settled. If sent is false, the statement
// has certainly not reached the database.
func (c *Conn) query(ctx context.Context, s dialect.Statement) (rows *sql.Rows, sent bool, err error) {
	s.Text = c.prefix(ctx, s) + s.Text
	prepared, err := c.prepare(ctx, s)
	switch {
	case err != nil:
		return nil, false, err
	case prepared == nil:
		rows, err = c.Conn.QueryContext(ctx, s.Text, s.Args...)
	default:
		rows, err = prepared.QueryContext(ctx, s.Args...)
	}
	return rows, true, err
}

// run runs a statement of this module that yields no rows, and returns how many it changed. Its arguments are settled.
func (c *Conn) run(ctx context.Context, s dialect.Statement) (n int64, err error) {
	defer c.attend(ctx)()
	s.Text = c.prefix(ctx, s) + s.Text
	var result sql.Result
	prepared, err := c.prepare(ctx, s)
	switch {
	case err != nil:
	case prepared == nil:
		result, err = c.Conn.ExecContext(ctx, s.Text, s.Args...)
	default:
		result, err = prepared.ExecContext(ctx, s.Args...)
	}
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// prefix bounds on the server how long a statement waits for locks, so that one whose caller has gone does not.
func (c *Conn) prefix(ctx context.Context, s dialect.Statement) string {
	if !s.Locks {
		return ""
	}
	if s.Unwaited {
		return c.pool.dialect.WaitPrefixOf(0)
	}
	if left := remaining(ctx); s.AtMost > 0 && (left == 0 || s.AtMost < left) {
		return c.pool.dialect.WaitPrefixOf(s.AtMost)
	}
	left := remaining(ctx)
	if c.patience > 0 && (left == 0 || c.patience < left) {
		left = c.patience
	}
	return c.pool.dialect.WaitPrefix(left)
}

// failed returns an error with what is known besides: that the context has ended, which drivers report in many ways, and
// whether the connection can still be used.
func (c *Conn) failed(ctx context.Context, err error) error {
	d := c.pool.dialect
	if d.InProcess {
		if errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) {
			c.broken = true
		}
		return err
	}
	ends := !d.FromServer(err) || d.EndsConnection(err)
	if !ends && !d.Canceled(err) {
		return err
	}
	if ends && !c.answers() {
		c.broken, c.dead = true, true
	}
	if ended := Ended(ctx); ended != nil {
		return fmt.Errorf("%w: %w", ended, err)
	}
	return err
}

// answers finds out whether the connection is still there, and asked and answered in step, after an error that was not
// the server's own.
func (c *Conn) answers() bool {
	if c.broken {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	defer c.attend(ctx)()
	_, err := c.Conn.ExecContext(ctx, "SELECT 1")
	return err == nil || c.pool.dialect.FromServer(err)
}

// exec sends a statement without arguments or rows.
func (c *Conn) exec(ctx context.Context, text string) error {
	inner := c.during(ctx)
	if _, err := c.run(inner, dialect.Statement{Text: text}); err != nil {
		return c.failed(ctx, err)
	}
	return nil
}

// upkeepTimeout bounds the statements that clean up.
const upkeepTimeout = 5 * time.Second

// upkeep is exec for a statement that cleans up: the end of the context does not keep it from being sent, and a server
// that does not answer does not keep the caller.
func (c *Conn) upkeep(ctx context.Context, text string) error {
	if c.pool.dialect.InProcess {
		return c.exec(context.Background(), text)
	}
	inner, timeout := context.WithoutCancel(ctx), grace
	if ctx.Err() == nil {
		inner, timeout = c.during(ctx), upkeepTimeout
	}
	inner, cancel := context.WithTimeout(inner, timeout)
	defer cancel()
	if _, err := c.run(inner, dialect.Statement{Text: text}); err != nil {
		return c.failed(ctx, err)
	}
	return nil
}

// One runs a statement that is a transaction of its own.
func (c *Conn) One(ctx context.Context, s dialect.Statement, dest ...any) (found bool, err error) {
	if s.Args, err = settle(s.Args); err != nil {
		return false, err
	}
	inner := c.during(ctx)
	defer c.attend(inner)()
	rows, sent, err := c.query(inner, s)
	if err != nil {
		err = c.failed(ctx, err)
		if s.Read || !sent {
			return false, err
		}
		return false, c.outcome(err)
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
	if err != nil {
		if !c.pool.dialect.InProcess {
			_ = rows.Close() // before the connection is asked whether it answers
		}
		err = c.failed(ctx, err)
		if !s.Read && !c.notApplied(err) {
			err = unknown(err)
		}
	}
	return found, err
}

// Change runs a statement that is a transaction of its own and yields no rows.
func (c *Conn) Change(ctx context.Context, s dialect.Statement) (n int64, err error) {
	if s.Args, err = settle(s.Args); err != nil {
		return 0, err
	}
	if n, err = c.run(c.during(ctx), s); err != nil {
		return 0, c.outcome(c.failed(ctx, err))
	}
	return n, nil
}

// outcome returns the error of a statement that is a transaction of its own with what it means: whether it is known that the
// statement was not applied. The driver has refused it if its connection is still in step.
func (c *Conn) outcome(err error) error {
	if c.notApplied(err) || !c.pool.dialect.FromServer(err) && !c.broken {
		return err
	}
	return unknown(err)
}

// notApplied tells whether the error of a statement that is a transaction of its own means that it was not applied. One
// that was canceled while it ran had not come to its commit.
func (c *Conn) notApplied(err error) bool {
	return c.pool.dialect.Refused(err) || c.pool.dialect.Canceled(err)
}

// ErrCommitUnknown is documented in the root package.
var ErrCommitUnknown = errors.New("raceproof: it is not known whether the change was committed")

func unknown(err error) error { return fmt.Errorf("%w: %w", ErrCommitUnknown, err) }

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
	if s.Read && !s.Locks {
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
// an explicit one (https://www.sqlite.org/lang_transaction.html), which can be rolled back. Other databases have
// committed it by then: there a statement stands alone only if its row can be read.
func (c *Conn) undo(rows *sql.Rows) {
	if !c.pool.dialect.InProcess {
		return
	}
	// Not prepared: to make room for it, the very statement that is to be undone could be closed.
	_, err := c.Conn.ExecContext(context.Background(), "BEGIN")
	_ = rows.Close()
	if err == nil {
		err = c.exec(context.Background(), "ROLLBACK")
	}
	if err != nil {
		c.broken = true
	}
}

// Many runs a query that is a transaction of its own, and scans each of its rows into what next returns.
func (c *Conn) Many(ctx context.Context, s dialect.Statement, next func() []any) (err error) {
	if s.Args, err = settle(s.Args); err != nil {
		return err
	}
	captures, err := c.many(ctx, s, next)
	if err != nil {
		return err
	}
	return deliver(captures)
}

// many runs a query, and returns what is still to be scanned by callers' own methods.
func (c *Conn) many(ctx context.Context, s dialect.Statement, next func() []any) (captures []*capture, err error) {
	inner := c.during(ctx)
	defer c.attend(inner)()
	rows, _, err := c.query(inner, s)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		dest, taken := captured(next())
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		captures = append(captures, taken...)
	}
	err = rows.Err()
	_ = rows.Close() // before the connection is asked whether it answers
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	return captures, nil
}

// Rows runs a query and scans all its rows.
func (c *Conn) Rows(ctx context.Context, s dialect.Statement, each func(), dest ...any) error {
	inner := c.during(ctx)
	defer c.attend(inner)()
	rows, err := c.Conn.QueryContext(inner, s.Text, s.Args...)
	if err != nil {
		return c.failed(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		each()
	}
	if err := rows.Err(); err != nil {
		_ = rows.Close()
		return c.failed(ctx, err)
	}
	return nil
}

// Columns returns the names of the columns that a query yields.
func (c *Conn) Columns(ctx context.Context, s dialect.Statement) ([]string, error) {
	inner := c.during(ctx)
	defer c.attend(inner)()
	rows, err := c.Conn.QueryContext(inner, s.Text, s.Args...)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	for rows.Next() { // an error may come only with the end of the rows
	}
	if err := rows.Err(); err != nil {
		_ = rows.Close()
		return nil, c.failed(ctx, err)
	}
	return names, nil
}
