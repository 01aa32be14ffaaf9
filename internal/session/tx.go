package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/dialect"
)

// A transaction is one BEGIN on a connection, with all that is nested in it.
type transaction struct {
	conn *Conn

	mu         sync.Mutex // one statement at a time
	top        *Tx        // the innermost level that is open
	over       error      // why no more statements are sent, nil while they are
	failed     error      // what Fail was given
	statements int        // how many were sent
	lent       bool       // a caller's own statements were among them
	doubtful   bool       // and some that can have ended the transaction without an error that was seen here
	options    TxOptions  // that it was begun with
	noted      []error    // refusals on account of somebody else's
	doom       error      // the one after which the whole transaction could only be rolled back
	ended      ending
	hooked     int  // how many hooks were given
	strange    bool // a caller's statement was not plainly one that reads or writes rows
	unheard    bool // rows were lent whose errors only their reader knows
}

// A Tx is one level of a transaction: the whole, or a savepoint in it. It is a Querier for statements of this module, and
// a sqlx.ExtContext for a caller's own. Contexts that a caller has kept can hold it for longer than it is open; it then
// sends nothing any more.
type Tx struct {
	*transaction
	outer *Tx // nil for the whole transaction
	depth int
	done  bool // guarded by mu
	// aborted is the error after which the database does nothing any more at this level; guarded by mu.
	aborted error
	open    []lentRows // that callers were given at this level; guarded by mu

	deadline time.Time // of the context of this level, or an earlier one around it
	part     *Part     // nil unless the level is one caller's share

	hooks hooks // guarded by mu
}

// lentRows are what a caller was given by a query.
type lentRows struct {
	columns  interface{ Columns() ([]string, error) } // fails when they are closed
	close    func()
	err      func() error // what they have ended with, once they are closed; nil if only their reader knows
	watchdog *watchdog
}

func (r lentRows) closed() bool {
	_, err := r.columns.Columns()
	return err != nil
}

// lentAtMost is after how many it is looked which of them are closed: nearly all are.
const lentAtMost = 64

// guarded runs one statement, if this level is the one to run it.
func guarded[R any](ctx context.Context, t *Tx, statement func(*Conn) (R, error)) (result R, err error) {
	return guardedFor(ctx, t, false, statement)
}

// guardedFor is guarded for a statement whose caller may have said how long a lock is waited for: that it was not free by
// then is his answer, and not what the whole transaction is made again for.
func guardedFor[R any](ctx context.Context, t *Tx, limited bool, statement func(*Conn) (R, error)) (result R, err error) {
	if err := t.beginPart(ctx); err != nil {
		return result, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.conn.pool.dialect.InProcess && t.reading() {
		return result, errReading
	}
	if err := t.usable(ctx); err != nil {
		return result, err
	}
	t.statements++
	result, err = statement(t.conn)
	if err != nil {
		t.look(ctx, err)
		if d := t.conn.pool.dialect; t.over == nil && d.ErrorsAbort && d.FromServer(err) {
			t.aborted = err
		}
		if limited && t.conn.pool.dialect.Classify(err) == dialect.Busy {
			return result, fmt.Errorf("%w: %w", ErrLocked, err)
		}
		err = t.note(err, t.over != nil || t.aborted != nil && t.outer == nil)
	}
	return result, err
}

// usable returns an error if no statement may be sent at this level.
func (t *Tx) usable(ctx context.Context) error {
	if t.doubtful || t.conn.broken { // a COMMIT on a lost connection would be taken for one whose answer is lost
		t.look(ctx, nil)
	}
	switch {
	case t.over != nil:
		return t.over
	case t.done:
		return ErrFinished
	case t.top != t:
		return errors.New("raceproof: the context's transaction has a nested one open: " +
			"use the context that the innermost function was given, from one goroutine at a time")
	case t.aborted != nil:
		return fmt.Errorf("%w: it can only be rolled back after an error: %w", ErrFinished, t.aborted)
	}
	return nil
}

// look finds out whether the transaction is still there, after an error, and before each statement once a caller's own
// can have ended it: by an error that only he sees, because it is one of his rows, or by a COMMIT. What followed would be
// committed statement by statement. Drivers do not always pass the database's error on, so the database is asked.
func (t *transaction) look(ctx context.Context, cause error) {
	c := t.conn
	d := c.pool.dialect
	var probe error
	switch {
	case t.over != nil:
		return
	case c.broken:
		t.over = fmt.Errorf("%w: its connection is lost", ErrFinished)
	case d.EndsTransaction(cause):
		t.over = fmt.Errorf("%w: the database has ended it", ErrFinished)
	case d.ErrorsAbort && cause != nil:
		return // it is aborted, and not over
	default:
		if probe = c.upkeep(ctx, d.Probe); d.EndsTransaction(probe) {
			// A Galera node answers the next statement, whatever it is, with the conflict because of which it has rolled back.
			t.over = fmt.Errorf("%w: the database has ended it: %w", ErrFinished, probe)
			t.note(probe, true)
		} else if d.Outside(probe) {
			c.broken = !d.InProcess // the probe may have left something behind
			t.over = fmt.Errorf("%w: the database has ended it before its time", ErrFinished)
		} else if c.broken {
			t.over = fmt.Errorf("%w: its connection is lost: %w", ErrFinished, probe)
		}
	}
	if cause != nil && t.over != nil {
		t.over = fmt.Errorf("%w: %w", t.over, cause)
	}
}

// Dialect returns the dialect of the transaction's database.
func (t *transaction) Dialect() *dialect.Dialect { return t.conn.pool.dialect }

// Statements returns how many statements were sent in the transaction so far.
func (t *Tx) Statements() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.statements
}

