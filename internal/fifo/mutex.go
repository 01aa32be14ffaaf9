// Package fifo has a mutex that is given to its waiters in the order in which they came, and that a waiter can stop
// waiting for.
package fifo

import (
	"context"
	"sync"
)

// A Mutex is held by one holder at a time. It passes from Unlock straight to whoever has waited longest, so nobody
// who comes later can overtake: sync.Mutex bounds the wait only loosely and cannot be left, a channel of capacity one
// can be overtaken by a caller who finds it free. The zero value is unlocked. A Mutex must not be copied.
type Mutex struct {
	mu     sync.Mutex // guards what follows; never held while waiting
	locked bool
	first  *waiter
	last   *waiter
}

type waiter struct {
	ready      chan struct{} // closed when the mutex is this waiter's
	prev, next *waiter
}

// TryLock takes the mutex if it is free, and reports whether it did. A mutex with waiters is never free.
func (m *Mutex) TryLock() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.locked {
		return false
	}
	m.locked = true
	return true
}

// Lock waits for the mutex. If the context ends first it returns false, and the caller holds nothing. A caller
// that finds the mutex free gets it even if its context has ended.
func (m *Mutex) Lock(ctx context.Context) bool {
	m.mu.Lock()
	if !m.locked {
		m.locked = true
		m.mu.Unlock()
		return true
	}
	w := &waiter{ready: make(chan struct{}), prev: m.last}
	if m.last != nil {
		m.last.next = w
	} else {
		m.first = w
	}
	m.last = w
	m.mu.Unlock()

	select {
	case <-w.ready:
		return true
	case <-ctx.Done():
	}
	m.mu.Lock()
	select {
	case <-w.ready:
		// The mutex was handed over between the end of the context and this lock. Nobody else knows, so it is
		// handed on; dropping it here would leave it locked for ever.
		m.mu.Unlock()
		m.Unlock()
	default:
		m.remove(w)
		m.mu.Unlock()
	}
	return false
}

// Unlock hands the mutex to the waiter that came first, or leaves it free.
func (m *Mutex) Unlock() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.locked {
		panic("fifo: Unlock of an unlocked Mutex")
	}
	w := m.first
	if w == nil {
		m.locked = false
		return
	}
	m.remove(w)
	close(w.ready)
}

// Waiting returns how many callers wait at this moment.
func (m *Mutex) Waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for w := m.first; w != nil; w = w.next {
		n++
	}
	return n
}

func (m *Mutex) remove(w *waiter) {
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		m.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		m.last = w.prev
	}
	w.prev, w.next = nil, nil
}
