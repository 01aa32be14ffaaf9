package session

import (
	"context"
	"database/sql/driver"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
)

// Some drivers ask the server to stop when a context ends, and then wait for its answer for as long as the connection
// lasts. If the server is silent nothing helps but to close their connection under them.

// overdue is for how long after the end of a context such a driver is waited for.
const overdue = 30 * time.Millisecond

// A watchdog closes a driver's own connection if something is not over soon after the end of a context.
type watchdog struct {
	conn       *Conn
	unregister func() bool

	mu    sync.Mutex // held while the connection is closed: who has stopped the watchdog has it for himself
	over  bool
	fired bool
}

func (c *Conn) watch(ctx context.Context, after time.Duration, isOver func() bool) *watchdog {
	if c.stubborn == nil || ctx.Done() == nil {
		return nil
	}
	w := &watchdog{conn: c}
	w.unregister = context.AfterFunc(ctx, func() {
		time.AfterFunc(after, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			if !w.over && !isOver() {
				w.fired = true
				_ = c.stubborn.Close()
			}
		})
	})
	return w
}

// stop is called by whoever uses the connection when he does not wait any more.
func (w *watchdog) stop() {
	if w == nil {
		return
	}
	w.unregister()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.fired { // at the last moment, it may be
		w.conn.broken, w.conn.dead = true, true
	}
}

// attend watches over one statement, until stop is called.
func (c *Conn) attend(ctx context.Context) (stop func()) {
	return c.watch(ctx, overdue, func() bool { return false }).stop
}

// attendRows watches over rows that a caller was given, until they are closed.
func (c *Conn) attendRows(ctx context.Context, rows interface{ Columns() ([]string, error) }) *watchdog {
	return c.watch(ctx, grace, func() bool {
		// The answer does not come while somebody waits for a row: then they are open.
		answer := make(chan error, 1)
		go func() {
			_, err := rows.Columns()
			answer <- err
		}()
		select {
		case err := <-answer:
			return err != nil
		case <-time.After(overdue):
			return false
		}
	})
}

// connx takes a connection from the pool, and leaves it to itself if that takes longer than the context.
func (p *Pool) connx(ctx context.Context) (*sqlx.Conn, error) {
	if !p.stubborn || ctx.Done() == nil {
		return p.db.Connx(ctx)
	}
	type taken struct {
		conn *sqlx.Conn
		err  error
	}
	result := make(chan taken, 1)
	go func() {
		conn, err := p.db.Connx(ctx)
		result <- taken{conn, err}
	}()
	select {
	case r := <-result:
		return r.conn, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-result:
		return r.conn, r.err
	case <-time.After(grace):
	}
	go func() {
		if r := <-result; r.err == nil {
			_ = r.conn.Close()
		}
	}()
	return nil, ctx.Err()
}

// findStubborn keeps the driver's own connection, if it may have to be closed.
func (c *Conn) findStubborn() {
	if !c.pool.stubborn {
		return
	}
	_ = c.Raw(func(own any) error {
		if conn, ok := own.(driver.Conn); ok && c.pool.dialect.Stubborn(own) {
			c.stubborn = conn
		}
		return nil
	})
}
