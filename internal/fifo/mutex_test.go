package fifo_test

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/fifo"
)

func TestMutexServesInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m fifo.Mutex
		require.True(t, m.Lock(t.Context()))
		var served []int
		for i := range 10 {
			go func() {
				assert.True(t, m.Lock(t.Context()))
				served = append(served, i) // guarded by m
				m.Unlock()
			}()
			synctest.Wait() // i waits in the queue
			require.Equal(t, i+1, m.Waiting())
		}
		m.Unlock()
		synctest.Wait()
		assert.Equal(t, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, served)
		assert.Zero(t, m.Waiting())
	})
}

func TestMutexIsNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m fifo.Mutex
		require.True(t, m.Lock(t.Context()))
		waiting := make(chan bool)
		go func() { waiting <- m.Lock(t.Context()) }()
		synctest.Wait()
		m.Unlock()
		// It belongs to the waiter from here on, though that has not run yet.
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		assert.False(t, m.Lock(ended), "a newcomer got in before the waiter")
		assert.True(t, <-waiting)
		m.Unlock()
	})
}

func TestMutexIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var m fifo.Mutex
		require.True(t, m.Lock(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		got := make(chan bool, 3)
		for _, ctx := range []context.Context{t.Context(), ctx, t.Context()} {
			go func() { got <- m.Lock(ctx) }()
			synctest.Wait()
		}
		cancel()
		assert.False(t, <-got, "who leaves holds nothing")
		assert.Equal(t, 2, m.Waiting())
		for range 2 {
			m.Unlock()
			assert.True(t, <-got)
		}
		m.Unlock()
		require.True(t, m.Lock(t.Context()), "it is free again")
	})
}

func TestMutexTryLock(t *testing.T) {
	var m fifo.Mutex
	assert.True(t, m.TryLock())
	assert.False(t, m.TryLock())
	m.Unlock()
	assert.True(t, m.Lock(t.Context()))
	assert.False(t, m.TryLock())
}

func TestMutexUnlockOfUnlocked(t *testing.T) {
	var m fifo.Mutex
	assert.Panics(t, m.Unlock)
}

// Waiters leave and are served at the same time: the mutex must neither be lost nor held twice.
func TestMutexUnderLoad(t *testing.T) {
	var m fifo.Mutex
	var wg sync.WaitGroup
	held, served := 0, 0
	for w := range 8 {
		wg.Go(func() {
			for i := range 2000 {
				ctx, cancel := context.WithCancel(context.Background())
				if (i+w)%3 == 0 {
					go cancel()
				}
				if m.Lock(ctx) {
					held++
					if held != 1 {
						t.Error("held twice")
					}
					served++
					runtime.Gosched()
					held--
					m.Unlock()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	assert.Zero(t, m.Waiting())
	assert.True(t, m.Lock(context.Background()), "nobody holds it")
	assert.Positive(t, served)
}

// Never more than the limit hold a semaphore, and all get it.
func TestSemaphoreLimits(t *testing.T) {
	const limit, callers = 3, 50
	var s fifo.Semaphore
	var holders, most atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			if !assert.True(t, s.Acquire(context.Background(), limit)) {
				return
			}
			most.Store(max(most.Load(), holders.Add(1)))
			assert.LessOrEqual(t, holders.Load(), int64(limit))
			runtime.Gosched()
			holders.Add(-1)
			s.Release()
		})
	}
	wg.Wait()
	assert.Positive(t, most.Load())
	for range limit {
		assert.True(t, s.TryAcquire(limit))
	}
	assert.False(t, s.TryAcquire(limit))
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	assert.False(t, s.Acquire(gone, limit))
	assert.True(t, s.TryAcquire(limit+1), "the limit can rise")
	for range limit + 1 {
		s.Release()
	}
	assert.Panics(t, s.Release)
	assert.Zero(t, s.Waiting())
}
