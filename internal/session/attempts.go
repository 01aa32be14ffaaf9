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
var DefaultPolicy = Policy{MaxAttempts: 64, MinPause: time.Millisecond, MaxPause: 100 * time.Millisecond}

// maxBudget is more than anybody can use.
const maxBudget = 1_000_000

// Filled returns the policy with defaults in the place of zeros.
func (p Policy) Filled() (Policy, error) {
	d := DefaultPolicy
	switch {
	case p.MaxAttempts < 0:
		return p, fmt.Errorf("MaxAttempts is %d: it must not be negative", p.MaxAttempts)
	case p.MinPause < 0 || p.MaxPause < 0:
		return p, fmt.Errorf("MinPause is %v and MaxPause %v: they must not be negative", p.MinPause, p.MaxPause)
	case p.Budget < 0 || p.Budget > maxBudget:
		return p, fmt.Errorf("the Budget is %d: it must not be negative, nor above %d", p.Budget, maxBudget)
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
	// Late: the context has ended in the middle of it.
	Late
)

// Lateness returns Late if an error is the context's doing, and else Final.
func Lateness(ctx context.Context, err error) Verdict {
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) && !errors.Is(err, ErrCommitUnknown) {
		return Late
	}
	return Final
}

// ErrRetryBudget is documented in the root package.
var ErrRetryBudget = errors.New("raceproof: the budget for further attempts is used up")

// Attempts are those of all callers of one policy: they share its budget.
type Attempts struct {
	policy Policy
	left   atomic.Int64 // of the budget
}

// saved is how many calls' share of further attempts can be saved up.
const saved = 100

// Attempts returns those of a policy.
func (p *Pool) Attempts(policy Policy) *Attempts {
	made := &Attempts{policy: policy}
	if policy.Budget == 0 {
		return made
	}
	made.left.Store(saved * int64(policy.Budget))
	found, _ := p.attempts.LoadOrStore(policy, made)
	return found.(*Attempts)
}

// Do calls f until the verdict on its error is final, and pauses in between. f holds neither a lock nor a connection when
// it returns, and has left nothing behind if it fails. giveUp makes the error of attempts that were given up, of their
// number, of what the last failed with, and of what else has ended them, if anything has.
func (a *Attempts) Do(ctx context.Context, f func() (Verdict, error), giveUp func(attempts int, last, ended error) error) error {
	p := &a.policy
	a.earn()
	pause := p.MinPause
	conflicts := 0
	var last error // of the attempts before
	for {
		verdict, err := f()
		switch {
		case verdict == Late && conflicts > 0:
			return giveUp(conflicts+1, last, err)
		case verdict == Late || verdict == Final:
			return err
		case verdict == Again:
			if conflicts++; conflicts == p.MaxAttempts {
				return giveUp(conflicts, err, nil)
			}
			if !a.spend() {
				return giveUp(conflicts, err, ErrRetryBudget)
			}
		}
		if ended := Sleep(ctx, Jitter(pause)); ended != nil {
			if conflicts > 0 {
				return giveUp(conflicts, err, ended)
			}
			return fmt.Errorf("%w: %w", ended, err)
		}
		if last = err; pause > p.MaxPause/2 {
			pause = p.MaxPause
		} else {
			pause *= 2
		}
	}
}

// earn adds one call's share to the budget, unless enough is saved.
func (a *Attempts) earn() {
	if share := int64(a.policy.Budget); share > 0 && a.left.Load() < saved*share {
		a.left.Add(share)
	}
}

// spend takes a further attempt from the budget, if there is one.
func (a *Attempts) spend() bool {
	if a.policy.Budget == 0 || a.left.Add(-1) >= 0 {
		return true
	}
	a.left.Add(1)
	return false
}