// Fail makes sure that the transaction is not committed, whatever its function makes of the error: nothing more is sent in
// it, and what it ends with wraps that.
func (t *Tx) Fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == nil {
		t.failed = err
	}
	if t.over == nil {
		t.over = err
	}
}

// ReadOnly tells whether the transaction was begun as one that only reads.
func (t *Tx) ReadOnly() bool { return t.options.ReadOnly }

// One runs a statement in the transaction.
func (t *Tx) One(ctx context.Context, s dialect.Statement, dest ...any) (found bool, err error) {
	if s.Args, err = settle(s.Args); err != nil {
		return false, err
	}
	dest, captures := captured(dest)
	found, err = guardedFor(ctx, t, s.Limited, func(c *Conn) (bool, error) {
		inner := c.during(ctx)
		found, err := c.inside(inner, s, dest)
		if err != nil {
			return false, c.failed(ctx, err)
		}
		return found, nil
	})
	if err == nil && found {
		err = deliver(captures)
	}
	return found && err == nil, err
}

// inside runs a statement that yields at most one row in a transaction.
func (c *Conn) inside(ctx context.Context, s dialect.Statement, dest []any) (bool, error) {
	defer c.attend(ctx)()
	rows, _, err := c.query(ctx, s)
	if err != nil {
		return false, err
	}
	defer func() { _ = rows.Close() }()
	return scanOne(rows, s, dest, func() error { return nil })
}

// Many runs a query in the transaction, and scans each of its rows into what next returns.
func (t *Tx) Many(ctx context.Context, s dialect.Statement, next func() []any) (err error) {
	if s.Args, err = settle(s.Args); err != nil {
		return err
	}
	captures, err := guardedFor(ctx, t, s.Limited, func(c *Conn) ([]*capture, error) { return c.many(ctx, s, next) })
	if err != nil {
		return err
	}
	return deliver(captures)
}

// Change runs a statement in the transaction and returns how many rows it changed.
func (t *Tx) Change(ctx context.Context, s dialect.Statement) (n int64, err error) {
	if s.Args, err = settle(s.Args); err != nil {
		return 0, err
	}
	return guardedFor(ctx, t, s.Limited, func(c *Conn) (int64, error) {
		inner := c.during(ctx)
		n, err := c.run(inner, s)
		if err != nil {
			return 0, c.failed(ctx, err)
		}
		return n, nil
	})
}

// Rows runs a query in the transaction and scans all its rows.
func (t *Tx) Rows(ctx context.Context, s dialect.Statement, each func(), dest ...any) error {
	_, err := guarded(ctx, t, func(c *Conn) (struct{}, error) { return struct{}{}, c.Rows(ctx, s, each, dest...) })
	return err
}

// Columns returns the names of the columns that a query yields.
func (t *Tx) Columns(ctx context.Context, s dialect.Statement) ([]string, error) {
	return guarded(ctx, t, func(c *Conn) ([]string, error) { return c.Columns(ctx, s) })
}

// lend runs one statement of a caller's.
func lend[R any](ctx context.Context, t *Tx, query string, args []any, statement func(context.Context, *Conn, []any) (R, error)) (result R, err error) {
	ctx, err = t.shared(ctx, query)
	if err != nil {
		return result, err
	}
	if args, err = settle(args); err != nil {
		return result, err
	}
	return guarded(ctx, t, func(c *Conn) (R, error) {
		if word := firstWord(query); controls(word, query) {
			// Not sent: what follows a COMMIT, or a COMMIT AND CHAIN, would be another transaction than the caller thinks.
			t.over = fmt.Errorf("%w: its function has sent %s, which is left to Transact", ErrFinished, word)
			return result, t.over
		}
		t.lent, c.lent = true, true
		if !plain(query) {
			t.doubtful, t.strange = true, true
		}
		result, err := statement(ctx, c, args)
		if err != nil {
			err = c.failed(ctx, err)
		}
		return result, err
	})
}

// lendRows is lend for a query, whose rows can have errors that only the caller sees.
func lendRows[R any](ctx context.Context, t *Tx, query string, args []any, statement func(context.Context, *Conn, []any) (R, error)) (R, error) {
	return lend(ctx, t, query, args, func(ctx context.Context, c *Conn, args []any) (R, error) {
		if c.pool.dialect.QueriesEnd {
			t.doubtful = true
		}
		return statement(ctx, c, args)
	})
}

