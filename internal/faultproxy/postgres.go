package faultproxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
)

// postgres follows the protocol of https://www.postgresql.org/docs/current/protocol.html. A group is the messages up to
// and with a Query or a Sync: the server ends the answer to each with ReadyForQuery, and only then what was executed in
// it is committed, unless a transaction is open. The start of the connection is group 0.
type postgres struct {
	started  bool              // the client's start message, which has no type, is over
	group    int               // the one that the client is sending
	answered int               // how many groups the server has answered
	texts    map[string]string // of prepared statements, by their names
	portals  map[string]string // texts of statements that are bound, by the portals' names
}

// The codes of messages without a type that ask for encryption, which is refused with an N.
const (
	sslRequest    = 80877103
	gssEncRequest = 80877104
)

func (w *postgres) readRequest(in *bufio.Reader) ([]byte, error) {
	if !w.started {
		return take(in, 8, func(h []byte) int { return int(binary.BigEndian.Uint32(h)) })
	}
	return w.readReply(in)
}

func (w *postgres) readReply(in *bufio.Reader) ([]byte, error) {
	return take(in, 5, func(h []byte) int { return 1 + int(binary.BigEndian.Uint32(h[1:])) })
}

func (w *postgres) request(message []byte) request {
	if !w.started {
		switch binary.BigEndian.Uint32(message[4:]) {
		case sslRequest, gssEncRequest:
			return request{refusal: []byte("N")}
		}
		w.started = true // or it asks to cancel a statement, and nothing follows
		return request{}
	}
	q := request{number: w.group}
	kind, first, second := message[0], "", ""
	if strings := bytes.SplitN(message[5:], []byte{0}, 3); len(strings) > 2 {
		first, second = string(strings[0]), string(strings[1])
	} else {
		first = string(strings[0])
	}
	switch kind {
	case 'P': // Parse
		w.texts[first] = second
	case 'B': // Bind
		w.portals[first] = w.texts[second]
	case 'E': // Execute
		q.executes, q.text = true, w.portals[first]
	case 'Q': // Query
		q.executes, q.text = true, first
		w.group++
	case 'S', 'F': // Sync, FunctionCall
		w.group++
	}
	return q
}

func (w *postgres) reply(message []byte) (number int, complete bool) {
	number = w.answered
	if message[0] == 'Z' { // ReadyForQuery
		w.answered++
		return number, true
	}
	return number, false
}
