// Package search decides which schedules are run, and in which order. It knows actors by number and statements by what
// they may touch, and nothing of databases.
package search

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// A Class is what a statement may do to those of other actors. Two that commute can be exchanged where they follow each
// other, and nobody can tell.
type Class int

// The classes, from the one that commutes with all. A Read commutes with Local and Read, a Write only with Local.
const (
	Local Class = iota
	Read
	Write
)

// An Op is a statement that an actor is about to send.
type Op struct {
	Class Class
	Text  string // what it must be again under the same schedule
}

// A clock says for each actor how many of its events happened before, or are the event itself.
type clock []uint16

func (c clock) join(other clock) {
	for i, n := range other {
		c[i] = max(c[i], n)
	}
}

// A key names an event together with all that had to happen before it, or, as a sum over its events, a trace: it is equal
// for the orders of the same events that differ only in the order of events that commute. Such orders lead to the same
// state (Mazurkiewicz).
type key [2]uint64

func (k key) plus(other key) key { return key{k[0] + other[0], k[1] + other[1]} }

// A trace is what has happened, without the order of what commutes. It does not change.
type trace struct {
	key    key
	actors []part // of each actor, its last event
	writes part   // all writes together
	reads  part   // all reads together
}

type part struct {
	key   key
	clock clock
}

func newTrace(actors int) *trace {
	t := &trace{actors: make([]part, actors), writes: part{clock: make(clock, actors)}, reads: part{clock: make(clock, actors)}}
	for i := range t.actors {
		t.actors[i] = part{key{0, uint64(i)}, make(clock, actors)} // none
	}
	return t
}

// then returns the trace after one more event.
func (t *trace) then(actor int, op Op) *trace {
	event := part{clock: slices.Clone(t.actors[actor].clock)}
	event.clock[actor]++
	past := []key{t.actors[actor].key, {}, {}}
	if op.Class != Local {
		event.clock.join(t.writes.clock)
		past[1] = t.writes.key
	}
	if op.Class == Write {
		event.clock.join(t.reads.clock)
		past[2] = t.reads.key
	}
	event.key = hash(actor, op, past)
	next := &trace{t.key.plus(event.key), slices.Clone(t.actors), t.writes, t.reads}
	next.actors[actor] = event
	switch op.Class {
	case Write:
		next.writes = t.writes.plus(event)
	case Read:
		next.reads = t.reads.plus(event)
	}
	return next
}

func (p part) plus(event part) part {
	sum := part{p.key.plus(event.key), slices.Clone(p.clock)}
	sum.clock.join(event.clock)
	return sum
}

func hash(actor int, op Op, past []key) key {
	b := []byte{byte(actor), byte(op.Class)}
	for _, k := range past {
		b = binary.BigEndian.AppendUint64(b, k[0])
		b = binary.BigEndian.AppendUint64(b, k[1])
	}
	sum := sha256.Sum256(append(b, op.Text...))
	return key{binary.BigEndian.Uint64(sum[:]), binary.BigEndian.Uint64(sum[8:])}
}
