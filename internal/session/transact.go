package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/dialect"
)

// A txContext carries a transaction.
type txContext struct {
	context.Context
	tx *Tx
}

// txKey makes the transactions of two pools strangers to each other.
type txKey struct{ pool *Pool }

// Value finds the transaction, and else what the context around it has.
func (c *txContext) Value(key any) any {
	if key == (txKey{c.tx.conn.pool}) || key == (hooksKey{c.tx.conn.pool}) {
		return c.tx
	}
	return c.Context.Value(key)
}

// InTransaction tells whether the context carries a transaction of this pool.
func (p *Pool) InTransaction(ctx context.Context) bool { return p.Current(ctx) != nil }

// Current returns the context's transaction, or nil.
func (p *Pool) Current(ctx context.Context) *Tx {
	t, _ := ctx.Value(txKey{p}).(*Tx)
	return t
}

// Ext returns the handle for a caller's own statements: the context's transaction, or else the pool.
func (p *Pool) Ext(ctx context.Context) sqlx.ExtContext {
	if t := p.Current(ctx); t != nil {
		return t
	}
	return p.db
}

// TxOptions are how a transaction is begun. The zero value is as the connection is set to.
type TxOptions struct {
	Isolation sql.IsolationLevel
	ReadOnly  bool

	// Wait is how long the locks of this level are waited for: the one of a database that has only one, and those that the
	// statements of a nested level want.
	Wait dialect.Wait

	// LockTimeout bounds how long a statement of the whole transaction waits for a lock, as exactly as a server can be told so, and
	// a caller's own only where it can be told so for a transaction; 0 is as long as the connection is set to.
	LockTimeout time.Duration

	// Turns are those that the transaction was waited for with. They end with it, before the hooks are called, which can want
	// the same.
	Turns *Turns
}

// ErrUnsupported is documented in the root package.
var ErrUnsupported = errors.New("raceproof: not supported")

// Transact is TransactWith as the connection is set to.
func (p *Pool) Transact(ctx context.Context, f func(context.Context, *Tx) error) error {
	return p.TransactWith(ctx, TxOptions{}, f)
}

// TransactWith calls f in a transaction, or in a savepoint of the context's transaction. It is committed if f returns nil
// and the context has not ended, and else, also if f panics or ends its goroutine, rolled back. If the whole transaction
// was refused on account of another, the error is a *Refused.
func (p *Pool) TransactWith(ctx context.Context, o TxOptions, f func(context.Context, *Tx) error) error {
	begin, err := p.dialect.BeginWith(o.Isolation, o.ReadOnly)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	if outer := p.Current(ctx); outer != nil {
		return outer.nested(ctx, o, f)
	}
	if o.Isolation == sql.LevelDefault {
		o.Isolation = p.dialect.OnlyLevel()
	}
	c, err := p.begin(ctx, o, begin)
	if err != nil {
		if p.dialect.Classify(err) == dialect.Conflict {
			return &Refused{err, dialect.Conflict}
		}
		return err
	}
	c.patience = o.LockTimeout
	t := &Tx{transaction: &transaction{conn: c, options: o}}
	t.deadline, _ = ctx.Deadline()
	t.top = t
	defer t.runHooks(ctx) // when the connection is back
	if o.Turns != nil {
		defer o.Turns.End()
	}
	defer c.release()
	return t.refusal(t.do(ctx, f, t.commit, t.rollback))
}

// begin takes a connection and begins a transaction on it.
func (p *Pool) begin(ctx context.Context, o TxOptions, begin dialect.Beginning) (*Conn, error) {
	a := writing
	if o.ReadOnly && p.dialect.OneWriter {
		a = viewing
	}
	patience, enough := patienceOf(ctx, o.Wait)
	defer enough()
	c, err := p.onLiving(ctx, patience, a, func(c *Conn) error {
		for _, statement := range begin.Before {
			if err := c.exec(ctx, statement); err != nil {
				c.broken = true // it may be set to something
				return err
			}
		}
		if a == viewing {
			if err := c.readOnly(ctx); err != nil {
				return err
			}
		}
		err := c.patiently(ctx, patience, func() error {
			return c.exec(ctx, begin.Text+p.dialect.SetWaiting(p.waitUntil(earliest(ctx, dialect.Wait{AtMost: o.LockTimeout}))))
		})
		if err == nil && a == viewing {
			err = c.patiently(ctx, patience, func() error { return c.exec(ctx, p.dialect.Look) }) // what it is to see begins here
		}
		if err != nil && (len(begin.Before) > 0 || p.dialect.Classify(err) != dialect.Busy || a == viewing) {
			c.broken = true // who knows what it is in
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("raceproof: begin: %w", err)
	}
	return c, nil
}

// do calls f at this level, and ends the level.
func (t *Tx) do(ctx context.Context, f func(context.Context, *Tx) error, commit func(context.Context) error, rollback func(context.Context)) error {
	committed := false
	defer func() {
		if !committed { // no recover, so a panic goes on and a Goexit too
			rollback(ctx)
		}
	}()
	if err := f(&txContext{ctx, t}, t); err != nil {
		t.suspect(ctx, err)
		return err
	}
	if err := Ended(ctx); err != nil {
		return err
	}
	if err := commit(ctx); err != nil {
		return err
	}
	committed = true
	return nil
}

// commit ends the transaction. If the database could not commit, the transaction is still there and rollback ends it.
func (t *Tx) commit(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeRows(ctx)                   // before anything is sent
	if err := Ended(ctx); err != nil { // while they were closed
		return err
	}
	if err := t.usable(ctx); err != nil {
		return err
	}
	t.over = ErrFinished // before COMMIT: no statement may slip in behind it
	c, text := t.conn, "COMMIT"
	if t.lent && c.pool.dialect.CommitChecked != "" {
		text = c.pool.dialect.CommitChecked
	}
	// A COMMIT that SQLite refuses as busy waits for readers, has done nothing, and is to be sent again
	// (https://www.sqlite.org/lang_transaction.html): a wait for a lock, not a second attempt.
	var err error
	if c.pool.dialect.OneWriter {
		err = c.patiently(ctx, ctx, func() error { return c.exec(ctx, text) })
	} else {
		err = c.exec(ctx, text)
	}
	if err == nil {
		t.ended = committed
		return nil
	}
	err = fmt.Errorf("raceproof: commit: %w", err)
	if !c.pool.dialect.Refused(err) {
		c.broken = true // nothing that follows may be taken for the answer
		t.ended = unanswered
		return unknown(err)
	}
	t.note(err, true)
	return err
}

// rollback ends a transaction that was not committed. If that fails the connection is closed, which ends it too.
func (t *Tx) rollback(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for level := t.top; level != nil; level = level.outer {
		level.closeRows(ctx)
	}
	t.over = ErrFinished
	if t.conn.broken {
		return
	}
	// A Galera node answers with the conflict because of which it has rolled back already.
	if err := t.conn.upkeep(ctx, "ROLLBACK"); err != nil && !t.conn.pool.dialect.EndsTransaction(err) {
		t.conn.broken = true
	}
}
