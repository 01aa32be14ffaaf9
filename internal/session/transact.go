package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// A level is one Transact: the transaction, or a savepoint in it. It is a context that carries itself.
type level struct {
	context.Context
	tx    *Tx
	depth int
}

// levelKey makes the transactions of two pools strangers to each other.
type levelKey struct{ pool *Pool }

// Value finds the level itself, and else what the context around it has.
func (l *level) Value(key any) any {
	if key == (levelKey{l.tx.conn.pool}) {
		return l
	}
	return l.Context.Value(key)
}

func (p *Pool) level(ctx context.Context) *level {
	l, _ := ctx.Value(levelKey{p}).(*level)
	return l
}

// InTransaction tells whether the context carries a transaction of this pool.
func (p *Pool) InTransaction(ctx context.Context) bool { return p.level(ctx) != nil }

// Ext returns the handle for a caller's own statements: the context's transaction, or else the pool.
func (p *Pool) Ext(ctx context.Context) sqlx.ExtContext {
	if l := p.level(ctx); l != nil {
		return l.tx
	}
	return p.db
}

// Transact calls f in a transaction, or in a savepoint of the context's transaction. The transaction is committed if f
// returns nil and the context has not ended, and else, also if f panics or ends its goroutine, rolled back.
func (p *Pool) Transact(ctx context.Context, f func(context.Context, *Tx) error) error {
	if l := p.level(ctx); l != nil {
		return l.nested(ctx, func(ctx context.Context) error { return f(ctx, l.tx) })
	}
	c, err := p.acquire(ctx, writing)
	if err != nil {
		return err
	}
	defer c.release()
	if err := p.patiently(ctx, func() error { return c.exec(p.dialect.Begin) }); err != nil {
		return fmt.Errorf("raceproof: begin: %w", err)
	}
	t := &Tx{conn: c}
	defer t.end()
	committed := false
	defer func() {
		if !committed { // no recover, so a panic goes on and a Goexit too
			t.rollback()
		}
	}()
	if err := f(&level{Context: ctx, tx: t}, t); err != nil {
		return err
	}
	if err := Ended(ctx); err != nil {
		return err
	}
	if err := t.commit(ctx); err != nil {
		return err
	}
	committed = true
	return nil
}

// nested runs f in a savepoint.
func (l *level) nested(ctx context.Context, f func(context.Context) error) error {
	if err := Ended(ctx); err != nil {
		return err
	}
	inner := &level{Context: ctx, tx: l.tx, depth: l.depth + 1}
	if err := inner.open(); err != nil {
		return err
	}
	released := false
	defer func() {
		if !released {
			inner.rollback()
		}
	}()
	if err := f(inner); err != nil {
		return err
	}
	if err := Ended(ctx); err != nil {
		return err
	}
	if err := inner.release(); err != nil {
		return err
	}
	released = true
	return nil
}

func (l *level) name() string { return fmt.Sprintf("raceproof_%d", l.depth) }

// open makes the savepoint.
func (l *level) open() error {
	t := l.tx
	_, err := guarded(t, func(c *Conn) (struct{}, error) {
		if t.depth != l.depth-1 {
			return struct{}{}, errors.New("raceproof: the context's transaction has another nested one open: " +
				"use the context that the innermost function was given, from one goroutine at a time")
		}
		if err := c.exec("SAVEPOINT " + l.name()); err != nil {
			return struct{}{}, fmt.Errorf("raceproof: savepoint: %w", err)
		}
		t.depth++
		return struct{}{}, nil
	})
	return err
}

// release makes what was done since the savepoint part of the level around it.
func (l *level) release() error {
	t := l.tx
	_, err := guarded(t, func(c *Conn) (struct{}, error) {
		if t.depth != l.depth {
			return struct{}{}, errors.New("raceproof: a nested transaction is still open at the end of the one around it")
		}
		if err := c.exec("RELEASE SAVEPOINT " + l.name()); err != nil {
			return struct{}{}, fmt.Errorf("raceproof: release savepoint: %w", err)
		}
		t.depth--
		return struct{}{}, nil
	})
	return err
}

// rollback takes back what was done since the savepoint. If it cannot, the whole transaction is over.
func (l *level) rollback() {
	t := l.tx
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over != nil {
		return // the whole of it will be rolled back
	}
	t.depth = l.depth - 1
	for _, statement := range []string{"ROLLBACK TO SAVEPOINT " + l.name(), "RELEASE SAVEPOINT " + l.name()} {
		if err := t.conn.exec(statement); err != nil {
			t.over = fmt.Errorf("%w: %s: %w", ErrFinished, statement, err)
			return
		}
	}
}
