package fifo

import (
	"context"
	"sync"
)

// Queues are Semaphores by key. There are as many of them as are held or waited for: one that nobody wants takes no memory.
// The zero value has none. Queues must not be copied.
type Queues[K comparable] struct {
	mu  sync.Mutex // guards what follows; never held while waiting
	all map[K]*queue
}

type queue struct {
	Semaphore
	users int // who hold a place or wait for one; guarded by the mutex of the Queues
}

// Acquire waits for one of the places of a key, of which there are limit, behind at most bound others who wait already. A
// caller who finds a place gets it, even if its context has ended.
func (q *Queues[K]) Acquire(ctx context.Context, key K, limit, bound int) Outcome {
	one := q.join(key)
	outcome := one.acquire(ctx, limit, bound)
	if outcome != Served {
		q.leave(key, one)
	}
	return outcome
}

// TryAcquire takes one of the places of a key if there is one, and reports whether it did.
func (q *Queues[K]) TryAcquire(key K, limit int) bool {
	one := q.join(key)
	taken := one.Semaphore.TryAcquire(limit)
	if !taken {
		q.leave(key, one)
	}
	return taken
}

// join returns the semaphore of a key, which is there until it is left.
func (q *Queues[K]) join(key K) *queue {
	q.mu.Lock()
	defer q.mu.Unlock()
	one := q.all[key]
	if one == nil {
		if q.all == nil {
			q.all = map[K]*queue{}
		}
		one = &queue{}
		q.all[key] = one
	}
	one.users++
	return one
}

// Release gives a place of a key to whoever has waited for it longest, or leaves it free.
func (q *Queues[K]) Release(key K) {
	q.mu.Lock()
	one := q.all[key]
	q.mu.Unlock()
	if one == nil {
		panic("fifo: Release of a key that nobody holds")
	}
	one.Release() // before it is left: as long as it is used it is the one that others find
	q.leave(key, one)
}

func (q *Queues[K]) leave(key K, one *queue) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if one.users--; one.users == 0 {
		delete(q.all, key)
	}
}

// Waiting returns how many callers wait at this moment.
func (q *Queues[K]) Waiting() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, one := range q.all {
		n += one.Semaphore.Waiting()
	}
	return n
}
