package racetest_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/raceproof/raceproof/racetest"
)

// TestIncomplete wants each field named that is missing or cannot be.
func TestIncomplete(t *testing.T) {
	two := racetest.Actors{"a": add(1), "b": add(1)}
	for text, change := range map[string]func(*racetest.Scenario){
		"Open is missing":                     func(s *racetest.Scenario) { s.Open = nil },
		"Setup is missing":                    func(s *racetest.Scenario) { s.Setup = nil },
		"Check is missing":                    func(s *racetest.Scenario) { s.Check = nil },
		"Actors must be two or more":          func(s *racetest.Scenario) { s.Actors = racetest.Actors{"a": add(1)} },
		`Actors["b"] is nil`:                  func(s *racetest.Scenario) { s.Actors = racetest.Actors{"a": add(1), "b": nil} },
		`"" is no name for an actor`:          func(s *racetest.Scenario) { s.Actors = racetest.Actors{"a": add(1), "": add(1)} },
		`"a b" is no name for an actor`:       func(s *racetest.Scenario) { s.Actors = racetest.Actors{"a": add(1), "a b": add(1)} },
		`"a\n" is no name for an actor`:       func(s *racetest.Scenario) { s.Actors = racetest.Actors{"a": add(1), "a\n": add(1)} },
		`"\xff" is no name for an actor`:      func(s *racetest.Scenario) { s.Actors = racetest.Actors{"a": add(1), "\xff": add(1)} },
		"Limit is negative":                   func(s *racetest.Scenario) { s.Limit = -1 },
		"Steps is negative":                   func(s *racetest.Scenario) { s.Steps = -1 },
		"Patience is negative":                func(s *racetest.Scenario) { s.Patience = -1 },
		"Random.Schedules is negative":        func(s *racetest.Scenario) { s.Random.Schedules, s.Partial = -1, true },
		"Random.Depth is negative":            func(s *racetest.Scenario) { s.Random.Depth = -1 },
		"Random is for partial searches, and": func(s *racetest.Scenario) { s.Random.Schedules = 1 },
	} {
		s := scenario(&counted{dsn: file(t)}, two)
		change(&s)
		_, err := behave(t, s)
		assert.ErrorContains(t, err, "the scenario is not complete: "+text)
		assert.NotContains(t, err.Error(), ";", "nothing else is wrong")
	}
	_, err := behave(t, racetest.Scenario{})
	assert.EqualError(t, err, "the scenario is not complete: Open is missing; Setup is missing; Check is missing; Actors must be two or more")
}

// TestNoConnection is of databases that cannot be reached: at first, for Setup, for an actor.
func TestNoConnection(t *testing.T) {
	errNo := errors.New("no connection today")
	s := scenario(nil, racetest.Actors{"a": add(1), "b": add(1)})
	s.Open = func() (driver.Connector, error) { return nil, errNo }
	_, err := behave(t, s)
	assert.ErrorIs(t, err, errNo)
	assert.ErrorContains(t, err, "the scenario's Open: ")
	s.Open = func() (driver.Connector, error) { return nil, nil }
	_, err = behave(t, s)
	assert.EqualError(t, err, "the scenario's Open: it returned none")
	s.Open = racetest.Driver("nobody's", "")
	_, err = behave(t, s)
	assert.ErrorContains(t, err, `the scenario's Open: sql: unknown driver "nobody's"`)

	for n := range int64(6) { // a connection for Setup, one for each actor, one for Setup...
		c := &counted{dsn: file(t), refuse: func(i int64) error {
			if i > n {
				return errNo
			}
			return nil
		}}
		_, err := behave(t, scenario(c, racetest.Actors{"a": add(1), "b": add(1)}))
		require.ErrorIs(t, err, errNo)
		if n == 0 {
			assert.ErrorContains(t, err, "cannot ask what database this is")
			continue
		}
		actor := string("ba"[n%2])
		failed(t, err, racetest.ActorFailed, actor, actor+" has failed: no connection today")
	}
}

