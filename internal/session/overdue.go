package session

import (
	"context"
	"database/sql/driver"
	"time"

	"github.com/jmoiron/sqlx"
)

// Some drivers ask the server to stop when a context ends, and then wait for its answer for as long as the connection
// lasts. If the server is silent nothing helps but to close their connection under them.

// overdue is for how long after the end of a context such a driver is waited for.
const overdue = 30 * time.Millisecond

// attend closes the driver's own connection if the context ends and nobody has called stop soon after.
func (c *Conn) attend(ctx context.Context) (stop func()) {
	if c.stubborn == nil || ctx.Done() == nil {
		return func() {}
	}
	over := make(chan struct{})
	unregister := context.AfterFunc(ctx, func() {
		select {
		case <-over:
		case <-time.After(overdue):
			_ = c.stubborn.Close()
		}
	})
	return func() {
		unregister()
		close(over)
	}
}

// attendRows is attend until the rows are closed that a caller was given.
func (c *Conn) attendRows(ctx context.Context, rows interface{ Columns() ([]string, error) }) (stop func() bool) {
	if c.stubborn == nil || ctx.Done() == nil {
		return nil
	}
	return context.AfterFunc(ctx, func() {
		time.Sleep(grace)
		if !closed(rows) {
			_ = c.stubborn.Close()
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
