package lease

import "context"

// A leaseContext is cancelled when its lease ends. It looks at the clock whenever it is asked for anything, because timers
// can be late: a process that was stopped must not see what was true before. Its Context is one that can be cancelled, and
// is found by package context where it looks for such: contexts derived from it need no goroutine, and have its cause.
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

// Value is also how context.Cause finds the cause.
func (c *leaseContext) Value(key any) any {
	_ = c.lease.check()
	return c.Context.Value(key)
}
