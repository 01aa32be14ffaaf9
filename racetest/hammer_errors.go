package racetest

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrUndecided is the error of a [Load] whose Search has ended, or has filled two gigabytes with states, before it was known
// whether the history is linearizable. Fewer calls, more keys and fewer unknown outcomes make it known sooner.
var ErrUndecided = errors.New("it could not be decided whether the history is linearizable")

// NotLinearizable is the error of a [Load] if no order of the operations on one key explains what was answered.
type NotLinearizable struct {
	Key        string // which key's; "" if the load has no keys
	Operations int    // how many there are on that key, without the refused ones
	Unknown    int    // how many of them are unknown
	Prefix     int    // how many are in the longest order that was found
	State      string // what the state is after those
	Operation  string // the operation that has to come next at the latest, and that got another answer than Step gives
	Want       string // what Step answers it in that state
	Report     string // the file that the history was written to; "" if none was asked for
	ReportErr  error  // why it could not be written
}

// Error returns all of it as text.
func (e *NotLinearizable) Error() string {
	var b strings.Builder
	b.WriteString("not linearizable: no order of the ")
	fmt.Fprintf(&b, "%d operations", e.Operations)
	if e.Key != "" {
		fmt.Fprintf(&b, " on key %q", e.Key)
	}
	if e.Unknown > 0 {
		fmt.Fprintf(&b, " (%d of them unknown)", e.Unknown)
	}
	fmt.Fprintf(&b, " explains the answers\n  the longest order found has %d, and leads to the state %s", e.Prefix, e.State)
	fmt.Fprintf(&b, "\n  the first that has no place in it: %s; the answer there would be %s", e.Operation, e.Want)
	switch {
	case e.ReportErr != nil:
		fmt.Fprintf(&b, "\n  the report could not be written: %v", e.ReportErr)
	case e.Report != "":
		fmt.Fprintf(&b, "\n  report: %s", e.Report)
	}
	return b.String()
}

// Unwrap returns ReportErr.
func (e *NotLinearizable) Unwrap() error { return e.ReportErr }

// CheckError is the error of a [Load] whose Check returned one: the counted invariant does not hold.
type CheckError struct {
	Err   error  // what Check returned
	Tally string // the counts
}

// Error returns what Check returned, and the counts.
func (e *CheckError) Error() string { return fmt.Sprintf("Load.Check: %v (%s)", e.Err, e.Tally) }

// Unwrap returns Err.
func (e *CheckError) Unwrap() error { return e.Err }

// CallerError is the error of a [Load] one of whose callers has panicked, or has ended its goroutine (as t.FailNow does).
type CallerError struct {
	Caller int    // which: from 0
	Call   int    // which of its calls: from 1
	In     string // what Do was asked for
	Next   bool   // it was not in Do, but in Next
	Panic  any    // what it panicked with; nil if it ended its goroutine
	Stack  []byte // where
}

// Error says who, at what, with the stack.
func (e *CallerError) Error() string {
	at, how := "Do("+e.In+")", "ended its goroutine"
	if e.Next {
		at = "Next"
	}
	if e.Panic != nil {
		how = fmt.Sprintf("panicked: %v", e.Panic)
	}
	return fmt.Sprintf("caller %d, in its call %d, %s, %s\n%s", e.Caller, e.Call, at, how, e.Stack)
}

// Unwrap returns what the caller panicked with, if that is an error.
func (e *CallerError) Unwrap() error {
	err, _ := e.Panic.(error)
	return err
}

// StuckError is the error of a [Load] that was given up because no operation ended for as long as Patience, or that some
// caller did not end when it was given up.
type StuckError struct {
	Idle    time.Duration // for how long no operation had ended; 0 if the load was given up for another reason
	Callers []Standing    // who was in a call then
	Left    []Standing    // who still was after the context had been canceled: their goroutines go on
}

// A Standing is a caller that is in a call of Do.
type Standing struct {
	Caller int           // from 0
	Call   int           // which of its calls: from 1
	In     string        // what Do was asked for
	For    time.Duration // since when
}

// Error says which callers stand at what.
func (e *StuckError) Error() string {
	var b strings.Builder
	if e.Idle > 0 {
		fmt.Fprintf(&b, "no operation has ended for %v", e.Idle.Round(time.Millisecond))
		writeStanding(&b, e.Callers)
	}
	if len(e.Left) > 0 {
		if b.Len() > 0 {
			b.WriteString("\n")
		}
		b.WriteString("left behind, because Do does not return though its context is canceled")
		writeStanding(&b, e.Left)
	}
	return b.String()
}

func writeStanding(b *strings.Builder, callers []Standing) {
	for _, c := range callers {
		fmt.Fprintf(b, "\n  caller %d, in its call %d, Do(%s), for %v", c.Caller, c.Call, c.In, c.For.Round(time.Millisecond))
	}
}

// endedError is the error of a load whose context ended.
type endedError struct{ cause error }

func (e *endedError) Error() string { return "the load was ended: " + e.cause.Error() }
func (e *endedError) Unwrap() error { return e.cause }

// inShort returns a value as text, cut to what fits a line.
func inShort(v any) string {
	text := fmt.Sprintf("%+v", v)
	if runes := []rune(text); len(runes) > 200 {
		return string(runes[:200]) + "…"
	}
	return text
}

// orDefault returns the value, or what stands for it if it is zero.
func orDefault[T comparable](value, standard T) T {
	var zero T
	if value == zero {
		return standard
	}
	return value
}
