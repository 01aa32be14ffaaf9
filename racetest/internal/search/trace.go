// Package search decides which schedules are run, and in which order. It knows actors by number and statements by what
// they may touch, and nothing of databases.
package search

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// A Class is what a statement may do to those of other actors. Two that commute can be exchanged where they follow each
// other, and nobody can tell. A statement commutes with those of other actors that are Local; a Look also with all but a
// Define; a Read with a Look or a Read.
type Class int

// The classes, from the one that commutes with all to the one that commutes with none but the first.
const (
	Local  Class = iota
	Look         // reads how the database is made
	Read         // reads what is in it
	Write        // writes, or locks
	Define       // changes how it is made
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
	actors []part       // of each actor, its last event
	all    [Define]part // all events together of Look, Read, Write and Define
	tries  part         // all tries together
}

type part struct {
	key   key
	clock clock
	tried *Op // what is waited for, if the event is a try
}

func newTrace(actors int) *trace {
	t := &trace{actors: make([]part, actors)}
	for i := range t.actors {
		t.actors[i] = part{key: key{0, uint64(i)}, clock: make(clock, actors)} // none
	}
	t.tries.clock = make(clock, actors)
	for i := range t.all {
		t.all[i].clock = make(clock, actors)
	}
	return t
}

// before are the classes that do not commute with a class.
var before = map[Class][]Class{
	Look:   {Define},
	Read:   {Write, Define},
	Write:  {Read, Write, Define},
	Define: {Look, Read, Write, Define},
}

// then returns the trace after one more event.
func (t *trace) then(actor int, op Op) *trace {
	return t.add(actor, op, 1, nil)
}

// add adds an event, which counts if it is a choice, and is not only what comes of one, and which has those tries before it.
func (t *trace) add(actor int, op Op, choices uint16, tries []part) *trace {
	event := part{clock: slices.Clone(t.actors[actor].clock)}
	event.clock[actor] += choices
	past := []key{t.actors[actor].key}
	for _, class := range before[op.Class] {
		event.clock.join(t.all[class-1].clock)
		past = append(past, t.all[class-1].key)
	}
	for _, try := range tries {
		event.clock.join(try.clock)
		past = append(past, try.key)
	}
	event.key = hash(actor, op, past)
	next := &trace{t.key.plus(event.key), slices.Clone(t.actors), t.all, t.tries}
	next.actors[actor] = event
	if op.Class != Local {
		next.all[op.Class-1] = t.all[op.Class-1].plus(event)
	}
	return next
}

// try returns the trace after a statement that has to wait for a lock. It has an effect already: it may hold some locks,
// and who comes later for what it waits for may have to stand behind it. If the database is one where waiting is quiet, it
// has none, and nobody can tell when it began to wait, but for others that wait, whose place is before or after its own.
func (t *trace) try(actor int, op Op, quiet bool) *trace {
	event := part{clock: slices.Clone(t.actors[actor].clock), tried: &op}
	event.clock[actor]++
	event.clock.join(t.tries.clock)
	past := []key{t.actors[actor].key, t.tries.key, {1, 1}}
	if quiet {
		event.clock.join(t.all[Write-1].clock) // among them is what took the lock; for counting orders only
	} else {
		for _, class := range before[op.Class] {
			event.clock.join(t.all[class-1].clock)
			past = append(past, t.all[class-1].key)
		}
	}
	event.key = hash(actor, op, past)
	next := &trace{t.key.plus(event.key), slices.Clone(t.actors), t.all, t.tries.plus(event)}
	next.actors[actor] = event
	if op.Class != Local && !quiet {
		next.all[op.Class-1] = t.all[op.Class-1].plus(event)
	}
	return next
}

func (p part) plus(event part) part {
	sum := part{key: p.key.plus(event.key), clock: slices.Clone(p.clock)}
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
