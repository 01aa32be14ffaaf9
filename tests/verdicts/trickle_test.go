package verdicts_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// A trickle is a network that falls silent in the middle of an answer: it passes so many bytes more on to the clients, and
// then none, while all connections stay open.
type trickle struct {
	target   string
	listener net.Listener
	dry      atomic.Bool  // whether left counts
	left     atomic.Int64 // bytes
	running  sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
}

func newTrickle(t *testing.T, target string) *trickle {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	x := &trickle{target: target, listener: listener}
	x.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			x.running.Go(func() { x.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		x.cut()
		x.running.Wait()
	})
	return x
}

// pass lets so many bytes pass from now on, of all connections together.
func (x *trickle) pass(bytes int64) {
	x.left.Store(bytes)
	x.dry.Store(true)
}

// flow lets everything pass again on connections that are made from now on.
func (x *trickle) flow() { x.dry.Store(false) }

// cut closes all connections.
func (x *trickle) cut() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.conns {
		_ = c.Close()
	}
	x.conns = nil
}

func (x *trickle) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := net.Dial("tcp", x.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	x.mu.Lock()
	x.conns = append(x.conns, client, server)
	x.mu.Unlock()
	gone := make(chan struct{})
	x.running.Go(func() {
		defer close(gone)
		_, _ = io.Copy(server, client)
		_ = server.Close() // the server notices that its client has gone
	})
	for buffer := make([]byte, 4096); ; {
		n, err := server.Read(buffer)
		if err != nil {
			return
		}
		if x.dry.Load() && x.left.Add(-int64(n)) < 0 {
			<-gone // silent until the client gives up
			return
		}
		if _, err := client.Write(buffer[:n]); err != nil {
			return
		}
	}
}
