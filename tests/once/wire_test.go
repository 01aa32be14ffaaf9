package once_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A wire is a network on which a COMMIT can be under way for long: its client is gone, and the server has not seen it yet.
type wire struct {
	target   string
	listener net.Listener

	mu   sync.Mutex
	next *held
}

// held is a COMMIT under way.
type held struct {
	there chan struct{} // closed when it is
	fate  chan bool     // whether it arrives
}

func newWire(t *testing.T, w *world.World) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	x := &wire{target: databases.Address(t, w.DSN(databases.Options{})), listener: listener}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go x.serve(client.(*net.TCPConn))
		}
	}()
	return x
}

func (x *wire) options() databases.Options {
	return databases.Options{Address: x.listener.Addr().String()}
}

// hold keeps the next COMMIT on its way until its fate is decided.
func (x *wire) hold(t *testing.T) *held {
	h := &held{there: make(chan struct{}), fate: make(chan bool, 1)}
	t.Cleanup(func() {
		select {
		case h.fate <- false:
		default:
		}
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	x.next = h
	return h
}

func (x *wire) take(message []byte) *held {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.next
	if h != nil && bytes.Contains(message, []byte("COMMIT")) {
		x.next = nil
		return h
	}
	return nil
}

func (x *wire) serve(client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	conn, err := net.Dial("tcp", x.target)
	if err != nil {
		return
	}
	server := conn.(*net.TCPConn)
	go func() {
		_, _ = io.Copy(client, server)
		_ = client.Close()
		_, _ = io.Copy(io.Discard, server) // what is not read would make the end a reset, and that overtakes a COMMIT
		_ = server.Close()
	}()
	defer func() { _ = server.CloseWrite() }()
	for buffer := make([]byte, 1<<16); ; {
		n, err := client.Read(buffer)
		if err != nil {
			return
		}
		if h := x.take(buffer[:n]); h != nil {
			close(h.there)
			if !<-h.fate {
				return
			}
		}
		if _, err := server.Write(buffer[:n]); err != nil {
			return
		}
	}
}