// TestSetupAndCheckGoWrong wants nothing left behind by what the caller's own functions do.
func TestSetupAndCheckGoWrong(t *testing.T) {
	errNo := errors.New("not today")
	for name, f := range map[string]func(*sql.DB) error{
		"fails": func(*sql.DB) error { return errNo },
		"loses it": func(*sql.DB) error {
			return fmt.Errorf("%w: %w", errNo, &net.OpError{Op: "read", Err: syscall.ECONNRESET})
		},
		"panics":             func(*sql.DB) error { panic("not today") },
		"keeps a connection": func(db *sql.DB) error { _, err := db.Conn(t.Context()); return err },
		"leaves rows":        func(db *sql.DB) error { _, err := db.QueryContext(t.Context(), "SELECT 1"); return err },
	} {
		for where, check := range map[string]bool{"Setup": false, "Check": true} {
			if name == "leaves rows" && !check || name == "keeps a connection" && check {
				continue // it takes its time
			}
			t.Run(where+" "+name, func(t *testing.T) {
				defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), goleak.IgnoreAnyFunction("database/sql.(*Rows).awaitDone"))
				s := scenario(&counted{dsn: file(t)}, racetest.Actors{"a": add(1), "b": add(1)})
				if check {
					s.Check = func(_ context.Context, db *sql.DB, _ map[string]error) error { return f(db) }
				} else {
					s.Setup = func(_ context.Context, db *sql.DB) error { return f(db) }
				}
				var err error
				run := func() { _, err = racetest.Run(t.Context(), s) }
				switch {
				case name == "panics":
					assert.PanicsWithValue(t, "not today", run)
					return
				case name == "fails" && check:
					run()
					failed(t, err, racetest.Invariant, "", "not today")
				case name == "fails":
					run()
					assert.EqualError(t, err, "the scenario's Setup: not today")
				case name == "loses it":
					run()
					var f *racetest.Failure
					assert.NotErrorAs(t, err, &f)
					assert.ErrorIs(t, err, errNo)
					assert.ErrorContains(t, err, "the scenario's "+where)
				default:
					run()
					assert.ErrorContains(t, err, "the scenario's "+where+": it keeps a connection")
				}
			})
		}
	}
}

// TestContextEnds wants the end of the context told as what it is, whenever it comes.
func TestContextEnds(t *testing.T) {
	errEnd := errors.New("enough")
	for _, moment := range []string{"before", "in Setup", "in an actor", "in a good actor", "in Check"} {
		t.Run(moment, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			at := func(now string) {
				if now == moment {
					cancel(errEnd)
				}
			}
			c := &counted{dsn: file(t)}
			s := scenario(c, racetest.Actors{"a": add(1), "b": with(1, func(context.Context, *sql.DB) error {
				at("in an actor")
				return nil
			}), "c": func(ctx context.Context, db *sql.DB) error {
				at("in a good actor")
				if moment == "in a good actor" {
					<-ctx.Done()
				}
				return ctx.Err()
			}})
			s.Setup = func(ctx context.Context, db *sql.DB) error { at("in Setup"); return setup(ctx, db) }
			s.Check = func(ctx context.Context, db *sql.DB, _ map[string]error) error { at("in Check"); return look(ctx, db) }
			at("before")
			_, err := racetest.Run(ctx, s)
			var f *racetest.Failure
			assert.False(t, errors.As(err, &f), "it is nobody's fault: %v", err)
			assert.True(t, errors.Is(err, errEnd) || errors.Is(err, context.Canceled), "%v", err)
			assert.Zero(t, c.open.Load())
		})
	}
}

// TestLimit wants what is left to be right, and random schedules to be the same for the same seed.
func TestLimit(t *testing.T) {
	count := func(limit int, partial bool) (racetest.Result, error) {
		s := scenario(&counted{dsn: file(t)}, racetest.Actors{"a": add(1), "b": add(2), "c": look})
		s.Limit, s.Partial = limit, partial
		return behave(t, s)
	}
	all, err := count(0, false)
	require.NoError(t, err)
	require.Greater(t, all.Schedules, 8)
	for limit := 1; limit <= all.Schedules; limit++ {
		r, err := count(limit, true)
		require.NoError(t, err)
		assert.Equal(t, limit, r.Schedules)
		assert.Equal(t, limit < all.Schedules, r.Left > 0, "limit %d: %+v", limit, r)
		assert.LessOrEqual(t, r.Left, all.Schedules-limit)
	}
	_, err = count(all.Schedules-1, false)
	assert.ErrorContains(t, err, "the search has come to its limit of")
	assert.ErrorContains(t, err, "at least 1 are left")

	tokens := func(seed uint64) (tokens string) {
		s := scenario(&counted{dsn: file(t)}, racetest.Actors{"a": add(1), "b": add(2), "c": add(3)})
		s.Limit, s.Partial, s.Random = 1, true, racetest.Random{Schedules: 100, Seed: seed}
		s.Check = score(16)
		_, err := behave(t, s)
		var f *racetest.Failure
		require.ErrorAs(t, err, &f)
		_, err = behaveWith(t, s, []racetest.Option{racetest.Replay(f.Token)})
		var again *racetest.Failure
		require.ErrorAs(t, err, &again)
		assert.Equal(t, f.Token, again.Token)
		return f.Token
	}
	assert.Equal(t, tokens(1), tokens(1))
	assert.Greater(t, len(map[string]bool{tokens(1): true, tokens(2): true, tokens(3): true, tokens(4): true}), 1, "other seeds draw others")
}

