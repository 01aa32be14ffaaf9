package fifo

import "context"

// A Mutex is a Semaphore with one place. The zero value is unlocked. A Mutex must not be copied.
type Mutex struct{ s Semaphore }

// TryLock takes the mutex if it is free, and reports whether it did. A mutex with waiters is never free.
func (m *Mutex) TryLock() bool { return m.s.TryAcquire(1) }

// Lock waits for the mutex. If the context ends first it returns false, and the caller holds nothing. A caller
// that finds the mutex free gets it even if its context has ended.
func (m *Mutex) Lock(ctx context.Context) bool { return m.s.Acquire(ctx, 1) }

// Unlock hands the mutex to the waiter that came first, or leaves it free.
func (m *Mutex) Unlock() { m.s.Release() }

// Waiting returns how many callers wait at this moment.
func (m *Mutex) Waiting() int { return m.s.Waiting() }
