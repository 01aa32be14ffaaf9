package fifo_test

import (
	"context"
	"math"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/fifo"
)

func TestQueuesServeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q fifo.Queues[string]
		for range 2 {
			require.Equal(t, fifo.Served, q.Acquire(t.Context(), "hot", 2, 0), "there is a place")
		}
		var served []int
		for i := range 10 {
			go func() {
				assert.Equal(t, fifo.Served, q.Acquire(t.Context(), "hot", 2, 10))
				served = append(served, i) // one after the other, see below
			}()
			synctest.Wait() // i waits
			require.Equal(t, i+1, q.Waiting())
		}
		assert.Equal(t, fifo.Full, q.Acquire(t.Context(), "hot", 2, 10), "ten wait")
		assert.Equal(t, fifo.Served, q.Acquire(t.Context(), "cold", 1, 0), "nobody waits for another key")
		assert.Equal(t, fifo.Full, q.Acquire(t.Context(), "cold", 1, 0))
		q.Release("cold")
		assert.Equal(t, fifo.Served, q.Acquire(t.Context(), "cold", 1, 0), "it is free again")
		q.Release("cold")
		for range 12 {
			q.Release("hot")
			synctest.Wait()
		}
		assert.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, served)
		assert.Zero(t, q.Waiting())
		assert.Panics(t, func() { q.Release("hot") }, "nobody holds it, and no queue is left")
	})
}

func TestQueuesAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q fifo.Queues[int]
		ended, end := context.WithCancel(t.Context())
		end()
		assert.Equal(t, fifo.Served, q.Acquire(ended, 1, 1, 0), "who finds a place has it")
		assert.Equal(t, fifo.Left, q.Acquire(ended, 1, 1, 1), "and nobody else waits")
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan fifo.Outcome, 2)
		for _, ctx := range []context.Context{ctx, t.Context()} {
			go func() { got <- q.Acquire(ctx, 1, 1, 2) }()
			synctest.Wait()
		}
		assert.Equal(t, fifo.Full, q.Acquire(t.Context(), 1, 1, 2))
		cancel()
		assert.Equal(t, fifo.Left, <-got)
		synctest.Wait()
		assert.Equal(t, 1, q.Waiting())
		q.Release(1)
		assert.Equal(t, fifo.Served, <-got)
		q.Release(1)
		assert.Panics(t, func() { q.Release(1) }, "no queue is left")
		assert.Equal(t, fifo.Served, q.Acquire(t.Context(), 1, math.MaxInt, math.MaxInt))
		assert.Equal(t, fifo.Served, q.Acquire(t.Context(), 1, math.MaxInt, math.MaxInt), "nothing overflows")
	})
}

// Callers come, wait, leave and are served at the same time, at several keys: a place is neither lost nor held twice.
func TestQueuesUnderLoad(t *testing.T) {
	const keys, limit = 3, 2
	var q fifo.Queues[int]
	var mu sync.Mutex
	var held [keys]int
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				key := (i * (w + 1)) % keys
				ctx, cancel := context.WithCancel(context.Background())
				if (i+w)%3 == 0 {
					go cancel()
				}
				if q.Acquire(ctx, key, limit, 4) == fifo.Served {
					mu.Lock()
					if held[key]++; held[key] > limit {
						t.Error("held by too many")
					}
					mu.Unlock()
					runtime.Gosched()
					mu.Lock()
					held[key]--
					mu.Unlock()
					q.Release(key)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	assert.Zero(t, q.Waiting())
	for key := range keys {
		for range limit {
			assert.Equal(t, fifo.Served, q.Acquire(context.Background(), key, limit, 0), "no place is lost")
		}
	}
}
