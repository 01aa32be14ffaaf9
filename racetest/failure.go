package racetest

import (
	"fmt"
	"strings"
	"time"
)

// A Kind says what is wrong in a [Failure].
type Kind string

// The kinds of failures.
const (
	Invariant        Kind = "invariant"         // Check has returned an error
	ActorFailed      Kind = "actor failed"      // an actor has returned an error that MayFail does not let pass
	Deadlock         Kind = "deadlock"          // the actors waited for each other, or one was refused because they would have
	Panic            Kind = "panic"             // an actor has panicked, or has ended its goroutine (as t.FailNow does)
	NoEnd            Kind = "no end"            // an actor came neither to a statement nor to its end, or sent too many
	Leak             Kind = "leak"              // an actor left a transaction or rows open
	ForeignGoroutine Kind = "foreign goroutine" // an actor sent a statement from another goroutine than its own
	NotDeterministic Kind = "not deterministic" // an actor sent another statement than before under the same schedule
)

// A Failure is the error of a schedule that breaks the scenario. Its text is the timeline, what is wrong, and the token
// to replay it with.
type Failure struct {
	Kind      Kind
	Actor     string   // whose fault it is, if it is one's
	Err       error    // what is wrong: of Invariant what Check returned, of ActorFailed and Deadlock what the actor returned
	Actors    []string // the columns, in order
	Steps     []Step   // the timeline
	Token     string   // for [Replay]
	Schedules int      // how many were run, this one included
	Switches  int      // how often an actor was interrupted that could have gone on

	about float64 // how many orders there are
}

// A Step is a row of the timeline: one statement, BEGIN, COMMIT or ROLLBACK of one actor. Those that only set the session
// (SET, PRAGMA busy_timeout) are sent with the statement that follows, and stand in the timeline if they fail.
type Step struct {
	Actor     string
	Statement string        // with the values in it
	Result    string        // what the actor was told: the rows it has read, the number of rows affected, an error; "" if it was not told
	Failed    bool          // it was told an error
	Blocked   bool          // it waited for a lock
	WaitsFor  []string      // the actors that held it, as far as the database says; a name in parentheses is nobody's of the scenario
	Until     int           // the number of the step, from 1, after which it went on; 0 if it did not
	With      bool          // it is no choice of the schedule: it has set the session, or database/sql has rolled back by itself
	Took      time.Duration // from its start to its end; it includes waiting
}

// Error returns the timeline as text, and what is wrong.
func (f *Failure) Error() string {
	var b strings.Builder
	b.WriteString(f.timeline())
	fmt.Fprintf(&b, "  after %s of about %.0f, this one with %s: %s\n",
		counted(f.Schedules, "schedule", "schedules"), f.about, counted(f.Switches, "switch", "switches"), f.what())
	if f.Token != "" {
		fmt.Fprintf(&b, "  replay: racetest.Replay(%q)\n", f.Token)
	}
	return b.String()
}

func (f *Failure) timeline() string {
	var b strings.Builder
	b.WriteString("\n")
	writeTimeline(&b, f.Actors, f.Steps)
	return b.String()
}

// Unwrap returns Err.
func (f *Failure) Unwrap() error { return f.Err }

// what returns what is wrong, without the timeline.
func (f *Failure) what() string {
	if f.Err == nil {
		return string(f.Kind)
	}
	return f.Err.Error()
}

func counted(n int, one, more string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, more)
}
