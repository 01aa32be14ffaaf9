package hermitage_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// rows are the rows of a table, the value by the id.
type rows map[int]int

func (r rows) String() string {
	if len(r) == 0 {
		return "none"
	}
	var all []string
	for _, id := range slices.Sorted(maps.Keys(r)) {
		all = append(all, fmt.Sprintf("%d=%d", id, r[id]))
	}
	return strings.Join(all, " ")
}

// holds tells whether one of the rows has one of the values.
func (r rows) holds(values ...int) bool {
	for _, v := range r {
		if slices.Contains(values, v) {
			return true
		}
	}
	return false
}

// An event is what came of a step.
type event struct {
	step
	waited, late bool

	done  bool
	found rows   // of a query
	wrote int64  // rows, by a statement that is no query
	code  string // the error it was refused with
	err   error  // one that has no code: the run has failed
}

// query tells whether the step finds rows.
func (s step) query() bool { return strings.HasPrefix(s.what, "SELECT") }

// String is the event in the words of a script.
func (e *event) String() string {
	if !e.done {
		return "-"
	}
	var words []string
	if e.late {
		words = append(words, "late")
	}
	if e.waited {
		words = append(words, "waits")
	}
	switch {
	case e.code != "":
		words = append(words, e.code)
	case e.query():
		words = append(words, e.found.String())
	case e.what == "BEGIN" || e.what == "COMMIT" || e.what == "ROLLBACK":
		words = append(words, "ok")
	default:
		words = append(words, fmt.Sprint("wrote ", e.wrote))
	}
	return strings.Join(words, ", ")
}

// A history is what came of all steps of a scenario at one level.
type history struct {
	events   []*event // in the order of the script
	final    rows     // the table afterwards
	timeline []string // what each session did and saw, in the order it came about
}

func (h *history) note(format string, args ...any) {
	h.timeline = append(h.timeline, fmt.Sprintf(format, args...))
}

// committed tells whether all of these transactions were.
func (h *history) committed(sessions ...string) bool {
	n := 0
	for _, e := range h.events {
		if e.what == "COMMIT" && e.done && e.code == "" && slices.Contains(sessions, e.session) {
			n++
		}
	}
	return n == len(sessions)
}

// saw is what each query of a session has found.
func (h *history) saw(session string) (all []rows) {
	for _, e := range h.events {
		if e.session == session && e.query() && e.done && e.code == "" {
			all = append(all, e.found)
		}
	}
	return all
}

// codes are the errors that transactions were refused with.
func (h *history) codes() string {
	var all []string
	for _, e := range h.events {
		if e.code != "" && !slices.Contains(all, e.code) {
			all = append(all, e.code)
		}
	}
	return strings.Join(all, " ")
}
