// Package faultproxy stands between a client and a database server, counts what the server is asked to execute, and
// loses the answers that a test tells it to lose.
//
// It reads as much of the protocols of PostgreSQL (version 3) and MySQL as it takes to know the text of a statement,
// prepared or not, and when its answer is complete. What it cannot read it refuses or leaves alone: connections are not
// encrypted (PostgreSQL clients are told that the server has no TLS, MySQL clients that it has neither TLS nor
// compression), messages are shorter than 16 MB, and no rule may match a COPY, a LOAD DATA LOCAL, a statement of a
// PostgreSQL client that asks for its answer with Flush, or of a MySQL client that sends a command before the last one
// is answered.
package faultproxy

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
)

// A Protocol is what the client and the server speak.
type Protocol int

// The protocols. MariaDB speaks MySQL's.
const (
	PostgreSQL Protocol = iota
	MySQL
)

func (p Protocol) String() string { return [...]string{"PostgreSQL", "MySQL"}[p] }

func (p Protocol) wire() wire {
	if p == MySQL {
		return &mysql{texts: map[uint32]string{}}
	}
	return &postgres{group: 1, texts: map[string]string{}, portals: map[string]string{}}
}

// A Proxy forwards every connection made to it to one server. It is safe for concurrent use.
type Proxy struct {
	tb       testing.TB
	protocol Protocol
	target   string
	listener net.Listener
	ctx      context.Context // ends with Close
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu       sync.Mutex
	executed []string
	rules    []*Rule
}

// New starts a proxy for the server at the address target, until the test ends.
func New(tb testing.TB, protocol Protocol, target string) *Proxy {
	tb.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Proxy{tb: tb, protocol: protocol, target: target, listener: listener, ctx: ctx, cancel: cancel}
	p.running.Go(p.accept)
	tb.Cleanup(p.Close)
	return p
}

// Addr returns the address to connect to, as host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close closes every connection and waits until nothing of the proxy runs any more.
func (p *Proxy) Close() {
	p.cancel()
	_ = p.listener.Close()
	p.running.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.serve(client) })
	}
}

// Executed returns how many of the statements that match the server was asked to execute: they were handed to its
// connection, whether it answered or not. A prepared statement counts every time it is executed, and not for being
// prepared. Several statements in one text are one.
func (p *Proxy) Executed(match func(text string) bool) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range p.executed {
		if match(text) {
			n++
		}
	}
	return n
}

// execute finds the rule for a statement that is about to be forwarded, if there is one, and counts the statement.
func (p *Proxy) execute(text string) *Rule {
	p.mu.Lock()
	defer p.mu.Unlock()
	var rule *Rule
	for _, r := range p.rules {
		if r.left > 0 && r.match(text) {
			rule = r
			r.left--
			r.fired++
			break
		}
	}
	if rule == nil || !rule.action.cut {
		p.executed = append(p.executed, text)
	}
	return rule
}

// Contains matches texts that contain a part, in upper or lower case.
func Contains(part string) func(text string) bool {
	part = strings.ToLower(part)
	return func(text string) bool { return strings.Contains(strings.ToLower(text), part) }
}

// Prefix matches texts that begin so, in upper or lower case: Prefix("INSERT").
func Prefix(start string) func(text string) bool {
	start = strings.ToLower(start)
	return func(text string) bool { return strings.HasPrefix(strings.ToLower(strings.TrimSpace(text)), start) }
}
