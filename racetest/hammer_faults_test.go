package racetest_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/raceproof/raceproof/racetest"
)

// noFile is a connector for loads that do not connect.
type noFile struct{ hammerFile }

func (noFile) Connect(context.Context) (driver.Conn, error) { return nil, errors.New("no database") }

// numbers is a load without a database that draws numbers and answers them.
func numbers() racetest.Load[int, int, int] {
	return racetest.Load[int, int, int]{
		Open:    func() (driver.Connector, error) { return noFile{}, nil },
		Setup:   func(context.Context, *sql.DB) error { return nil },
		Callers: 3,
		Calls:   5,
		Next:    func(r *rand.Rand) int { return r.IntN(1000) },
		Do:      func(_ context.Context, _ *sql.DB, in int) (int, error) { return in, nil },
		Step:    func(s, in int) (int, int) { return s, in },
	}
}

func TestHammerNamesWhatALoadLacks(t *testing.T) {
	for want, spoil := range map[string]func(l *racetest.Load[int, int, int]){
		"Load.Open is nil":   func(l *racetest.Load[int, int, int]) { l.Open = nil },
		"Load.Setup is nil":  func(l *racetest.Load[int, int, int]) { l.Setup = nil },
		"Load.Next is nil":   func(l *racetest.Load[int, int, int]) { l.Next = nil },
		"Load.Do is nil":     func(l *racetest.Load[int, int, int]) { l.Do = nil },
		"Load.Step is nil":   func(l *racetest.Load[int, int, int]) { l.Step = nil },
		"Load.Callers is -1": func(l *racetest.Load[int, int, int]) { l.Callers = -1 },
		"Load.Calls is -2":   func(l *racetest.Load[int, int, int]) { l.Calls = -2 },
		"Load.Pool is -3":    func(l *racetest.Load[int, int, int]) { l.Pool = -3 },
		"Load.Patience is -1ns": func(l *racetest.Load[int, int, int]) {
			l.Patience = -1
		},
		"Load.Search is -1s": func(l *racetest.Load[int, int, int]) { l.Search = -time.Second },
	} {
		t.Run(want, func(t *testing.T) {
			load := numbers()
			ran := false
			load.Open = func() (driver.Connector, error) { ran = true; return noFile{}, nil }
			spoil(&load)
			tally, err := racetest.RunLoad(t.Context(), load)
			require.ErrorContains(t, err, want)
			assert.False(t, ran)
			assert.Empty(t, tally)
		})
	}
}

func TestHammerReturnsErrorsOfOpenAndSetup(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	mine := errors.New("mine")
	load := numbers()
	load.Do = func(context.Context, *sql.DB, int) (int, error) { panic("nothing may run") }
	load.Setup = func(context.Context, *sql.DB) error { return mine }
	_, err := racetest.RunLoad(t.Context(), load)
	require.ErrorIs(t, err, mine)
	assert.ErrorContains(t, err, "Load.Setup: ")

	load.Open = func() (driver.Connector, error) { return nil, nil }
	_, err = racetest.RunLoad(t.Context(), load)
	require.ErrorContains(t, err, "Load.Open returned no connector")

	load.Open = func() (driver.Connector, error) { return nil, mine }
	_, err = racetest.RunLoad(t.Context(), load)
	require.ErrorIs(t, err, mine)
	assert.ErrorContains(t, err, "Load.Open: ")
}

func TestHammerDrawsTheSameFromASeed(t *testing.T) {
	inputs := func(seed uint64) map[int][]int {
		load := numbers()
		load.Seed = seed
		of := map[int][]int{}
		for _, op := range racetest.Hammer(t, load).Operations {
			of[op.Caller] = append(of[op.Caller], op.In)
		}
		return of
	}
	one := inputs(1)
	assert.Len(t, one, 3)
	assert.Len(t, one[2], 5)
	assert.Equal(t, one, inputs(1))
	assert.NotEqual(t, one, inputs(2))
	assert.NotEqual(t, one[0], one[1])
}

