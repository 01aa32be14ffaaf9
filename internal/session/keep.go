package session

import (
	"context"
	"time"
)

// A keeper keeps the writers' connection out of the pool from one update to the next, with its statements prepared: to
// take a connection, to make it impatient and to prepare on it costs as much as an update does. The connection goes
// back as soon as it is not used, and at once if the pool has no other left to give.
type keeper struct {
	conn    *Conn
	uses    uint64 // of connections that were kept
	seen    uint64 // uses when look was here last
	looks   int    // how often look has left the connection where it is
	watched bool   // look will be called
}

// The keeper is looked at every lookEvery. A connection that was not used since goes back to the pool, so that one
// which somebody else needs is missing for twice that at the most; and so does one that has been kept for looksAtMost
// looks, because the pool may have a limit on its age.
const (
	lookEvery   = 10 * time.Millisecond
	looksAtMost = 100
)

// take returns the kept connection, or a new one. The caller has the writers' turn.
func (p *Pool) take(ctx context.Context) (*Conn, error) {
	c := p.kept.conn
	if c == nil {
		return p.connect(ctx)
	}
	p.kept.conn = nil
	if p.closed() {
		c.close()
		return p.connect(ctx) // which says so
	}
	return c, nil
}

// gone is a context that has ended.
var gone = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// closed tells whether the service has closed the pool. A connection that is in use stays usable then, but nobody
// expects an update to succeed. A closed pool is what database/sql looks for first, before it looks at the context.
func (p *Pool) closed() bool {
	conn, err := p.db.Conn(gone)
	if err == nil {
		_ = conn.Close() // cannot be; a context that has ended gets no connection
		return false
	}
	return err != gone.Err()
}

// keep keeps a connection, if it can be spared. The caller has the writers' turn.
func (p *Pool) keep(c *Conn) bool {
	if s := p.db.Stats(); c.broken || c.shared || s.MaxOpenConnections > 0 && s.InUse >= s.MaxOpenConnections {
		return false
	}
	k := &p.kept
	k.conn = c
	k.uses++
	if !k.watched {
		k.watched, k.seen, k.looks = true, 0, 0
		time.AfterFunc(lookEvery, p.look)
	}
	return true
}

// look gives the kept connection back if it is idle or has been kept for long enough.
func (p *Pool) look() {
	if !p.writers.TryLock() {
		time.AfterFunc(lookEvery, p.look) // somebody writes, and uses it
		return
	}
	defer p.writers.Unlock()
	k := &p.kept
	if k.conn == nil || k.uses == k.seen || k.looks >= looksAtMost {
		if k.conn != nil {
			k.conn.close()
			k.conn = nil
		}
		k.watched = false
		return
	}
	k.seen = k.uses
	k.looks++
	time.AfterFunc(lookEvery, p.look)
}
