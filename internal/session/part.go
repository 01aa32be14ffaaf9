package session

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/raceproof/raceproof/internal/dialect"
)

// A Part is one caller's share of a transaction that serves several: a level of it that the caller's function runs at, on
// his own goroutine and with his own context, while the transaction waits for it.
type Part struct {
	// First is called before the first statement of the part is sent, at the level around it. Its error is the whole
	// transaction's.
	First func() error

	// Bare: what is done in the part takes itself back if it fails. Else the part is a savepoint from its first statement on.
	Bare bool

	// Round ends when the transaction is given up: then no statement of the part's caller is waited for.
	Round context.Context

	hooks   hooks
	opening sync.Mutex // held while the first statement is made ready for, and by whoever ends the part
	sent    bool       // guarded by it
	barred  bool       // guarded by the transaction's
	cuts    []func()   // undo what Round does to contexts
}

// Part calls f at a level of its own. If f fails, panics or ends its goroutine, or if its context has ended, what was sent
// at that level is taken back, and the transaction can go on. Hooks that f gives are kept for Part.End.
func (t *Tx) Part(ctx context.Context, p *Part, f func(context.Context, *Tx) error) error {
	t.mu.Lock()
	if err := t.usable(ctx); err != nil {
		t.mu.Unlock()
		return err
	}
	inner := &Tx{transaction: t.transaction, outer: t, depth: t.depth + 1, deadline: t.deadline, part: p}
	t.top = inner
	t.mu.Unlock()
	defer func() {
		p.hooks = inner.takeHooks()
		for _, stop := range p.cuts {
			stop()
		}
	}()
	if p.Bare {
		return inner.bare(ctx, f)
	}
	return inner.do(ctx, f, inner.endPart, inner.undoPart)
}

// bare is do for what takes itself back. Its context may end as soon as it is done.
func (t *Tx) bare(ctx context.Context, f func(context.Context, *Tx) error) (err error) {
	done := false
	defer func() {
		if !done {
			t.undoPart(ctx)
		}
	}()
	if err = f(&txContext{ctx, t}, t); err != nil {
		return err
	}
	err = t.endPart(ctx)
	done = err == nil
	return err
}

// Sent tells whether f has sent anything. It is for when the part is over.
func (p *Part) Sent() bool { return p.sent }

// Barred tells whether f has to be called in a transaction of its own: it has wanted to send a statement that could have
// committed what others have done in this one, and was not sent; or something was refused that in a transaction of its own
// would have been waited for longer. Unless the part is Bare, what was sent in it is taken back.
func (p *Part) Barred() bool { return p.barred }

// inPart returns the part that a level belongs to, or nil.
func (t *Tx) inPart() *Part {
	for level := t; level != nil; level = level.outer {
		if level.part != nil {
			return level.part
		}
	}
	return nil
}

// shared looks at a caller's statement that may be inside a part: it must plainly be one that reads or writes rows, and is cut off
// when the transaction is given up.
func (t *Tx) shared(ctx context.Context, query string) (context.Context, error) {
	p := t.inPart()
	if p == nil {
		return ctx, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !plain(query) {
		p.barred = true
		return ctx, errBarred
	}
	if p.Round == nil {
		return ctx, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(p.Round, cancel)
	p.cuts = append(p.cuts, func() {
		stop()
		cancel()
	})
	return ctx, nil
}

var errBarred = errors.New("raceproof: a transaction that several share takes no such statement")

// beginPart makes the level of a part what it has to be for a statement to be sent at it.
func (t *Tx) beginPart(ctx context.Context) error {
	if t.part == nil {
		return nil
	}
	t.part.opening.Lock()
	defer t.part.opening.Unlock()
	t.mu.Lock()
	if t.part.sent || t.top != t || t.done || t.over != nil {
		t.mu.Unlock()
		return nil // or it is said by usable
	}
	t.part.sent = true
	t.top = t.outer
	t.mu.Unlock()
	if t.part.First != nil {
		if err := t.part.First(); err != nil {
			t.outer.Fail(err) // the statements of others, which are not to be told to this one
			return err
		}
	}
	return t.outer.reopen(ctx, t)
}

// reopen makes an inner level the one that sends statements.
func (t *Tx) reopen(ctx context.Context, inner *Tx) error {
	_, err := guarded(ctx, t, func(c *Conn) (none struct{}, err error) {
		if !inner.part.Bare {
			if err := inner.sendSavepoint(ctx, dialect.Wait{}); err != nil {
				return none, err
			}
		}
		t.top = inner
		return none, nil
	})
	return err
}

// endPart makes what was done in a part a piece of the transaction.
func (t *Tx) endPart(ctx context.Context) error {
	t.part.opening.Lock()
	if t.part.sent && !t.part.Bare && !t.part.barred {
		t.part.opening.Unlock() // what releases it is a statement too, and asks whether the part has begun
		return t.releaseSavepoint(ctx)
	}
	defer t.part.opening.Unlock()
	if t.part.barred && !t.part.Bare {
		return errBarred
	}
	t.CloseRows(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(ctx); err != nil {
		return err
	}
	t.done, t.top = true, t.outer
	return nil
}

// undoPart takes back what was done in a part.
func (t *Tx) undoPart(ctx context.Context) {
	t.part.opening.Lock()
	defer t.part.opening.Unlock()
	if t.part.sent && !t.part.Bare {
		t.rollbackToSavepoint(ctx)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeRows(ctx)
	if t.over == nil && t.top != t && t.top != t.outer {
		t.over = fmt.Errorf("%w: a nested transaction has outlived the one around it", ErrFinished)
	}
	t.done, t.top = true, t.outer
}

func (t *Tx) takeHooks() hooks {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.hooks
	t.hooks = hooks{}
	return h
}

// End calls the hooks that were given in the part, once it is known what has become of the transaction: whether the part
// came to be committed, and with which error. It is for the caller's goroutine, when nobody waits for that any more.
func (p *Part) End(ctx context.Context, came bool, err error) {
	h := p.hooks
	p.hooks = hooks{}
	switch {
	case !came || err != nil && !errors.Is(err, ErrCommitUnknown):
		inOrder(ctx, h.afterRollback)
	case err == nil:
		inOrder(ctx, h.afterCommit)
	}
}

// Usable returns nil if the transaction can go on at this level.
func (t *Tx) Usable(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.usable(ctx)
}

// Refused tells whether an error is, or wraps, a refusal on account of somebody else's that was met in the transaction.
func (t *Tx) Refused(err error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, noted := range t.noted {
		if wraps(err, noted) {
			return true
		}
	}
	return t.doom != nil
}
