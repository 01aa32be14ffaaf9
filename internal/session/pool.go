// Package session takes connections from a service's pool for one statement or for one transaction, waits its turn
// where the database has one writer at a time, and gives the connections back as they were.
package session

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/fifo"
)

// A Pool is a service's pool of connections to one database.
type Pool struct {
	db      *sqlx.DB
	dialect *dialect.Dialect

	// writers stands in front of a database that has one write lock: the writers of this process wait here, first come
	// first served and without a connection, instead of polling for the lock, where the unlucky wait for seconds.
	writers fifo.Mutex

	// waitLimit is the lock wait limit in milliseconds of the pool's connections, plus one; 0 until it has been read.
	waitLimit atomic.Int64
}

// NewPool returns a pool over db.
func NewPool(db *sqlx.DB, d *dialect.Dialect) *Pool {
	return &Pool{db: db, dialect: d}
}

// Dialect returns the dialect of the pool's database.
func (p *Pool) Dialect() *dialect.Dialect { return p.dialect }

// Ext returns the handle for a caller's own statements: the connection of the context's transaction, or else the pool.
func (p *Pool) Ext(ctx context.Context) sqlx.ExtContext {
	if l := p.level(ctx); l != nil {
		return l.conn
	}
	return p.db
}

// Read calls f with a connection for one reading statement: that of the context's transaction, or else one of the pool.
// f is called again as long as its statement is refused because of a lock, until the context ends.
func (p *Pool) Read(ctx context.Context, f func(*Conn) error) error {
	if l := p.level(ctx); l != nil {
		if err := Ended(ctx); err != nil {
			return err
		}
		return f(l.conn)
	}
	return p.single(ctx, reading, f)
}

// Write calls f with a connection for one writing statement that is a transaction of its own or, if the context
// carries a transaction, a savepoint of that one. In either case an error of f leaves nothing behind, see Conn.One.
// f is called again as long as its statement is refused because of a lock, until the context ends.
func (p *Pool) Write(ctx context.Context, f func(*Conn) error) error {
	if l := p.level(ctx); l != nil {
		return l.nested(ctx, func(context.Context) error { return f(l.conn) })
	}
	return p.single(ctx, writing, f)
}

func (p *Pool) single(ctx context.Context, a access, f func(*Conn) error) error {
	c, err := p.acquire(ctx, a)
	if err != nil {
		return err
	}
	defer c.release()
	return p.patiently(ctx, func() error { return f(c) })
}

type access int

const (
	reading access = iota
	writing
)

// acquire takes a connection, and for writing first a turn in the queue of writers, so that whoever waits for a turn
// holds no connection that somebody else could use.
func (p *Pool) acquire(ctx context.Context, a access) (*Conn, error) {
	if err := Ended(ctx); err != nil {
		return nil, err
	}
	queued := a == writing && p.dialect.OneWriter
	if queued && !p.writers.Lock(ctx) {
		return nil, fmt.Errorf("%w: waiting for the writers before it: %w", ErrLocked, Ended(ctx))
	}
	c, err := p.connect(ctx)
	if err != nil {
		if queued {
			p.writers.Unlock()
		}
		return nil, err
	}
	c.queued = queued
	return c, nil
}

func (p *Pool) connect(ctx context.Context) (*Conn, error) {
	conn, err := p.db.Connx(ctx)
	if err != nil {
		return nil, fmt.Errorf("raceproof: take a connection: %w", err)
	}
	c := &Conn{Conn: conn, pool: p}
	if err := c.impatient(ctx); err != nil {
		c.release()
		return nil, err
	}
	return c, nil
}

// impatient makes the database refuse a statement that would have to wait for a lock, if there is a context to look at
// while waiting: a driver that waits inside the database cannot be called back. Without one the connection's own limit
// is as good, and two statements cheaper.
func (c *Conn) impatient(ctx context.Context) error {
	d := c.pool.dialect
	if d.SetWaitLimit == "" || ctx.Done() == nil {
		return nil
	}
	limit := c.pool.waitLimit.Load() - 1
	if limit < 0 {
		if err := c.Conn.QueryRowContext(ctx, d.WaitLimit).Scan(&limit); err != nil {
			return fmt.Errorf("raceproof: read the limit on lock waits: %w", err)
		}
		c.pool.waitLimit.Store(limit + 1)
	}
	if limit == 0 {
		return nil
	}
	if err := c.exec(fmt.Sprintf(d.SetWaitLimit, 0)); err != nil {
		return fmt.Errorf("raceproof: limit lock waits: %w", err)
	}
	c.restore = fmt.Sprintf(d.SetWaitLimit, limit)
	return nil
}

// Waiting returns how many writers wait for their turn at this moment.
func (p *Pool) Waiting() int { return p.writers.Waiting() }
