package session

import (
	"context"
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
	if key == (txKey{c.tx.conn.pool}) {
		return c.tx
	}
	return c.Context.Value(key)
}

func (p *Pool) tx(ctx context.Context) *Tx {
	t, _ := ctx.Value(txKey{p}).(*Tx)
	return t
}

// InTransaction tells whether the context carries a transaction of this pool.
func (p *Pool) InTransaction(ctx context.Context) bool { return p.tx(ctx) != nil }

// Ext returns the handle for a caller's own statements: the context's transaction, or else the pool.
func (p *Pool) Ext(ctx context.Context) sqlx.ExtContext {
	if t := p.tx(ctx); t != nil {
		return t
	}
	return p.db
}

// Transact calls f in a transaction, or in a savepoint of the context's transaction. It is committed if f returns nil
// and the context has not ended, and else, also if f panics or ends its goroutine, rolled back.
func (p *Pool) Transact(ctx context.Context, f func(context.Context, *Tx) error) error {
	if outer := p.tx(ctx); outer != nil {
		if err := Ended(ctx); err != nil {
			return err
		}
		inner, err := outer.savepoint(ctx)
		if err != nil {
			return err
		}
		return inner.do(ctx, f, inner.releaseSavepoint, inner.rollbackToSavepoint)
	}
	c, err := p.begin(ctx)
	if err != nil {
		return err
	}
	defer c.release()
	t := &Tx{transaction: &transaction{conn: c}}
	t.deadline, _ = ctx.Deadline()
	t.top = t
	return t.do(ctx, f, t.commit, t.rollback)
}

// begin takes a connection and begins a transaction on it.
func (p *Pool) begin(ctx context.Context) (*Conn, error) {
	c, err := p.onLiving(ctx, writing, func(c *Conn) error {
		err := c.patiently(ctx, func() error { return c.exec(ctx, p.dialect.Begin+p.dialect.SetWaiting(p.WaitAtMost(ctx))) })
		if err != nil && p.dialect.Classify(err) != dialect.Busy {
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
	t.closeRows() // before anything is sent
	if err := t.usable(); err != nil {
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
		err = c.patiently(ctx, func() error { return c.exec(ctx, text) })
	} else {
		err = c.exec(ctx, text)
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("raceproof: commit: %w", err)
	if !c.pool.dialect.Refused(err) {
		c.broken = true // nothing that follows may be taken for the answer
		return unknown(err)
	}
	return err
}

// rollback ends a transaction that was not committed. If that fails the connection is closed, which ends it too.
func (t *Tx) rollback(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for level := t.top; level != nil; level = level.outer {
		level.closeRows()
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

// savepoint opens a level inside this one. If its context has an earlier deadline than those around it, its statements
// wait for locks no longer than that.
func (t *Tx) savepoint(ctx context.Context) (*Tx, error) {
	return guarded(ctx, t, func(c *Conn) (*Tx, error) {
		inner := &Tx{transaction: t.transaction, outer: t, depth: t.depth + 1, deadline: t.deadline}
		text := "SAVEPOINT " + inner.name()
		if deadline, ok := ctx.Deadline(); ok && (t.deadline.IsZero() || deadline.Before(t.deadline)) {
			inner.deadline = deadline
			text += c.pool.dialect.SetWaiting(c.pool.WaitAtMost(ctx))
		}
		if err := c.exec(ctx, text); err != nil {
			return nil, fmt.Errorf("raceproof: savepoint: %w", err)
		}
		t.top = inner
		return inner, nil
	})
}

// releaseSavepoint makes what was done at this level part of the one around it.
func (t *Tx) releaseSavepoint(ctx context.Context) error {
	t.CloseRows() // before anything is sent
	_, err := guarded(ctx, t, func(c *Conn) (struct{}, error) {
		text := "RELEASE SAVEPOINT " + t.name()
		if !t.deadline.Equal(t.outer.deadline) {
			text += t.outer.waiting()
		}
		if err := c.exec(ctx, text); err != nil {
			return struct{}{}, fmt.Errorf("raceproof: release savepoint: %w", err)
		}
		t.done, t.top = true, t.outer
		return struct{}{}, nil
	})
	return err
}

// waiting returns what makes statements wait for locks as long as they may at this level.
func (t *Tx) waiting() string {
	p := t.conn.pool
	own := time.Duration(p.limit.Load())
	left := time.Until(t.deadline)
	if t.deadline.IsZero() || own > 0 && own < left {
		return p.dialect.ResetWaiting(own)
	}
	return p.dialect.SetWaiting(max(left, time.Nanosecond))
}

// rollbackToSavepoint takes back what was done at this level. If it cannot, the whole transaction is over.
func (t *Tx) rollbackToSavepoint(ctx context.Context) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeRows()
	if t.over == nil && t.top != t {
		t.over = fmt.Errorf("%w: a nested transaction has outlived the one around it", ErrFinished)
	}
	t.done, t.top = true, t.outer
	if t.doubtful && t.over == nil {
		t.look(nil)
	}
	if t.over != nil {
		return // the whole of it will be rolled back
	}
	for _, statement := range []string{"ROLLBACK TO SAVEPOINT " + t.name(), "RELEASE SAVEPOINT " + t.name()} {
		if err := t.conn.upkeep(ctx, statement); err != nil {
			t.over = fmt.Errorf("%w: %s: %w", ErrFinished, statement, err)
			return
		}
	}
}

func (t *Tx) name() string { return fmt.Sprintf("raceproof_%d", t.depth) }
