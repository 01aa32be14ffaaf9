package session

import (
	"context"
	"errors"
	"sync"
	"time"
)

// A keeper keeps connections out of the pool from one update to the next, with their statements prepared: to take a
// connection, to make it ready and to prepare on it costs as much as an update does. A connection goes back when it is
// not used any more, after a while in any case, and at the end of an update if the pool then has no other left to give.
type keeper struct {
	mu      sync.Mutex
	conns   []*Conn // not in use; the one that was used last is at the end
	watched bool    // look will be called
}

// Kept connections are looked at every lookEvery. One that was not used since goes back to the pool, so that one which
// somebody else needs is missing for twice that at the most; and none is kept for longer than keptAtMost, because the
// pool may have a limit on its age. If the pool has no other left, one is handed from update to update for handedAtMost,
// so that the service's own statements have their turn.
const (
	lookEvery    = 10 * time.Millisecond
	keptAtMost   = time.Second
	handedAtMost = 20 * time.Millisecond
)

// pop takes the connection that was used last, or returns nil.
func (k *keeper) pop() *Conn {
	k.mu.Lock()
	defer k.mu.Unlock()
	last := len(k.conns) - 1
	if last < 0 {
		return nil
	}
	c := k.conns[last]
	k.conns = k.conns[:last]
	return c
}

func (k *keeper) empty() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.conns) == 0
}

// take returns a kept connection, or a new one.
func (p *Pool) take(ctx context.Context) (*Conn, error) {
	c := p.kept.pop()
	if c != nil && p.closed() {
		c.close()
		c = nil // a new one says so
	}
	if c != nil {
		return c, nil
	}
	return p.connect(ctx)
}

// gone is a context that has ended.
var gone = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Closed tells whether nothing can be done through the pool any more.
func (p *Pool) Closed() bool { return p.shut.Load() || p.closed() }

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

// keep keeps a connection, if it can be spared.
func (p *Pool) keep(c *Conn) bool {
	now := time.Now()
	s := p.db.Stats()
	none := s.MaxOpenConnections > 0 && s.InUse >= s.MaxOpenConnections
	age := now.Sub(c.since)
	if c.broken || c.lent || age >= keptAtMost || none && (p.seats.Waiting() == 0 || age >= handedAtMost) {
		return false
	}
	c.used = now
	k := &p.kept
	k.mu.Lock()
	defer k.mu.Unlock()
	if p.shut.Load() { // looked at under mu: Close takes what is there after it has set it
		return false
	}
	k.conns = append(k.conns, c)
	if !k.watched {
		k.watched = true
		time.AfterFunc(lookEvery, p.look)
	}
	return true
}

// look gives the connections back that are idle.
func (p *Pool) look() {
	idle := time.Now().Add(-lookEvery)
	k := &p.kept
	k.mu.Lock()
	n := 0
	for n < len(k.conns) && k.conns[n].used.Before(idle) {
		n++
	}
	back := k.conns[:n:n]
	k.conns = append([]*Conn(nil), k.conns[n:]...)
	k.watched = len(k.conns) > 0
	if k.watched {
		time.AfterFunc(lookEvery, p.look)
	}
	k.mu.Unlock()
	for _, c := range back {
		c.close()
	}
}

// ErrClosed: the DB, or an updater that can be, was closed.
var ErrClosed = errors.New("raceproof: the DB, or the updater, is closed")

// Close waits for the writer whose turn it is, gives the kept connections back, and refuses what comes later.
func (p *Pool) Close() {
	p.shut.Store(true)
	if p.dialect.OneWriter {
		p.writers.Lock(context.Background())
		defer p.writers.Unlock()
	}
	for c := p.kept.pop(); c != nil; c = p.kept.pop() {
		c.close()
	}
}
