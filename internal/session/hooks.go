package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// A hook is a caller's function that waits for the end of a level. Its number is its turn.
type hook struct {
	number int
	f      func(context.Context)
}

// hooks are the functions of one level and of those in it that were released.
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

// A keeper of hooks is a level of a transaction, or a Scope.
type hookKeeper interface {
	hook(add func(*hooks, int)) error
}

// hooksKey finds the innermost keeper of hooks.
type hooksKey struct{ pool *Pool }

// AfterCommit has f called once the whole transaction of the context is known to be committed, or at once if there is no
// transaction.
func (p *Pool) AfterCommit(ctx context.Context, f func(context.Context)) error {
	if f == nil {
		return errors.New("the function is nil")
	}
	keeper, ok := ctx.Value(hooksKey{p}).(hookKeeper)
	if !ok {
		f(ctx)
		return nil
	}
	return keeper.hook(func(h *hooks, n int) { h.afterCommit = append(h.afterCommit, hook{n, f}) })
}

// AfterRollback has f called once what was done at the context's level is known to be rolled back.
func (p *Pool) AfterRollback(ctx context.Context, f func(context.Context)) error {
	if f == nil {
		return errors.New("the function is nil")
	}
	keeper, ok := ctx.Value(hooksKey{p}).(hookKeeper)
	if !ok {
		return nil // nothing can be rolled back
	}
	return keeper.hook(func(h *hooks, n int) { h.afterRollback = append(h.afterRollback, hook{n, f}) })
}

func (t *Tx) hook(add func(*hooks, int)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over != nil {
		return t.over
	}
	if t.done {
		return fmt.Errorf("%w: its function has returned", ErrFinished)
	}
	t.hooked++
	add(&t.hooks, t.hooked)
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
		inOrder(ctx, h.afterCommit)
	case notCommitted:
		inOrder(ctx, h.afterRollback)
	}
}

// inOrder calls the functions in the order in which they were given, whichever level that was at.
func inOrder(ctx context.Context, all []hook) {
	slices.SortFunc(all, func(a, b hook) int { return a.number - b.number })
	runAll(ctx, all)
}

// runAll calls all functions, also if one of them panics or ends its goroutine, which then goes on.
func runAll(ctx context.Context, all []hook) {
	if len(all) == 0 {
		return
	}
	defer runAll(ctx, all[1:])
	all[0].f(ctx)
}

// A Scope is the context of a function whose work is no transaction of its own, because it is written only afterwards. What
// the function gives to AfterCommit and AfterRollback waits for that.
type Scope struct {
	context.Context
	pool *Pool
	tx   *Tx // that the work will be part of, or nil

	mu    sync.Mutex
	hooks hooks
	given int
	over  bool
}

// Scope returns the context for such a function. End must be called.
func (p *Pool) Scope(ctx context.Context) *Scope {
	return &Scope{Context: ctx, pool: p, tx: p.Current(ctx)}
}

// Value finds the scope, and else what the context around it has.
func (s *Scope) Value(key any) any {
	if key == (hooksKey{s.pool}) {
		return s
	}
	return s.Context.Value(key)
}

func (s *Scope) hook(add func(*hooks, int)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return fmt.Errorf("%w: its function has returned", ErrFinished)
	}
	if s.tx == nil {
		s.given++
		add(&s.hooks, s.given)
		return nil
	}
	s.tx.mu.Lock()
	defer s.tx.mu.Unlock()
	s.tx.hooked++ // among those of the transaction it has its turn from now on
	add(&s.hooks, s.tx.hooked)
	return nil
}

// End says how the work has ended: whether it came to be written, and with which error. What was given for that is called
// or, inside a transaction that the work is part of, left to that.
func (s *Scope) End(came bool, err error) {
	s.mu.Lock()
	h := s.hooks
	s.over = true
	s.mu.Unlock()
	switch {
	case !came || err != nil && !errors.Is(err, ErrCommitUnknown):
		inOrder(s.Context, h.afterRollback)
	case err != nil: // it is not known
	case s.tx == nil:
		inOrder(s.Context, h.afterCommit)
	default:
		s.tx.mu.Lock()
		defer s.tx.mu.Unlock()
		s.tx.hooks.adopt(&h)
	}
}
