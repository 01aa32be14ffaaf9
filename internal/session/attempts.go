package session

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// A Policy says how often something is attempted that others get in the way of, and how long to pause between two
// attempts. It is documented in the root package.
type Policy struct {
	MaxAttempts        int
	MinPause, MaxPause time.Duration
	Budget             int
}

// DefaultPolicy gives up after about three seconds of conflicts.
var DefaultPolicy = Policy{MaxAttempts: 64, MinPause: time.Millisecond, MaxPause: 100 * time.Millisecond, Budget: 10}

// Filled returns the policy with defaults in the place of zeros.
func (p Policy) Filled() (Policy, error) {
	d := DefaultPolicy
	switch {
	case p.MaxAttempts < 0:
		return p, fmt.Errorf("MaxAttempts is %d: it must not be negative", p.MaxAttempts)
	case p.MinPause < 0 || p.MaxPause < 0:
		return p, fmt.Errorf("MinPause is %v and MaxPause %v: they must not be negative", p.MinPause, p.MaxPause)
	case p.Budget < 0:
		return p, fmt.Errorf("the Budget is %d: it must not be negative", p.Budget)
	}
	if p.MaxAttempts == 0 {
		p.MaxAttempts = d.MaxAttempts
	}
	if p.MinPause == 0 {
		p.MinPause = d.MinPause
		if p.MaxPause > 0 {
			p.MinPause = min(p.MinPause, p.MaxPause)
		}
	}
	if p.MaxPause == 0 {
		p.MaxPause = max(d.MaxPause, p.MinPause)
	}
	if p.Budget == 0 {
		p.Budget = d.Budget
	}
	if p.MaxPause < p.MinPause {
		return p, fmt.Errorf("MaxPause is %v, less than MinPause, which is %v", p.MaxPause, p.MinPause)
	}
	return p, nil
}

// A Verdict is what to do about a failed attempt.
type Verdict int

const (
	// Final: it is not to be made again.
	Final Verdict = iota
	// Again: somebody else was in the way, and it counts.
	Again
	// Wait: a lock was not free in time. It is attempted for as long as the context lasts.
	Wait
)

// ErrRetryBudget is documented in the root package.
var ErrRetryBudget = errors.New("raceproof: the budget for further attempts is used up")

// Attempts are those of all callers of one policy: they share its budget.
type Attempts struct {
	Policy Policy
	left   atomic.Int64 // of the budget
}

// saved is how many calls' share of further attempts can be saved up.
const saved = 100

// Attempts returns those of a policy.
func (p *Pool) Attempts(policy Policy) *Attempts {
	if found, ok := p.attempts.Load(policy); ok {
		return found.(*Attempts)
	}
	made := &Attempts{Policy: policy}
	made.left.Store(int64(saved * policy.Budget))
	found, _ := p.attempts.LoadOrStore(policy, made)
	return found.(*Attempts)
}

// Do calls f until the verdict on its error is final, and pauses in between. f holds neither a lock nor a connection when
// it returns, and has left nothing behind if it fails. giveUp makes the error of attempts that were given up, of their
// number, of what the last failed with, and of what else has ended them, if anything has.
func (a *Attempts) Do(ctx context.Context, f func() (Verdict, error), giveUp func(attempts int, last, ended error) error) error {
	p := &a.Policy
	if a.left.Load() < int64(saved*p.Budget) {
		a.left.Add(int64(p.Budget))
	}
	pause := p.MinPause
	conflicts := 0
	var last error // of the attempts before
	for {
		verdict, err := f()
		switch verdict {
		case Final:
			if conflicts > 0 && err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return giveUp(conflicts+1, last, err)
			}
			return err
		case Again:
			if conflicts++; conflicts == p.MaxAttempts {
				return giveUp(conflicts, err, nil)
			}
			if a.left.Add(-1) < 0 {
				a.left.Add(1)
				return giveUp(conflicts, err, ErrRetryBudget)
			}
		}
		if ended := Sleep(ctx, Jitter(pause)); ended != nil {
			if conflicts > 0 {
				return giveUp(conflicts, err, ended)
			}
			return fmt.Errorf("%w: %w", ended, err)
		}
		last, pause = err, min(2*pause, p.MaxPause)
	}
}
