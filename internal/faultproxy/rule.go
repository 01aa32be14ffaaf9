package faultproxy

import (
	"context"
	"sync"
	"time"
)

// An Action is what becomes of a statement that a rule matches.
type Action struct {
	cut      bool // before it is forwarded
	lose     bool // after it is answered
	withhold bool
	delay    time.Duration
}

// Drop loses the answer: the statement is forwarded, its answer is thrown away when it has come completely, so that
// the server is known to have executed it, and then the client's connection is reset.
func Drop() Action { return Action{lose: true} }

// Withhold keeps the answer back until Release or Lose, or until the client is gone.
func Withhold() Action { return Action{withhold: true} }

// Delay keeps the answer back for a while, from when it has come completely.
func Delay(d time.Duration) Action { return Action{delay: d} }

// Cut resets the client's connection instead of forwarding the statement, which the server so never sees.
func Cut() Action { return Action{cut: true} }

// A Rule is an action for the first statements that match.
type Rule struct {
	proxy  *Proxy
	match  func(text string) bool
	action Action
	left   int // how often it may still fire
	fired  int

	answer   sync.Once
	answered chan struct{}
	tell     sync.Once
	told     chan struct{}
	lose     bool // what was told
}

// On adds a rule for the next n statements that match. Of the rules that match a statement and are not used up the
// first that was added is taken, and no other. match is called with the proxy's lock held: it must not call the proxy.
func (p *Proxy) On(match func(text string) bool, n int, action Action) *Rule {
	r := &Rule{proxy: p, match: match, action: action, left: n, answered: make(chan struct{}), told: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, r)
	return r
}

// Fired returns how many statements the rule was taken for.
func (r *Rule) Fired() int {
	r.proxy.mu.Lock()
	defer r.proxy.mu.Unlock()
	return r.fired
}

// Answered is closed when the server has answered a statement that the rule was taken for. The client then does not
// know of it yet.
func (r *Rule) Answered() <-chan struct{} { return r.answered }

// Release sends on the answers that are withheld, and those that would be later.
func (r *Rule) Release() { r.decide(false) }

// Lose throws away the answers that are withheld, and those that would be later, and resets their connections.
func (r *Rule) Lose() { r.decide(true) }

func (r *Rule) decide(lose bool) {
	r.tell.Do(func() {
		r.lose = lose
		close(r.told)
	})
}

// passes says whether an answer, which has come completely, is to be sent on, and does not return before it is.
func (r *Rule) passes(ctx context.Context) bool {
	r.answer.Do(func() { close(r.answered) })
	switch {
	case r.action.withhold:
		select {
		case <-r.told:
			return !r.lose
		case <-ctx.Done():
			return false
		}
	case r.action.delay > 0:
		t := time.NewTimer(r.action.delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	return !r.action.lose
}
