package lease

import "context"

// A leaseContext is cancelled when its lease ends. It looks at the clock whenever it is asked whether it has, because timers
// can be late: a process that was stopped must not see what was true before. Its Context is one that can be cancelled, and
// is found by package context where it looks for such: contexts derived from it need no goroutine, and have its cause.
// Package context asks Err before it says a cause, and Done before it derives one.
type leaseContext struct {
	context.Context
	lease *Lease
}

func (c *leaseContext) Done() <-chan struct{} {
	_ = c.lease.check()
	return c.Context.Done()
}

func (c *leaseContext) Err() error {
	_ = c.lease.check()
	return c.Context.Err()
}