// TestReplayTokens is of tokens that nobody has printed.
func TestReplayTokens(t *testing.T) {
	s := scenario(&counted{dsn: file(t)}, racetest.Actors{"alice": add(1), "bob": add(2)})
	for token, want := range map[string]string{
		"a b b a": "", "alice bob bob alice": "", " a\tb\nb a ": "", "a": "",
		"x":         `the token of Replay("x"): "x" is none of the actors alice, bob`,
		"a bo":      `"bo" is none of the actors`,
		"a a a":     `does not fit: at choice 3 alice cannot go on; it has ended, or waits`,
		"a b b a b": `does not fit: after choice 4 all have ended`,
	} {
		r, err := behaveWith(t, s, []racetest.Option{racetest.Replay(token)})
		if want == "" {
			assert.NoError(t, err, token)
			assert.Equal(t, 1, r.Schedules)
		} else {
			assert.ErrorContains(t, err, want)
		}
	}
	for _, token := range []string{"", " "} {
		r, err := behaveWith(t, s, []racetest.Option{racetest.Replay(token)})
		assert.NoError(t, err)
		assert.Equal(t, 4, r.Schedules, "an empty token is none")
	}
}

// TestReport wants a file of what fails, and of what is replayed.
func TestReport(t *testing.T) {
	name := filepath.Join(t.TempDir(), "report.html")
	s := scenario(&counted{dsn: file(t)}, racetest.Actors{"alice": add(1), "bob": add(2)})
	s.Report = name
	_, err := behave(t, s)
	require.NoError(t, err)
	assert.NoFileExists(t, name, "nothing has failed")

	_, err = behaveWith(t, s, []racetest.Option{racetest.Replay("a b")})
	require.NoError(t, err)
	page, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Contains(t, string(page), "a b b a", "the whole token, also of what was not said")
	assert.Equal(t, 2, strings.Count(string(page), "<b>UPDATE</b> players"))

	require.NoError(t, os.Remove(name))
	s.Check = score(13)
	_, err = behave(t, s)
	failed(t, err, racetest.Invariant, "", "an update was lost")
	page, err = os.ReadFile(name)
	require.NoError(t, err)
	assert.Contains(t, string(page), "an update was lost")

	s.Report = filepath.Join(t.TempDir(), "nowhere", "report.html")
	_, err = behave(t, s)
	failed(t, err, racetest.Invariant, "", "an update was lost", "the scenario's Report: ", "no such file or directory")
}

// The report is written when the search is over, and says how long it took.
func TestReportSaysHowLong(t *testing.T) {
	s := scenario(&counted{dsn: file(t)}, racetest.Actors{"a": add(1), "b": add(1)})
	s.Report = filepath.Join(t.TempDir(), "report.html")
	s.Check = func(context.Context, *sql.DB, map[string]error) error { return errors.New("no") }
	_, err := racetest.Run(t.Context(), s)
	require.Error(t, err)
	page, err := os.ReadFile(s.Report)
	require.NoError(t, err)
	assert.NotContains(t, string(page), " in 0s")
	assert.Contains(t, string(page), "1 schedule of up to")
}

// A Check that ends the test itself, as require does, does not take the timeline with it.
func TestCheckEndsTheTest(t *testing.T) {
	s := scenario(&counted{dsn: file(t)}, racetest.Actors{"a": add(1), "b": add(1)})
	s.Check = func(context.Context, *sql.DB, map[string]error) error { runtime.Goexit(); return nil }
	log := &logged{TB: t}
	var all sync.WaitGroup
	all.Go(func() { racetest.Explore(log, s) })
	all.Wait()
	assert.Contains(t, log.text, `racetest.Replay("a a b b")`)
	assert.Contains(t, log.text, "after 1 schedule of about 6")
}

type logged struct {
	testing.TB
	text string
}

func (l *logged) Logf(format string, args ...any) { l.text += fmt.Sprintf(format, args...) }
