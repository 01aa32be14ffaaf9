package racetest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// A Load is what [Hammer] runs: callers that ask the database for one thing after the other, all at once, and what they
// ought to be told. S is the state that the operations act on, I what an operation is asked for, O what it answers.
type Load[S, I, O any] struct {
	// Open returns how to connect to the database: [Driver] makes one of a driver's name and a DSN. It is called once. All
	// that connect with it must see the same database; so not ":memory:".
	Open func() (driver.Connector, error)

	// Setup brings the database into the state that Init stands for. It is called once, before the callers start.
	Setup func(ctx context.Context, db *sql.DB) error

	Callers int    // how many call at once; 0 is 8
	Calls   int    // how many calls each makes, one after the other; 0 is 100
	Pool    int    // how many connections they share at the most, and how many are kept; 0 is as many as Callers
	Seed    uint64 // the same seed gives each caller the same inputs, if Next draws from its r alone

	// Next draws what a caller asks for next. Each caller has an r of its own, made of Seed and the caller's number; Next is
	// called by all of them at once. What it returns must not change afterwards.
	Next func(r *rand.Rand) I

	// Do is the operation. It is called by all callers at once, with the pool that they share and a context that ends when
	// the load is given up.
	Do func(ctx context.Context, db *sql.DB, in I) (O, error)

	// Unknown tells whether an error of Do leaves open if the operation was done: the connection broke at COMMIT, the context
	// ended. If it returns false, the error says that nothing was done, now or later. If Unknown is nil, every error leaves
	// it open.
	Unknown func(err error) bool

	// Init is the state before the first operation, and Step the sequential specification: what an operation makes of a state
	// and what it answers when it is alone. Step takes any state and any input, is called by several goroutines, returns the
	// same whenever it is given the same, and changes neither.
	Init S
	Step func(state S, in I) (S, O)

	// Equal tells whether two answers are the same; nil is reflect.DeepEqual. States are compared with reflect.DeepEqual, which
	// may take two states for different that mean the same: that costs time, and nothing else.
	Equal func(a, b O) bool

	// Key names what an operation acts on. Operations with different keys act on different states; each starts from Init. The
	// shorter the history of a key, the faster it is checked. If Key is nil, all act on one state.
	Key func(in I) string

	// Check returns an error if the database, after all callers have ended, is not as the answers say: the counted invariant.
	// [Tally.Bounds] helps with sums. If Check is nil, nothing is counted.
	Check func(ctx context.Context, db *sql.DB, t Tally[I, O]) error

	// Patience is for how long no operation may end before the load is given up; 0 is 30 seconds. It must be longer than the
	// database lets a statement wait for a lock, and than Do takes to retry.
	Patience time.Duration

	// Search is for how long an order of the operations may be looked for that explains the answers; 0 is 30 seconds. If there
	// is none, the longest is looked for as long again. A search ends as well when its states fill two gigabytes.
	Search time.Duration

	// Report is the name of an HTML file to which a history is written that is not linearizable, that of one key. It needs
	// nothing but itself to be looked at. "" writes none.
	Report string
}

// A Tally is what the callers of a [Load] were told.
type Tally[I, O any] struct {
	Done       int               // operations that returned no error
	Refused    int               // that returned an error which says that nothing was done
	Unknown    int               // that returned an error which leaves it open, or did not return
	Operations []Operation[I, O] // all of them, by the time of their call
	Elapsed    time.Duration     // from the first call until all callers had ended
}

// An Operation is one call of Do.
type Operation[I, O any] struct {
	Caller  int           // who called: from 0 to Callers-1
	In      I             // what was asked for
	Out     O             // what Do returned; it means nothing if there is an error
	Err     error         // what Do returned
	Unknown bool          // Err leaves open whether it was done
	Call    time.Duration // when Do was called, from the start of the load
	Return  time.Duration // when it returned; 0 if it did not
}

// Bounds adds up an amount over the operations: low and high are the least and the most that the sum can be, given that
// each unknown operation was done or was not. A refused one adds nothing. Out is nothing to go by in an unknown one.
func (t Tally[I, O]) Bounds(amount func(op Operation[I, O]) int64) (low, high int64) {
	for _, op := range t.Operations {
		switch {
		case op.Unknown:
			a := amount(op)
			low += min(a, 0)
			high += max(a, 0)
		case op.Err == nil:
			a := amount(op)
			low += a
			high += a
		}
	}
	return low, high
}

// String returns the counts.
func (t Tally[I, O]) String() string {
	return fmt.Sprintf("%d operations in %v: %d done, %d refused, %d unknown",
		len(t.Operations), t.Elapsed.Round(time.Microsecond), t.Done, t.Refused, t.Unknown)
}

