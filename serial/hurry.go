package serial

import (
	"context"
	"sync"
	"time"

	"github.com/raceproof/raceproof/internal/session"
)

// A hurry ends a round that goes on for long after the end of one of its callers' contexts: it can be stuck. Once COMMIT is
// about to be sent the others' callers would be told for it that nobody knows what has become of it, so then it is given
// much more time.
type hurry struct {
	ctx  context.Context
	over context.CancelFunc

	mu      sync.Mutex
	timers  []*time.Timer // while they run
	commits bool
}

// stuck is for how long a COMMIT is waited for after the end of a caller's context.
const stuck = 10 * time.Second

func newHurry() *hurry {
	h := &hurry{}
	h.ctx, h.over = context.WithCancel(context.Background())
	return h
}

// cancel is called when the round is over.
func (h *hurry) cancel() {
	h.over()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.timers {
		t.Stop()
	}
}

// soon ends the round in a while.
func (h *hurry) soon() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timers != nil || h.ctx.Err() != nil {
		return
	}
	h.timers = []*time.Timer{time.AfterFunc(tolerance, h.giveUp), time.AfterFunc(stuck, h.over)}
}

// giveUp ends the round, unless COMMIT was sent.
func (h *hurry) giveUp() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.commits {
		h.over()
	}
}

// seal says that COMMIT is about to be sent.
func (h *hurry) seal() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := session.Ended(h.ctx); err != nil {
		return err
	}
	h.commits = true
	return nil
}

func (h *hurry) sealed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.commits
}
