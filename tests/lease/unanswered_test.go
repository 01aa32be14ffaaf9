package lease_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lease"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A gateway stands in front of a server, and can leave the next who connects without an answer, or end.
type gateway struct {
	listener net.Listener
	silent   atomic.Int64 // how many are still to be left
	left     atomic.Int64

	mu    sync.Mutex
	conns []net.Conn
}

func newGateway(t *testing.T, target string) *gateway {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := &gateway{listener: listener}
	t.Cleanup(r.end)
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			r.keep(in)
			if r.silent.Add(-1) >= 0 {
				r.left.Add(1)
				continue
			}
			out, err := net.Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			r.keep(out)
			go pass(in, out)
			go pass(out, in)
		}
	}()
	return r
}

func (r *gateway) keep(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conns = append(r.conns, c)
}

func pass(from, to net.Conn) {
	_, _ = io.Copy(to, from)
	_ = from.Close()
	_ = to.Close()
}

func (r *gateway) end() {
	_ = r.listener.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
}

// through opens a pool through a gateway to the world's database, which keeps no connection that is not in use.
func through(t *testing.T, w *world.World) (*gateway, *sqlx.DB, *raceproof.DB) {
	r := newGateway(t, databases.Address(t, w.Fresh.DSN(databases.Options{})))
	pool := w.Fresh.Open(databases.Options{Address: r.listener.Addr().String()})
	pool.SetMaxIdleConns(-1)
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return r, pool, db
}

// One who connects for a renewal and has no answer tries again while there is time.
func TestConnectionIsNotAnswered(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		r, pool, db := through(t, w)
		l, err := lease.TryAcquire(minute(t), db, "a", &lease.Options{TTL: 3 * time.Second})
		require.NoError(t, err)
		world.Until(t, "no connection is kept", func() bool { return pool.Stats().OpenConnections == 0 })
		r.silent.Store(1)
		world.Until(t, "one has no answer", func() bool { return r.left.Load() == 1 })
		before := number(t, w, `SELECT renewals FROM raceproof_lease`)
		world.Until(t, "it is renewed", func() bool { return number(t, w, `SELECT renewals FROM raceproof_lease`) > before })
		require.NoError(t, l.Context().Err())
		require.NoError(t, l.Release(minute(t)))
	}, onServers...)
}

// If the server is gone Release says so, also to one whose context cannot end.
func TestReleaseWithoutServer(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		r, pool, db := through(t, w)
		pool.SetMaxIdleConns(1) // so that Release finds one that is dead, and cannot tell what has become of its statement
		l, err := lease.TryAcquire(minute(t), db, "a", &lease.Options{TTL: time.Hour, Manual: true})
		require.NoError(t, err)
		world.Until(t, "the connection is back", func() bool { return pool.Stats().Idle == 1 })
		r.end()
		done := make(chan error, 1)
		go func() { done <- l.Release(context.WithoutCancel(t.Context())) }()
		select {
		case err := <-done:
			assert.Error(t, err)
			assert.NotErrorIs(t, err, raceproof.ErrLeaseLost)
		case <-time.After(time.Minute):
			require.Fail(t, "it waits for as long as the lease lasts")
		}
	}, onServers...)
}
