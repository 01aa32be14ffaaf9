package session

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// A keeper keeps the writers' connection out of the pool from one update to the next, with its statements prepared: to
// take a connection, to make it impatient and to prepare on it costs as much as an update does. The connection goes
// back when it is not used any more, and at the end of an update if the pool then has no other left to give.
type keeper struct {
	conn    *Conn
	uses    uint64 // of connections that were kept
	seen    uint64 // uses when look was here last
	watched bool   // look will be called

	looks atomic.Int32 // how often look was here since a connection went back; look counts without the turn too
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
	k := &p.kept
	s := p.db.Stats()
	none := s.MaxOpenConnections > 0 && s.InUse >= s.MaxOpenConnections
	if c.broken || c.lent || none || p.shut.Load() || k.looks.Load() >= looksAtMost {
		k.looks.Store(0)
		return false
	}
	k.conn = c
	k.uses++
	if !k.watched {
		k.watched = true
		k.seen = 0 // not k.uses: look comes twice before it takes the connection for idle
		time.AfterFunc(lookEvery, p.look)
	}
	return true
}

// look gives the kept connection back if it is idle. One that is in use goes back after its use, see keep.
func (p *Pool) look() {
	k := &p.kept
	k.looks.Add(1)
	if !p.writers.TryLock() {
		time.AfterFunc(lookEvery, p.look)
		return
	}
	defer p.writers.Unlock()
	if k.conn != nil && k.uses != k.seen {
		k.seen = k.uses
		time.AfterFunc(lookEvery, p.look)
		return
	}
	if k.conn != nil {
		k.conn.close()
		k.conn = nil
	}
	k.looks.Store(0)
	k.watched = false
}

// ErrClosed: the DB was closed.
var ErrClosed = errors.New("raceproof: the DB is closed")

// Close waits for the writer whose turn it is, gives the kept connection back, and refuses what comes later.
func (p *Pool) Close() {
	p.shut.Store(true)
	p.writers.Lock(context.Background())
	defer p.writers.Unlock()
	if c := p.kept.conn; c != nil {
		p.kept.conn = nil
		c.close()
	}
}
