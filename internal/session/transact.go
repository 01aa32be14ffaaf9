package session

import (
	"context"
	"errors"
	"fmt"
)

// A level is one Transact: the transaction, or a savepoint in it. It travels in the context.
type level struct {
	conn  *Conn
	depth int
}

// levelKey makes the transactions of two pools strangers to each other.
type levelKey struct{ pool *Pool }

func (p *Pool) level(ctx context.Context) *level {
	l, _ := ctx.Value(levelKey{p}).(*level)
	return l
}

// InTransaction tells whether the context carries a transaction of this pool.
func (p *Pool) InTransaction(ctx context.Context) bool { return p.level(ctx) != nil }

// Conn returns the connection of the context's transaction. It panics if there is none.
func (p *Pool) Conn(ctx context.Context) *Conn { return p.level(ctx).conn }

// Transact calls f in a transaction, or in a savepoint of the context's transaction. The transaction is committed if f
// returns nil and the context has not ended, and else, also if f panics or ends its goroutine, rolled back.
func (p *Pool) Transact(ctx context.Context, f func(context.Context) error) error {
	if l := p.level(ctx); l != nil {
		return l.nested(ctx, f)
	}
	c, err := p.acquire(ctx, writing)
	if err != nil {
		return err
	}
	defer c.release()
	if err := p.patiently(ctx, func() error { return c.exec(p.dialect.Begin) }); err != nil {
		return fmt.Errorf("raceproof: begin: %w", err)
	}
	c.transaction = true

	inner, cancel := context.WithCancelCause(context.WithValue(ctx, levelKey{p}, &level{conn: c}))
	// Rows that f left open would hold the connection for ever; the end of their context closes them.
	defer cancel(ErrFinished)
	defer c.rollback() // nothing to do after a commit; no recover, so a panic goes on and a Goexit too
	if err := f(inner); err != nil {
		return err
	}
	if err := Ended(ctx); err != nil {
		return err
	}
	return c.commit(ctx)
}

// commit ends the transaction. If the database could not commit, the transaction is still there and rollback ends it.
func (c *Conn) commit(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		return c.over
	}
	if c.depth != 0 {
		return errors.New("raceproof: a nested transaction is still open at the end of the outer one")
	}
	c.over = ErrFinished // before COMMIT: no statement may slip in behind it
	// A COMMIT that SQLite refuses as busy waits for readers, has done nothing, and is to be sent again
	// (https://www.sqlite.org/lang_transaction.html): a wait for a lock, not a second attempt.
	if err := c.pool.patiently(ctx, func() error { return c.exec("COMMIT") }); err != nil {
		return fmt.Errorf("raceproof: commit: %w", err)
	}
	c.transaction = false
	return nil
}

// rollback ends a transaction that was not committed. If that fails the connection is closed, which ends it too.
func (c *Conn) rollback() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.transaction {
		return
	}
	c.over = ErrFinished
	if c.exec("ROLLBACK") != nil {
		c.broken = true
	}
	c.transaction = false
}

// nested runs f in a savepoint.
func (l *level) nested(ctx context.Context, f func(context.Context) error) error {
	c := l.conn
	if err := Ended(ctx); err != nil {
		return err
	}
	inner, err := c.savepoint(l)
	if err != nil {
		return err
	}
	released := false
	defer func() {
		if !released {
			c.rollbackTo(inner)
		}
	}()
	if err := f(context.WithValue(ctx, levelKey{c.pool}, inner)); err != nil {
		return err
	}
	if err := Ended(ctx); err != nil {
		return err
	}
	if err := c.releaseTo(inner); err != nil {
		return err
	}
	released = true
	return nil
}

func (c *Conn) savepoint(outer *level) (*level, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		return nil, c.over
	}
	if c.depth != outer.depth {
		return nil, errors.New("raceproof: the context's transaction has another nested one open: " +
			"use the context that the innermost function was given, from one goroutine at a time")
	}
	inner := &level{conn: c, depth: c.depth + 1}
	if err := c.exec("SAVEPOINT " + inner.name()); err != nil {
		return nil, c.failed(fmt.Errorf("raceproof: savepoint: %w", err))
	}
	c.depth++
	return inner, nil
}

func (c *Conn) releaseTo(l *level) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		return c.over
	}
	if c.depth != l.depth {
		return errors.New("raceproof: a nested transaction is still open at the end of the one around it")
	}
	if err := c.exec("RELEASE SAVEPOINT " + l.name()); err != nil {
		return c.failed(fmt.Errorf("raceproof: release savepoint: %w", err))
	}
	c.depth--
	return nil
}

func (c *Conn) rollbackTo(l *level) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		return // the whole transaction will be rolled back
	}
	c.depth = l.depth - 1
	for _, statement := range []string{"ROLLBACK TO SAVEPOINT " + l.name(), "RELEASE SAVEPOINT " + l.name()} {
		if err := c.exec(statement); err != nil {
			c.over = fmt.Errorf("%w: %s: %w", ErrFinished, statement, err)
			return
		}
	}
}

func (l *level) name() string { return fmt.Sprintf("raceproof_%d", l.depth) }
