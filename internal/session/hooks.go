package session

import (
	"context"
	"errors"
	"fmt"
)

// A hook is a caller's function that waits for the end of a level.
type hook func(context.Context)

// hooks are the functions of one level and of those in it that were released, in the order in which they came.
type hooks struct {
	afterCommit, afterRollback []hook
}

// adopt takes over the functions of a level that has become part of this one.
func (h *hooks) adopt(inner *hooks) {
	h.afterCommit = append(h.afterCommit, inner.afterCommit...)
	h.afterRollback = append(h.afterRollback, inner.afterRollback...)
	*inner = hooks{}
}

// An ending is what is known of how a transaction ended.
type ending int

const (
	notCommitted ending = iota // it is open, or was rolled back
	committed
	unanswered // the answer to COMMIT was lost
)

// AfterCommit has f called once the whole transaction of the context is known to be committed, or at once if there is no
// transaction.
func (p *Pool) AfterCommit(ctx context.Context, f func(context.Context)) error {
	if f == nil {
		return errors.New("the function is nil")
	}
	t := p.tx(ctx)
	if t == nil {
		f(ctx)
		return nil
	}
	return t.hook(func(h *hooks) { h.afterCommit = append(h.afterCommit, f) })
}

// AfterRollback has f called once what was done at the context's level is known to be rolled back.
func (p *Pool) AfterRollback(ctx context.Context, f func(context.Context)) error {
	if f == nil {
		return errors.New("the function is nil")
	}
	t := p.tx(ctx)
	if t == nil {
		return nil // nothing can be rolled back
	}
	return t.hook(func(h *hooks) { h.afterRollback = append(h.afterRollback, f) })
}

func (t *Tx) hook(add func(*hooks)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over != nil {
		return t.over
	}
	if t.done {
		return fmt.Errorf("%w: its function has returned", ErrFinished)
	}
	add(&t.hooks)
	return nil
}

// runHooks calls the functions of a level that is over, which nobody else can add to any more. Those of one that was
// released have gone to the level around it.
func (t *Tx) runHooks(ctx context.Context) {
	t.mu.Lock()
	h, ended := t.hooks, t.ended
	t.hooks = hooks{}
	t.mu.Unlock()
	switch ended {
	case committed:
		runAll(ctx, h.afterCommit)
	case notCommitted:
		runAll(ctx, h.afterRollback)
	}
}

// runAll calls all functions in order, also if one of them panics or ends its goroutine, which then goes on.
func runAll(ctx context.Context, all []hook) {
	if len(all) == 0 {
		return
	}
	defer runAll(ctx, all[1:])
	all[0](ctx)
}
