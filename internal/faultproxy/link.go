package faultproxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// A wire follows the messages of one connection in its protocol. The methods that read are called by one goroutine
// each, and request and reply never at the same time.
type wire interface {
	readRequest(*bufio.Reader) ([]byte, error)
	readReply(*bufio.Reader) ([]byte, error)
	// request looks at a message of the client.
	request(message []byte) request
	// reply looks at a message of the server, which it may change: it belongs to the answer with the number, and may
	// complete it.
	reply(message []byte) (number int, complete bool)
}

// A request is what is to be known of a message of the client.
type request struct {
	number   int    // of the answer that will contain the message's own
	executes bool   // it has a statement executed
	text     string // the statement
	refusal  []byte // if not nil, it is answered so and not forwarded
}

// A link is a client's connection and the one to the server that was made for it.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	ctx            context.Context // ends when either connection is to be closed
	end            context.CancelFunc

	mu    sync.Mutex
	wire  wire
	rules map[int][]*Rule // of the answers to come, by their numbers
}

func (p *Proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	ctx, end := context.WithCancel(p.ctx)
	defer end()
	server, err := new(net.Dialer).DialContext(ctx, "tcp", p.target)
	if err != nil {
		if ctx.Err() == nil {
			p.tb.Logf("faultproxy: %v", err)
		}
		return
	}
	l := &link{proxy: p, client: client, server: server, ctx: ctx, end: end, wire: p.protocol.wire(), rules: map[int][]*Rule{}}
	var directions sync.WaitGroup
	for _, forward := range []func() error{l.requests, l.replies} {
		directions.Go(func() {
			defer end()
			if err := forward(); errors.Is(err, errTooLong) {
				p.tb.Errorf("faultproxy: %v", err)
			}
		})
	}
	<-ctx.Done()
	_ = client.Close()
	_ = server.Close()
	directions.Wait()
}

// requests forwards what the client sends, until it is gone or cut off.
func (l *link) requests() error {
	for in := bufio.NewReader(l.client); ; {
		message, err := l.wire.readRequest(in)
		if err != nil {
			return err
		}
		to := l.server
		cut, refusal := l.request(message)
		switch {
		case cut:
			l.reset()
			return nil
		case refusal != nil:
			to, message = l.client, refusal
		}
		if _, err := to.Write(message); err != nil {
			return err
		}
	}
}

func (l *link) request(message []byte) (cut bool, refusal []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	q := l.wire.request(message)
	if q.executes {
		if rule := l.proxy.execute(q.text); rule != nil {
			cut = rule.action.cut
			l.rules[q.number] = append(l.rules[q.number], rule)
		}
	}
	return cut, q.refusal
}

// replies forwards what the server sends, but for the answers that rules keep back.
func (l *link) replies() error {
	var kept []byte
	for in := bufio.NewReader(l.server); ; {
		message, err := l.wire.readReply(in)
		if err != nil {
			return err
		}
		rules, complete := l.reply(message)
		if len(rules) > 0 {
			kept = append(kept, message...)
			if !complete {
				continue
			}
			for _, r := range rules {
				if !r.passes(l.ctx) {
					l.reset()
					return nil
				}
			}
			message, kept = kept, nil
		}
		if _, err := l.client.Write(message); err != nil {
			return err
		}
	}
}

func (l *link) reply(message []byte) (rules []*Rule, complete bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	number, complete := l.wire.reply(message)
	rules = l.rules[number]
	if complete {
		delete(l.rules, number)
	}
	return rules, complete
}

// reset makes the end of the link a reset of the client's connection, as if the network had failed, and not an end of
// what the server had to say.
func (l *link) reset() {
	if tcp, ok := l.client.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}

const maxMessage = 1 << 24

var errTooLong = errors.New("a message is too long")

// take reads a message, header included, whose size can be told from its header.
func take(in *bufio.Reader, header int, size func([]byte) int) ([]byte, error) {
	h, err := in.Peek(header)
	if err != nil {
		return nil, err
	}
	n := size(h)
	if n < header {
		return nil, fmt.Errorf("a message of %d bytes cannot be", n)
	}
	if n > maxMessage {
		return nil, fmt.Errorf("%w: %d bytes", errTooLong, n)
	}
	message := make([]byte, n)
	_, err = io.ReadFull(in, message)
	return message, err
}
