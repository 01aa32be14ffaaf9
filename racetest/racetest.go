// Package racetest finds lost updates, and what else goes wrong between transactions, in code that talks to a database
// through database/sql: by itself, through sqlx, GORM, bun, ent, or what sqlc has generated.
//
// go test -race sees memory, not rows. [Explore] runs two or more pieces of code, the actors, again and again, each time
// with their SQL statements in another order, until it has tried every order that can make a difference, and says which
// one breaks the caller's invariant. [Hammer] loads the database for real, without an order, and checks what the callers
// were told.
//
// # How it works
//
// Each actor gets a *sql.DB of its own whose driver is wrapped: every statement, BEGIN, COMMIT and ROLLBACK waits until
// it is let go, and one goes at a time. A statement that waits for a lock is known by asking the database
// (pg_blocking_pids on PostgreSQL, the list of transactions in InnoDB's status on MariaDB and MySQL; on SQLite it is what
// is told that the database is busy), and the other actors go on meanwhile. The actors are otherwise what they are in
// production: the same code, the same driver, a real database.
//
// Orders are tried with the fewest switches first, a switch being to interrupt an actor that could have gone on. So the
// first one that fails is among the simplest that do. Orders that differ only in how reads follow each other, or, in SQLite's
// WAL, in when a statement began to wait, cannot differ in what they do; one of them is run. What a statement may do is told by
// its text: one that is not known to read only is taken for a write, and every write may touch whatever others read.
// (Iterative preemption bounding and the caching of happens-before relations are from Musuvathi and Qadeer, "Iterative
// context bounding for systematic testing of multithreaded programs", PLDI 2007; random schedules with a bound, from
// Burckhardt et al., "A randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010.)
//
// # What actors must be like
//
// An actor is called once per schedule, and must send the same statements whenever it is told the same by the database.
// (The values in them may differ: times, random keys.) All its statements come from the goroutine that it is called in.
// It ends, and leaves no transaction and no rows open. One that does otherwise fails the test, and is named. Actors share
// nothing in Go that one can wait for: such a wait is no statement, and the schedule is given up when its Patience is over.
//
// A query of a view, or of a function that bears the name of a well-known one, that writes all the same is taken for a read.
// What reaches the driver in another way is not seen: [sql.Conn.Raw] gives the connection that stands before the driver's. On
// SQLite a text of several statements, and a Prepare, are not waited with: they are told at once that the database is busy.
package racetest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"slices"
	"testing"
	"time"
)

// Actors are the pieces of code that run against each other, by name. Each gets a database handle of its own, which is
// closed when the schedule is over, and a context that ends then, or when the schedule has to be given up.
type Actors map[string]func(ctx context.Context, db *sql.DB) error

// A Scenario is what [Explore] explores.
type Scenario struct {
	// Open returns how to connect to the database: [Driver] makes one of a driver's name and a DSN. It is called once. All
	// that connect with it must see the same database; so not ":memory:".
	Open func() (driver.Connector, error)

	// Setup brings the database into the state that every schedule starts from, whatever the one before has left. It is
	// called before each. On MariaDB and MySQL let it TRUNCATE rather than DELETE: rows that were deleted leave gaps for a while,
	// whose locks can make actors wait who otherwise would not.
	Setup func(ctx context.Context, db *sql.DB) error

	// Actors are two or more. Of those that are alike to the search, it begins with the first by name.
	Actors Actors

	// MayFail tells whether an actor may return this error, because it says truly that its work was not done: a conflict, a
	// deadlock that it is not meant to retry. If it is nil, or returns false, an actor's error fails the schedule.
	MayFail func(actor string, err error) bool

	// Check returns an error if the database, after all actors have ended, is not as it should be: the invariant. It is told
	// what each actor has returned; only errors that MayFail has let pass are among that.
	Check func(ctx context.Context, db *sql.DB, returned map[string]error) error

	// Limit is how many schedules are run at the most; 0 is 10,000. A search that it ends fails, unless Partial is set.
	Limit int

	// Partial lets a search pass that Limit has ended. How many schedules it has left is in the result, and is logged.
	Partial bool

	// Random is for a search that Limit has ended: it goes on with schedules that are drawn at random. It needs Partial.
	Random Random

	// Patience is for how long nothing may happen in a schedule before it is given up: no actor comes to a statement or to its
	// end, and the database does not end a wait. 0 is 10 seconds. PostgreSQL needs a second to find a deadlock, unless its
	// deadlock_timeout says otherwise; a shorter one, in the DSN, makes schedules with deadlocks faster.
	Patience time.Duration

	// Steps is how many statements all actors together may send in one schedule before it is given up, because one of them
	// does not end; 0 is 1,000.
	Steps int

	// Report is the name of an HTML file to which the timeline is written of the schedule that fails, or that is replayed. It
	// needs nothing but itself to be looked at. "" writes none.
	Report string
}

// Random draws schedules at random after the search in order has come to its limit: an actor goes on until it ends, or
// one of the moments comes that were drawn for a switch (PCT). If a fault needs d of its statements in an order, out of k
// that n actors send, one schedule finds it with a probability of at least 1/(n·k^(d-1)).
type Random struct {
	Schedules int    // how many; 0 is none
	Seed      uint64 // the same seed draws the same schedules
	Depth     int    // d: one more than the moments drawn; 0 is 3
}

// An Option changes what Explore does with a scenario.
type Option func(*options)

type options struct {
	replay string
	gone   func(*Failure) // is told of the schedule that Check does not return from
}

// Replay makes Explore run only the schedule that a failure has printed this token for: the names of the actors, each as
// short as it can be told from the others, in the order in which they are let go. An empty token is none.
func Replay(token string) Option { return func(o *options) { o.replay = token } }

// A Result says what was explored.
type Result struct {
	Schedules  int           // that were run, those of Random included
	Random     int           // of them drawn at random
	Orders     float64       // about how many orders of statements those stand for that were not drawn: the others differ in nothing
	Left       int           // schedules known of, and not run because of Limit; each can lead to more
	Missed     int           // schedules that were not met again, because each time the database refused another actor, or let another wait
	Statements int           // sent in all schedules
	Blocked    int           // schedules in which a statement waited for a lock
	Deadlocks  int           // schedules in which actors waited for each other
	Longest    int           // steps of the longest schedule
	Elapsed    time.Duration // the time it took

	timeline string // of a schedule that was replayed
}

// Explore runs every schedule of the scenario, and fails the test with the first that breaks it: with the [Failure]'s
// text. It logs the result otherwise. A scenario that is not complete fails it as well, and so does one whose Open or Setup
// fails.
func Explore(t testing.TB, s Scenario, opts ...Option) Result {
	t.Helper()
	opts = append(slices.Clone(opts), func(o *options) { o.gone = func(f *Failure) { t.Helper(); t.Logf("racetest: %v", f) } })
	result, err := Run(t.Context(), s, opts...)
	if err != nil {
		t.Fatalf("racetest: %v", err)
	}
	t.Log(result)
	return result
}