func TestHammerSetsThePool(t *testing.T) {
	for pool, want := range map[int]int{0: 3, 2: 2} {
		load := numbers()
		load.Pool = pool
		load.Check = func(_ context.Context, db *sql.DB, _ racetest.Tally[int, int]) error {
			assert.Equal(t, want, db.Stats().MaxOpenConnections)
			return nil
		}
		racetest.Hammer(t, load)
	}
}

func TestHammerComparesAnswersWithEqual(t *testing.T) {
	load := numbers()
	load.Do = func(_ context.Context, _ *sql.DB, in int) (int, error) { return -in, nil }
	_, err := racetest.RunLoad(t.Context(), load)
	var no *racetest.NotLinearizable
	require.ErrorAs(t, err, &no)
	load.Equal = func(a, b int) bool { return a*a == b*b }
	racetest.Hammer(t, load)
}

func TestHammerNamesACallerThatPanics(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	mine := errors.New("mine")
	for name, do := range map[string]func(){
		"panic":  func() { panic(mine) },
		"Goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			load := numbers()
			load.Callers = 2
			var first sync.Once
			load.Next = func(*rand.Rand) int { return 7 }
			load.Do = func(ctx context.Context, _ *sql.DB, in int) (int, error) {
				first.Do(do)
				<-ctx.Done() // the other one must not be left waiting
				return in, ctx.Err()
			}
			load.Check = func(context.Context, *sql.DB, racetest.Tally[int, int]) error { return errors.New("not judged") }
			tally, err := racetest.RunLoad(t.Context(), load)
			var crash *racetest.CallerError
			require.ErrorAs(t, err, &crash)
			assert.Equal(t, []any{1, "7", false}, []any{crash.Call, crash.In, crash.Next})
			assert.Contains(t, string(crash.Stack), "hammer_faults_test.go")
			assert.Equal(t, name == "panic", errors.Is(err, mine))
			assert.NotContains(t, err.Error(), "not judged")
			assert.GreaterOrEqual(t, tally.Unknown, 1)
		})
	}
}

func TestHammerNamesACallerThatPanicsInNext(t *testing.T) {
	load := numbers()
	load.Next = func(*rand.Rand) int { panic("next") }
	_, err := racetest.RunLoad(t.Context(), load)
	var crash *racetest.CallerError
	require.ErrorAs(t, err, &crash)
	assert.True(t, crash.Next)
	assert.ErrorContains(t, err, "in its call 1, Next, panicked: next")
}

func TestHammerGivesUpWhenNothingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		load := numbers()
		load.Next = func(*rand.Rand) int { return 7 }
		load.Patience = time.Minute
		load.Do = func(ctx context.Context, _ *sql.DB, in int) (int, error) {
			<-ctx.Done()
			return 0, context.Cause(ctx)
		}
		start := time.Now()
		tally, err := racetest.RunLoad(t.Context(), load)
		assert.Equal(t, time.Minute, time.Since(start))
		var stuck *racetest.StuckError
		require.ErrorAs(t, err, &stuck)
		assert.Equal(t, time.Minute, stuck.Idle)
		require.Len(t, stuck.Callers, 3)
		assert.Equal(t, racetest.Standing{Caller: 2, Call: 1, In: "7", For: time.Minute}, stuck.Callers[2])
		assert.Empty(t, stuck.Left)
		assert.ErrorContains(t, err, "caller 2, in its call 1, Do(7), for 1m0s")
		assert.Equal(t, 3, tally.Unknown)
	})
}

func TestHammerLeavesBehindWhatIgnoresItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		load := numbers()
		load.Callers, load.Unknown = 1, func(error) bool { return false }
		release := make(chan struct{})
		load.Do = func(context.Context, *sql.DB, int) (int, error) {
			<-release
			return 0, nil
		}
		start := time.Now()
		tally, err := racetest.RunLoad(t.Context(), load)
		assert.Equal(t, 35*time.Second, time.Since(start), "30 s of patience, and 5 s to end")
		var stuck *racetest.StuckError
		require.ErrorAs(t, err, &stuck)
		require.Len(t, stuck.Left, 1)
		assert.ErrorContains(t, err, "left behind, because Do does not return")
		require.Len(t, tally.Operations, 1)
		assert.True(t, tally.Operations[0].Unknown, "whatever Unknown says")
		close(release) // synctest fails the test if the caller goes on after that
		synctest.Wait()
		require.Len(t, tally.Operations, 1)
	})
}

func TestHammerIsPatientWhileSomethingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		load := numbers()
		load.Patience = 10 * time.Second
		load.Callers = 2
		load.Do = func(_ context.Context, _ *sql.DB, in int) (int, error) {
			time.Sleep(9 * time.Second)
			return in, nil
		}
		assert.Equal(t, 10, racetest.Hammer(t, load).Done)
	})
}

func TestHammerEndsWithItsContext(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	mine := errors.New("mine")
	ctx, cancel := context.WithCancelCause(t.Context())
	load := numbers()
	load.Do = func(ctx context.Context, _ *sql.DB, in int) (int, error) {
		cancel(mine)
		<-ctx.Done()
		return 0, ctx.Err()
	}
	tally, err := racetest.RunLoad(ctx, load)
	require.ErrorIs(t, err, mine)
	assert.ErrorContains(t, err, "the load was ended: mine")
	assert.Positive(t, tally.Unknown)
	assert.LessOrEqual(t, tally.Unknown, 3)
}

func TestHammerDoesNotPassWhatItCannotDecide(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	release := make(chan struct{})
	load := numbers()
	load.Search = time.Nanosecond
	load.Step = func(s, in int) (int, int) {
		<-release
		return s, in
	}
	_, err := racetest.RunLoad(t.Context(), load)
	close(release)
	require.ErrorIs(t, err, racetest.ErrUndecided)
	assert.ErrorContains(t, err, `1 of 1 keys are left`)
	assert.ErrorContains(t, err, `key "" has 15 operations, 0 of them unknown`)
}

func TestHammerReturnsAPanicOfStep(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	load := numbers()
	load.Step = func(int, int) (int, int) { panic("no such input") }
	_, err := racetest.RunLoad(t.Context(), load)
	require.ErrorContains(t, err, "Load.Step or Equal panicked, or ended its goroutine, at ")
	assert.ErrorContains(t, err, "no such input")
	var no *racetest.NotLinearizable
	assert.False(t, errors.As(err, &no))
}

func TestHammerSaysThatTheReportCouldNotBeWritten(t *testing.T) {
	load := numbers()
	load.Do = func(context.Context, *sql.DB, int) (int, error) { return -1, nil }
	load.Report = filepath.Join(t.TempDir(), "no", "such", "folder")
	_, err := racetest.RunLoad(t.Context(), load)
	var no *racetest.NotLinearizable
	require.ErrorAs(t, err, &no)
	require.Error(t, no.ReportErr)
	assert.ErrorContains(t, err, "the report could not be written")
	assert.Zero(t, no.Prefix)
}

// recorder is a test that fails without failing the one that runs it.
type recorder struct {
	testing.TB
	failed string
}

func (r *recorder) Helper() {}
func (r *recorder) Fatalf(format string, args ...any) {
	r.failed = format
	for _, a := range args {
		if err, ok := a.(error); ok {
			r.failed = err.Error()
		}
	}
	runtime.Goexit()
}

func TestHammerFailsTheTest(t *testing.T) {
	load := numbers()
	load.Check = func(context.Context, *sql.DB, racetest.Tally[int, int]) error { return errors.New("mine") }
	r := &recorder{TB: t}
	var test sync.WaitGroup
	test.Go(func() {
		racetest.Hammer(r, load)
		t.Error("it went on")
	})
	test.Wait()
	assert.Contains(t, r.failed, "Load.Check: mine (15 operations in ")
}