// plain tells whether a caller's statement is certainly one that only reads or writes rows, and cannot end the
// transaction but by an error: COMMIT can, and so can on some databases whatever changes a table's definition.
func plain(query string) bool {
	if strings.Contains(strings.TrimRight(strings.TrimSpace(query), ";"), ";") {
		return false // it may be several
	}
	switch firstWord(query) {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "WITH", "VALUES":
		return true
	}
	return false
}

// controls tells whether a statement begins or ends a transaction. Those that hide it are found out afterwards.
func controls(word, query string) bool {
	switch word {
	case "BEGIN", "START", "COMMIT", "END", "ABORT":
		return true
	case "ROLLBACK":
		return !strings.Contains(strings.ToUpper(query), "TO") // a savepoint of the caller's own
	}
	return false
}

// firstWord returns the letters that a statement begins with, as capitals.
func firstWord(query string) string {
	query = strings.TrimSpace(query)
	if end := strings.IndexFunc(query, func(r rune) bool { return !unicode.IsLetter(r) }); end >= 0 {
		query = query[:end]
	}
	return strings.ToUpper(query)
}

// QueryContext runs a caller's query in the transaction.
func (t *Tx) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return lendRows(ctx, t, query, args, func(ctx context.Context, c *Conn, args []any) (*sql.Rows, error) {
		defer c.attend(ctx)()
		rows, err := c.Conn.QueryContext(ctx, query, args...)
		if err == nil {
			t.remember(ctx, rows, func() { _ = rows.Close() }, rows.Err)
		}
		return rows, err
	})
}

// QueryxContext runs a caller's query in the transaction.
func (t *Tx) QueryxContext(ctx context.Context, query string, args ...any) (*sqlx.Rows, error) {
	return lendRows(ctx, t, query, args, func(ctx context.Context, c *Conn, args []any) (*sqlx.Rows, error) {
		defer c.attend(ctx)()
		rows, err := c.Conn.QueryxContext(ctx, query, args...)
		if err == nil {
			t.remember(ctx, rows, func() { _ = rows.Close() }, rows.Err)
		}
		return rows, err
	})
}

// remember remembers rows that a caller was given, to close them if he does not.
func (t *Tx) remember(ctx context.Context, columns interface{ Columns() ([]string, error) }, close func(), err func() error) {
	if len(t.open) >= lentAtMost {
		t.forgetClosed()
	}
	t.open = append(t.open, lentRows{columns, close, err, t.conn.attendRows(ctx, columns)})
}

// CloseRows closes the rows that a caller's function has left open, once it has returned.
func (t *Tx) CloseRows(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeRows(ctx)
}

// closeRows closes the rows that callers have left open at this level: they would hold the connection for ever, and
// keep the transaction from being committed.
func (t *Tx) closeRows(ctx context.Context) {
	open := t.open
	t.open = nil
	if len(open) == 0 {
		return
	}
	closed := soonFor(ctx, func() { // it would wait for ever for one whose Scan has panicked in database/sql
		for _, r := range open {
			r.close()
		}
	})
	if !closed && !t.conn.pool.dialect.InProcess {
		t.conn.broken, t.conn.stuck = true, true // nothing can be sent behind them
	}
	if closed {
		t.learn(open)
	} else {
		for _, r := range open {
			r.watchdog.stop()
		}
	}
}

// reading tells whether rows that a caller was given are open still. On a connection across a network nothing can be
// sent behind them.
func (t *Tx) reading() bool {
	for level := t; level != nil; level = level.outer {
		if level.forgetClosed(); len(level.open) > 0 {
			return true
		}
	}
	return false
}

// forgetClosed forgets the rows of this level that are closed.
func (t *Tx) forgetClosed() {
	all := t.open
	if len(all) == 0 {
		return
	}
	var open, closed []lentRows
	known := soon(func() { // it would wait for ever for one whose Scan has panicked in database/sql
		for _, r := range all {
			if r.closed() {
				closed = append(closed, r)
			} else {
				open = append(open, r)
			}
		}
	})
	if !known {
		return
	}
	t.open = open
	t.learn(closed)
}

var errReading = errors.New("raceproof: rows of an earlier query are still open in the transaction: read them to their end, or close them first")

// QueryRowxContext runs a caller's query in the transaction.
func (t *Tx) QueryRowxContext(ctx context.Context, query string, args ...any) *sqlx.Row {
	row, err := lendRows(ctx, t, query, args, func(ctx context.Context, c *Conn, args []any) (*sqlx.Row, error) {
		defer c.attend(ctx)()
		row := c.Conn.QueryRowxContext(ctx, query, args...)
		t.noteAsIs(row.Err(), false) // as the caller will see it
		t.unheard = true
		t.remember(ctx, row, func() { _ = row.Scan() }, nil) // which closes it, and does nothing if it was scanned
		return row, row.Err()
	})
	if row == nil {
		return rowOf(ctx, err)
	}
	return row
}

// ExecContext runs a caller's statement in the transaction.
func (t *Tx) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return lend(ctx, t, query, args, func(ctx context.Context, c *Conn, args []any) (sql.Result, error) {
		defer c.attend(ctx)()
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
