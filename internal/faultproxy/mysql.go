package faultproxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
)

// mysql follows the protocol of https://mariadb.com/docs/server/reference/clientserver-protocol. A client sends one
// command and waits for its answer, so the answer that comes is that of the last command.
type mysql struct {
	greeted bool
	command int               // how many there were
	kind    byte              // the last one's
	text    string            // the last one's
	texts   map[uint32]string // of prepared statements, by the ids that the server gave them
	begun   bool              // the answer's first packet has come
	ends    int               // how many EOF packets are to come until the answer is complete
}

// Commands.
const (
	comQuery       = 0x03
	comStmtPrepare = 0x16
	comStmtExecute = 0x17
)

// What the first byte of a server's packet says. An EOF packet is short: rows may begin with the same byte.
const (
	isOK  = 0x00
	isEOF = 0xfe
	isErr = 0xff
)

func (w *mysql) readRequest(in *bufio.Reader) ([]byte, error) {
	return take(in, 4, func(h []byte) int { return 4 + (int(h[0]) | int(h[1])<<8 | int(h[2])<<16) })
}

func (w *mysql) readReply(in *bufio.Reader) ([]byte, error) { return w.readRequest(in) }

func (w *mysql) request(message []byte) request {
	payload := message[4:]
	if message[3] != 0 || len(payload) == 0 {
		return request{number: w.command} // part of something that is not over, such as the login
	}
	w.command++
	w.kind, w.text, w.begun, w.ends = payload[0], "", false, 0
	q := request{number: w.command}
	switch w.kind {
	case comStmtPrepare:
		w.text = string(payload[1:])
	case comQuery:
		q.executes, q.text = true, string(payload[1:])
	case comStmtExecute:
		if len(payload) >= 5 {
			q.executes, q.text = true, w.texts[binary.LittleEndian.Uint32(payload[1:])]
		}
	}
	return q
}

func (w *mysql) reply(message []byte) (number int, complete bool) {
	payload := message[4:]
	switch {
	case !w.greeted:
		w.greeted = true
		plain(payload)
	case len(payload) == 0:
	case w.kind == comStmtPrepare:
		complete = w.prepared(payload)
	case w.kind == comQuery, w.kind == comStmtExecute:
		complete = w.result(payload)
	}
	return w.command, complete
}

// prepared follows the answer to COM_STMT_PREPARE: the statement's id, and definitions of its parameters and columns.
func (w *mysql) prepared(payload []byte) (complete bool) {
	switch {
	case payload[0] == isErr:
		return true
	case !w.begun && len(payload) >= 9:
		w.begun = true
		w.texts[binary.LittleEndian.Uint32(payload[1:])] = w.text
		for _, n := range [][]byte{payload[5:7], payload[7:9]} {
			if binary.LittleEndian.Uint16(n) > 0 {
				w.ends++
			}
		}
	case payload[0] == isEOF && len(payload) < 9:
		w.ends--
	}
	return w.ends == 0
}

// result follows the answer to a statement: an OK packet, or definitions of columns and rows, each ended by an EOF
// packet. Several of them may follow each other.
func (w *mysql) result(payload []byte) (complete bool) {
	var status []byte
	switch {
	case payload[0] == isErr:
		return true
	case !w.begun && payload[0] == isOK:
		status = skipNumber(skipNumber(payload[1:]))
	case !w.begun:
		w.begun, w.ends = true, 2
		return false
	case payload[0] == isEOF && len(payload) < 9:
		if w.ends--; w.ends > 0 {
			return false
		}
		status = payload[min(3, len(payload)):]
	default:
		return false
	}
	w.begun = false
	const moreResults = 0x08
	return len(status) < 2 || status[0]&moreResults == 0
}

// skipNumber skips a number of one to nine bytes.
func skipNumber(b []byte) []byte {
	n := 1
	if len(b) > 0 {
		switch b[0] {
		case 0xfc:
			n = 3
		case 0xfd:
			n = 4
		case 0xfe:
			n = 9
		}
	}
	return b[min(n, len(b)):]
}

// plain takes from the server's greeting the abilities that a client would use to make the rest harder to read:
// compression, TLS, answers without EOF packets or without column definitions, attributes in front of a query's text,
// and all that MariaDB adds to MySQL's.
func plain(greeting []byte) {
	version := bytes.IndexByte(greeting, 0)
	low := version + 1 + 4 + 8 + 1 // behind the connection's id, the first part of the challenge and a zero
	if version < 0 || greeting[0] == isErr || len(greeting) < low+18 {
		return
	}
	greeting[low] &^= 0x20           // compression
	greeting[low+1] &^= 0x08         // TLS
	greeting[low+6] &^= 0x0f         // bits 24 to 27
	clear(greeting[low+14 : low+18]) // MariaDB's
}