// Hammer runs the load on the database, in parallel and in no order, and fails the test with what [RunLoad] finds wrong.
// It logs the tally otherwise.
//
// Other than [Explore] it proves nothing if it passes: it shows the orders that the machine happened to run. It is for
// what statements cannot show: pools that run dry, retries that starve, answers that get lost.
func Hammer[S, I, O any](t testing.TB, l Load[S, I, O]) Tally[I, O] {
	t.Helper()
	tally, err := RunLoad(t.Context(), l)
	if err != nil {
		t.Fatalf("racetest: %v", err)
	}
	t.Log(tally)
	return tally
}

// RunLoad is [Hammer] without a test. After the load it checks two things, and returns what is wrong with either or both:
//
//   - Check, the counted invariant: a [CheckError];
//   - linearizability: there is an order of the operations, in which none comes before one that had ended when it was called,
//     and in which Step gives each the answer that it got. A refused operation is left out. An unknown one has a place
//     anywhere after its call, with any answer, or none. If there is no such order: [NotLinearizable]. If Search ends before
//     one is found and before all are tried: [ErrUndecided].
//
// A load that does not come to its end is not judged; it returns a [CallerError] if a caller panicked, a [StuckError] if
// none got on, and what the context ended with if it did. A load that is not complete returns an error that names the field,
// and nothing is run. So do errors of Open and Setup. The tally is of all operations, in any case.
//
// When RunLoad returns, its goroutines have ended and the pool is closed, except for a Do that ignores its context.
//
// What the search costs depends on the unknown operations: each may double what there is to try, and those that ask for the
// same count little. A history of 800 operations by 8 callers took 2 ms if none was unknown, 0.2 s if up to 200 were that
// asked for the same, 0.05 s if 64 asked for different things, 1.6 s if 80 did, and could not be decided if 100 did. If a
// history is not linearizable everything has to be tried: 32 that asked for different things took 0.3 s, 64 were too many.
func RunLoad[S, I, O any](ctx context.Context, l Load[S, I, O]) (tally Tally[I, O], err error) {
	if err := l.complete(); err != nil {
		return tally, err
	}
	l = l.withDefaults()
	connector, err := l.Open()
	if err != nil {
		return tally, fmt.Errorf("Load.Open: %w", err)
	}
	if connector == nil {
		return tally, errors.New("Load.Open returned no connector")
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(l.Pool)
	db.SetMaxIdleConns(l.Pool)
	defer func() {
		if closing := db.Close(); closing != nil {
			err = errors.Join(err, fmt.Errorf("closing the database: %w", closing))
		}
	}()
	if err := l.Setup(ctx, db); err != nil {
		return tally, fmt.Errorf("Load.Setup: %w", err)
	}
	if tally, err = runCallers(ctx, db, l); err != nil {
		return tally, err
	}
	if l.Check != nil {
		if broken := l.Check(ctx, db, tally); broken != nil {
			err = &CheckError{Err: broken, Tally: tally.String()}
		}
	}
	return tally, errors.Join(err, judge(l, tally))
}

// complete returns an error that names what is missing or wrong.
func (l Load[S, I, O]) complete() error {
	missing := []struct {
		field string
		isNil bool
	}{
		{"Load.Open", l.Open == nil}, {"Load.Setup", l.Setup == nil}, {"Load.Next", l.Next == nil},
		{"Load.Do", l.Do == nil}, {"Load.Step", l.Step == nil},
	}
	for _, m := range missing {
		if m.isNil {
			return fmt.Errorf("%s is nil", m.field)
		}
	}
	negative := []struct {
		field string
		is    bool
		value any
	}{
		{"Load.Callers", l.Callers < 0, l.Callers}, {"Load.Calls", l.Calls < 0, l.Calls}, {"Load.Pool", l.Pool < 0, l.Pool},
		{"Load.Patience", l.Patience < 0, l.Patience}, {"Load.Search", l.Search < 0, l.Search},
	}
	for _, n := range negative {
		if n.is {
			return fmt.Errorf("%s is %v: it must not be negative", n.field, n.value)
		}
	}
	return nil
}

// withDefaults returns the load with what stands for its zeros.
func (l Load[S, I, O]) withDefaults() Load[S, I, O] {
	l.Callers = orDefault(l.Callers, 8)
	l.Calls = orDefault(l.Calls, 100)
	l.Pool = orDefault(l.Pool, l.Callers)
	l.Patience = orDefault(l.Patience, 30*time.Second)
	l.Search = orDefault(l.Search, 30*time.Second)
	if l.Unknown == nil {
		l.Unknown = func(error) bool { return true }
	}
	if l.Equal == nil {
		l.Equal = func(a, b O) bool { return reflect.DeepEqual(a, b) }
	}
	if l.Key == nil {
		l.Key = func(I) string { return "" }
	}
	return l
}
