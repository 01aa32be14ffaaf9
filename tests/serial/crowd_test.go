package serial_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A crowd is of callers who queue.
type crowd struct{ sync.WaitGroup }

// queue starts a caller, and returns when he waits.
func (c *crowd) queue(t *testing.T, hot served, call func()) {
	t.Helper()
	waiting := hot.Stats().Waiting
	c.Go(call)
	world.Until(t, "he waits", func() bool { return hot.Stats().Waiting == waiting+1 })
}

// serve queues callers, and has them served after that.
func serve[T any](t *testing.T, p pattern[T], calls ...func()) {
	t.Helper()
	open := gate(t, p)
	var c crowd
	for _, call := range calls {
		c.queue(t, p, call)
	}
	open()
	c.Wait()
}

// together is serve, and fails the test if they were not all served in one group.
func together[T any](t *testing.T, p pattern[T], calls ...func()) {
	t.Helper()
	open := gate(t, p)
	before := p.Stats()
	var c crowd
	for _, call := range calls {
		c.queue(t, p, call)
	}
	open()
	c.Wait()
	groups, grouped := p.Stats().Groups-before.Groups, p.Stats().Grouped-before.Grouped
	if groups != 2 || grouped != uint64(2+len(calls)) {
		t.Errorf("%s: %d groups have served %d callers, want one of 2 and one of %d", p.name, groups, grouped, len(calls))
	}
}

// A slowContext does not say whether it has ended when it is asked for the nth time, until it may.
type slowContext struct {
	context.Context
	n     int32
	asked atomic.Int32
	stops func()
}

func (c *slowContext) Err() error {
	if c.asked.Add(1) == c.n {
		c.stops()
	}
	return c.Context.Err()
}

// gate has a group at work until it is opened, so that whoever comes meanwhile waits, and is then served together with all who
// do. It opens itself at the end of the test.
func gate[T any](t *testing.T, p pattern[T]) (open func()) {
	t.Helper()
	for range 100 {
		open, closed := tryGate(t, p)
		if closed {
			open = sync.OnceFunc(open)
			t.Cleanup(open)
			return open
		}
		open()
	}
	require.Fail(t, "no group comes about")
	return nil
}

// tryGate can fail: those who are to make up the group can be too late for each other.
func tryGate[T any](t *testing.T, p pattern[T]) (open func(), closed bool) {
	t.Helper()
	alone := p.Stats().Alone
	var callers crowd
	lone, entered, hold, left := make(chan struct{}), make(chan struct{}), make(chan struct{}), make(chan struct{})
	inside := make(chan struct{}, 2)
	update := func(key int, n int32, stops func()) {
		_, err := p.Update(&slowContext{Context: minute(t), n: n, stops: stops}, key, noted[T]())
		assert.NoError(t, err)
	}
	callers.Go(func() { update(loneKey, 1, func() { close(entered); <-lone }); close(left) })
	<-entered
	open = func() { close(hold); callers.Wait() }
	if p.Stats().Alone == alone { // others are still at work
		close(lone)
		return open, false
	}
	for range 2 { // they are asked first when they come, and then when it is their turn
		callers.Go(func() { update(gateKey, 2, func() { inside <- struct{}{}; <-hold }) })
	}
	both := false
	for !both && p.Stats().Alone == alone+1 && len(inside) == 0 {
		time.Sleep(50 * time.Microsecond)
		both = p.Stats().Waiting == 2
	}
	close(lone)
	<-inside
	select {
	case <-left:
	case <-time.After(time.Second): // somebody has overtaken him, and is in his way
		return open, false
	}
	return open, both && p.Stats().Alone == alone+1 && p.Stats().Waiting == 0
}
