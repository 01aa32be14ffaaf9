// Package fifo has a semaphore, and a mutex, that is given to its waiters in the order in which they came, and that a
// waiter can stop waiting for.
package fifo

import (
	"context"
	"math"
	"sync"
)

// A Semaphore is held by a limited number of holders at a time. It passes from Release straight to whoever has waited
// longest, so nobody who comes later can overtake: sync.Mutex bounds the wait only loosely and cannot be left, a buffered
// channel can be overtaken by a caller who finds room in it. The zero value is held by nobody. A Semaphore must not be
// copied.
type Semaphore struct {
	mu      sync.Mutex // guards what follows; never held while waiting
	held    int
	waiting int
	first   *waiter
	last    *waiter
}

type waiter struct {
	ready      chan struct{} // closed when the place is this waiter's
	prev, next *waiter
}

// TryAcquire takes a place if fewer than limit are taken, and reports whether it did. With waiters there is none.
func (s *Semaphore) TryAcquire(limit int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.take(limit)
}

func (s *Semaphore) take(limit int) bool {
	if s.held >= limit || s.first != nil {
		return false
	}
	s.held++
	return true
}

// Acquire waits until fewer than limit places are taken and it is the caller's turn, and takes one. If the context ends
// first it returns false, and the caller holds nothing. A caller that finds a place gets it even if its context has
// ended. The limit can differ from call to call; those who wait get a place when one is released.
func (s *Semaphore) Acquire(ctx context.Context, limit int) bool {
	return s.acquire(ctx, limit, math.MaxInt) == Served
}

// An Outcome is what has become of a wish for a place.
type Outcome int

// The outcomes. Only who was Served holds a place.
const (
	Served Outcome = iota
	Left           // the context ended first
	Full           // as many wait as may
)

// acquire is Acquire behind at most bound others who wait.
func (s *Semaphore) acquire(ctx context.Context, limit, bound int) Outcome {
	s.mu.Lock()
	if s.take(limit) {
		s.mu.Unlock()
		return Served
	}
	if s.waiting >= bound {
		s.mu.Unlock()
		return Full
	}
	w := &waiter{ready: make(chan struct{}), prev: s.last}
	if s.last != nil {
		s.last.next = w
	} else {
		s.first = w
	}
	s.last = w
	s.waiting++
	s.mu.Unlock()

	select {
	case <-w.ready:
		return Served
	case <-ctx.Done():
	}
	s.mu.Lock()
	select {
	case <-w.ready:
		// The place was handed over between the end of the context and this lock. Nobody else knows, so it is handed on;
		// dropping it here would leave it taken for ever.
		s.mu.Unlock()
		s.Release()
	default:
		s.remove(w)
		s.mu.Unlock()
	}
	return Left
}

// Release hands the place to the waiter that came first, or leaves it free.
func (s *Semaphore) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == 0 {
		panic("fifo: Release of a Semaphore that nobody holds")
	}
	w := s.first
	if w == nil {
		s.held--
		return
	}
	s.remove(w)
	close(w.ready)
}

// Waiting returns how many callers wait at this moment.
func (s *Semaphore) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

func (s *Semaphore) remove(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		s.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		s.last = w.prev
	}
	w.prev, w.next = nil, nil
	s.waiting--
}
