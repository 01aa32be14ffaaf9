package faultproxy_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/faultproxy"
)

// A peer speaks for one side of a connection, in bytes. It gives up after a minute.
type peer struct {
	t *testing.T
	net.Conn
}

func newPeer(t *testing.T, conn net.Conn) peer {
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	return peer{t, conn}
}

func (p peer) send(bytes ...string) {
	for _, b := range bytes {
		_, err := io.WriteString(p.Conn, b)
		require.NoError(p.t, err)
	}
}

func (p peer) expect(bytes ...string) {
	p.t.Helper()
	for _, want := range bytes {
		got := make([]byte, len(want))
		_, err := io.ReadFull(p.Conn, got)
		require.NoError(p.t, err)
		require.Equal(p.t, want, string(got))
	}
}

// expectEnd expects nothing more: a reset, or else the connection's orderly end.
func (p peer) expectEnd(reset bool) {
	p.t.Helper()
	n, err := p.Read(make([]byte, 1))
	assert.Zero(p.t, n)
	if reset {
		assert.ErrorContains(p.t, err, "reset")
	} else {
		assert.Equal(p.t, io.EOF, err)
	}
}

// connect starts a proxy and returns both ends of a connection through it.
func connect(t *testing.T, protocol faultproxy.Protocol) (proxy *faultproxy.Proxy, client, server peer) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	proxy = faultproxy.New(t, protocol, listener.Addr().String())
	c, err := net.Dial("tcp", proxy.Addr())
	require.NoError(t, err)
	s, err := listener.Accept()
	require.NoError(t, err)
	return proxy, newPeer(t, c), newPeer(t, s)
}

var (
	commit = faultproxy.Prefix("COMMIT")
	update = faultproxy.Contains("update")
	all    = faultproxy.Contains("")
)

// Each action, on a simple query of each protocol.
func TestActions(t *testing.T) {
	for _, p := range []struct {
		faultproxy.Protocol
		begin         func(client, server peer)
		query, answer string
	}{
		{faultproxy.PostgreSQL, beginPostgres, pg('Q', "COMMIT\x00"), pg('C', "COMMIT\x00") + ready},
		{faultproxy.MySQL, beginMySQL, my(0, "\x03COMMIT"), my(1, ok)},
	} {
		half := len(p.answer) / 2
		start := func(t *testing.T, action faultproxy.Action) (*faultproxy.Proxy, *faultproxy.Rule, peer, peer) {
			proxy, client, server := connect(t, p.Protocol)
			p.begin(client, server)
			rule := proxy.On(commit, 1, action)
			client.send(p.query)
			return proxy, rule, client, server
		}
		t.Run(p.String(), func(t *testing.T) {
			t.Run("drop", func(t *testing.T) {
				proxy, rule, client, server := start(t, faultproxy.Drop())
				server.expect(p.query)
				server.send(p.answer[:half])
				select {
				case <-rule.Answered():
					t.Error("half an answer is none")
				default:
				}
				server.send(p.answer[half:])
				client.expectEnd(true)
				<-rule.Answered()
				server.expectEnd(false)
				assert.Equal(t, 1, rule.Fired())
				assert.Equal(t, 1, proxy.Executed(commit))
			})
			t.Run("cut", func(t *testing.T) {
				proxy, rule, client, server := start(t, faultproxy.Cut())
				client.expectEnd(true)
				server.expectEnd(false)
				assert.Equal(t, 1, rule.Fired())
				assert.Zero(t, proxy.Executed(commit))
			})
			t.Run("withhold and release", func(t *testing.T) {
				_, rule, client, server := start(t, faultproxy.Withhold())
				server.expect(p.query)
				server.send(p.answer)
				<-rule.Answered()
				rule.Release()
				client.expect(p.answer)
			})
			t.Run("withhold and lose", func(t *testing.T) {
				_, rule, client, server := start(t, faultproxy.Withhold())
				server.expect(p.query)
				server.send(p.answer)
				<-rule.Answered()
				rule.Lose()
				client.expectEnd(true)
			})
			t.Run("withhold and leave", func(t *testing.T) {
				_, rule, client, server := start(t, faultproxy.Withhold())
				server.expect(p.query)
				server.send(p.answer)
				<-rule.Answered()
				require.NoError(t, client.Close())
				server.expectEnd(false)
			})
			t.Run("withhold and close", func(t *testing.T) {
				proxy, rule, client, server := start(t, faultproxy.Withhold())
				server.expect(p.query)
				server.send(p.answer)
				<-rule.Answered()
				proxy.Close() // returns, though the answer is still withheld
				_, err := client.Read(make([]byte, 1))
				assert.Error(t, err)
				server.expectEnd(false)
				_, err = net.Dial("tcp", proxy.Addr())
				assert.Error(t, err)
			})
			t.Run("delay", func(t *testing.T) {
				const delay = 50 * time.Millisecond
				_, _, client, server := start(t, faultproxy.Delay(delay))
				server.expect(p.query)
				began := time.Now()
				server.send(p.answer)
				client.expect(p.answer)
				assert.GreaterOrEqual(t, time.Since(began), delay)
			})
			t.Run("once", func(t *testing.T) {
				proxy, rule, client, server := start(t, faultproxy.Delay(1))
				never := proxy.On(update, 1, faultproxy.Cut())
				for range 3 {
					server.expect(p.query)
					server.send(p.answer)
					client.expect(p.answer)
					client.send(p.query)
				}
				server.expect(p.query)
				assert.Equal(t, 4, proxy.Executed(commit))
				assert.Zero(t, proxy.Executed(update))
				assert.Equal(t, 1, rule.Fired())
				assert.Zero(t, never.Fired())
			})
			t.Run("the server goes", func(t *testing.T) {
				_, rule, client, server := start(t, faultproxy.Drop())
				server.expect(p.query)
				require.NoError(t, server.Close())
				client.expectEnd(false)
				select {
				case <-rule.Answered():
					t.Error("there was no answer")
				default:
				}
			})
		})
	}
}

func TestNoServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	proxy := faultproxy.New(t, faultproxy.MySQL, listener.Addr().String())
	require.NoError(t, listener.Close())
	conn, err := net.Dial("tcp", proxy.Addr())
	require.NoError(t, err)
	newPeer(t, conn).expectEnd(false)
}
