package session

import (
	"context"
	"fmt"
	"time"

	"github.com/raceproof/raceproof/internal/dialect"
)

// nested calls f in a savepoint of this level.
func (t *Tx) nested(ctx context.Context, o TxOptions, f func(context.Context, *Tx) error) error {
	if err := Ended(ctx); err != nil {
		return err
	}
	if o.Isolation > t.options.Isolation { // what is more than asked for is not less
		return fmt.Errorf("%w: isolation level %v inside a transaction that was not begun with it", ErrUnsupported, o.Isolation)
	}
	if o.ReadOnly && !t.options.ReadOnly {
		return fmt.Errorf("%w: read-only inside a transaction that is not", ErrUnsupported)
	}
	inner, err := t.savepoint(ctx, o.Wait)
	if err != nil {
		return err
	}
	defer inner.runHooks(ctx)
	return inner.do(ctx, f, inner.releaseSavepoint, inner.rollbackToSavepoint)
}

// savepoint opens a level inside this one. If its context has an earlier deadline than those around it, or it is not to wait
// for that long, its statements wait for locks no longer than that.
func (t *Tx) savepoint(ctx context.Context, wait dialect.Wait) (*Tx, error) {
	return guarded(ctx, t, func(*Conn) (*Tx, error) {
		inner := &Tx{transaction: t.transaction, outer: t, depth: t.depth + 1, deadline: t.deadline}
		if err := inner.sendSavepoint(ctx, wait); err != nil {
			return nil, err
		}
		t.top = inner
		return inner, nil
	})
}

// sendSavepoint makes a savepoint of the level.
func (t *Tx) sendSavepoint(ctx context.Context, wait dialect.Wait) error {
	c, text := t.conn, "SAVEPOINT "+t.name()
	deadline := earliest(ctx, wait)
	if limit := t.options.LockTimeout; limit > 0 && time.Until(deadline) > limit {
		deadline = time.Time{} // that is the lower one
	}
	if !deadline.IsZero() && (t.deadline.IsZero() || deadline.Before(t.deadline)) {
		t.deadline = deadline
		text += c.pool.dialect.SetWaiting(c.pool.waitUntil(deadline))
	}
	if err := c.exec(ctx, text); err != nil {
		return fmt.Errorf("raceproof: savepoint: %w", err)
	}
	return nil
}

// earliest returns until when locks are waited for, the zero time if there is no limit.
func earliest(ctx context.Context, wait dialect.Wait) time.Time {
	deadline, ok := ctx.Deadline()
	if limit := time.Now().Add(wait.AtMost); wait.AtMost > 0 && (!ok || limit.Before(deadline)) {
		return limit
	}
	return deadline
}

// releaseSavepoint makes what was done at this level part of the one around it.
func (t *Tx) releaseSavepoint(ctx context.Context) error {
	t.CloseRows(ctx) // before anything is sent
	_, err := guarded(ctx, t, func(c *Conn) (struct{}, error) {
		text := "RELEASE SAVEPOINT " + t.name()
		if !t.deadline.Equal(t.outer.deadline) {
			text += t.outer.waiting()
		}
		if err := c.exec(ctx, text); err != nil {
			return struct{}{}, fmt.Errorf("raceproof: release savepoint: %w", err)
		}
		t.done, t.top = true, t.outer
		if t.part == nil {
			t.outer.hooks.adopt(&t.hooks)
		}
		return struct{}{}, nil
	})
	return err
}

// waiting returns what makes statements wait for locks as long as they may at this level.
func (t *Tx) waiting() string {
	p := t.conn.pool
	own := time.Duration(p.limit.Load())
	if limit := t.options.LockTimeout; limit > 0 && (own == 0 || limit < own) {
		own = limit
	}
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
	t.closeRows(ctx)
	if t.over == nil && t.top != t {
		t.over = fmt.Errorf("%w: a nested transaction has outlived the one around it", ErrFinished)
	}
	t.done, t.top = true, t.outer
	if t.doubtful && t.over == nil {
		t.look(ctx, nil)
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
