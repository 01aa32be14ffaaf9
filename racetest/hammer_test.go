package racetest_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/raceproof/raceproof/racetest"
)

// hammerFile connects to a SQLite file.
type hammerFile string

func (f hammerFile) Connect(context.Context) (driver.Conn, error) { return f.Driver().Open(string(f)) }
func (hammerFile) Driver() driver.Driver                          { return &sqlite3.SQLiteDriver{} }

// ask is what the counters are asked for: to be raised by one and to say what they are then, or only to say.
type ask struct {
	Key  string
	Read bool
}

var (
	errLost    = errors.New("the answer got lost")
	errRefused = errors.New("refused")
)

// counters is a load on counters in a SQLite file that raises them as it should; the tests change what they are about.
func counters(t *testing.T) racetest.Load[int, ask, int] {
	file := hammerFile("file:" + filepath.Join(t.TempDir(), "counters.db") +
		"?_journal_mode=WAL&_synchronous=OFF&_busy_timeout=20000")
	return racetest.Load[int, ask, int]{
		Open: func() (driver.Connector, error) { return file, nil },
		Setup: func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "CREATE TABLE counters (name TEXT PRIMARY KEY, n INTEGER NOT NULL);"+
				"INSERT INTO counters VALUES ('a', 0), ('b', 0)")
			return err
		},
		Calls: 20,
		Next:  func(*rand.Rand) ask { return ask{Key: "a"} },
		Do:    raise,
		Step: func(n int, in ask) (int, int) {
			if in.Read {
				return n, n
			}
			return n + 1, n + 1
		},
		Key:   func(in ask) string { return in.Key },
		Check: countA,
	}
}

// raise raises a counter in one statement.
func raise(ctx context.Context, db *sql.DB, in ask) (n int, err error) {
	if in.Read {
		return read(ctx, db, in.Key)
	}
	err = db.QueryRowContext(ctx, "UPDATE counters SET n = n + 1 WHERE name = ? RETURNING n", in.Key).Scan(&n)
	return n, err
}

func read(ctx context.Context, db *sql.DB, key string) (n int, err error) {
	err = db.QueryRowContext(ctx, "SELECT n FROM counters WHERE name = ?", key).Scan(&n)
	return n, err
}

// countA is the counted invariant of counter a.
func countA(ctx context.Context, db *sql.DB, t racetest.Tally[ask, int]) error {
	n, err := read(ctx, db, "a")
	if err != nil {
		return err
	}
	low, high := t.Bounds(func(op racetest.Operation[ask, int]) int64 {
		if op.In.Read || op.In.Key != "a" {
			return 0
		}
		return 1
	})
	if int64(n) < low || int64(n) > high {
		return fmt.Errorf("a is %d: not in %d to %d", n, low, high)
	}
	return nil
}

func TestHammerCatchesALostUpdate(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	load := counters(t)
	// The first calls of all callers meet after they have read: all of them have read 0, whatever the machine does.
	var met atomic.Int32
	all := make(chan struct{})
	load.Do = func(ctx context.Context, db *sql.DB, in ask) (int, error) {
		n, err := read(ctx, db, in.Key)
		if err != nil {
			return 0, err
		}
		if met.Add(1) == 8 {
			close(all)
		}
		select {
		case <-all:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
		_, err = db.ExecContext(ctx, "UPDATE counters SET n = ? WHERE name = ?", n+1, in.Key)
		return n + 1, err
	}
	load.Report = filepath.Join(t.TempDir(), "report.html")
	tally, err := racetest.RunLoad(t.Context(), load)

	var no *racetest.NotLinearizable
	require.ErrorAs(t, err, &no)
	assert.Equal(t, "a", no.Key)
	assert.Equal(t, 160, no.Operations)
	assert.Zero(t, no.Unknown)
	assert.Less(t, no.Prefix, 160)
	var counted *racetest.CheckError
	require.ErrorAs(t, err, &counted)
	assert.ErrorContains(t, counted, "not in 160 to 160")
	assert.Equal(t, 160, tally.Done)
	assert.Contains(t, tally.String(), "160 done, 0 refused, 0 unknown")
	assertReport(t, load.Report)
}

// assertReport asserts that the report needs nothing but itself, and holds the history.
func assertReport(t *testing.T, name string) {
	page, err := os.ReadFile(name)
	require.NoError(t, err)
	text := string(page)
	assert.Contains(t, text, "{Key:a Read:false} → 1")
	assert.Contains(t, text, "</html>")
	for _, from := range []string{` src="`, `rel="stylesheet"`, "@import", "fetch("} {
		assert.NotContains(t, text, from)
	}
	links := strings.ReplaceAll(text, "http://www.w3.org/2000/svg", "") // a name, nothing is loaded from there
	assert.NotContains(t, links, "http")
}

func TestHammerPassesAnAtomicUpdate(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	load := counters(t)
	load.Next = func(r *rand.Rand) ask { return ask{Key: []string{"a", "b"}[r.IntN(2)], Read: r.IntN(4) == 0} }
	load.Report = filepath.Join(t.TempDir(), "report.html")
	tally := racetest.Hammer(t, load)
	assert.Equal(t, 160, tally.Done)
	assert.Positive(t, tally.Elapsed)
	for i, op := range tally.Operations {
		assert.Less(t, op.Call, op.Return)
		assert.LessOrEqual(t, op.Return, tally.Elapsed)
		assert.True(t, i == 0 || tally.Operations[i-1].Call <= op.Call, "not by the time of the call: %d", i)
	}
	assert.NoFileExists(t, load.Report)
}

// losing raises, and loses answers: of every ten calls one whose work was done, and one whose was not.
func losing(done, notDone error) func(ctx context.Context, db *sql.DB, in ask) (int, error) {
	var calls atomic.Int32
	return func(ctx context.Context, db *sql.DB, in ask) (int, error) {
		switch calls.Add(1) % 10 {
		case 3:
			if _, err := raise(ctx, db, in); err != nil {
				return 0, err
			}
			return 0, done
		case 7:
			return 0, notDone
		}
		return raise(ctx, db, in)
	}
}

func TestHammerLeavesUnknownOutcomesOpen(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for name, unknown := range map[string]func(error) bool{
		"told":  func(err error) bool { return errors.Is(err, errLost) },
		"every": nil,
	} {
		t.Run(name, func(t *testing.T) {
			load := counters(t)
			load.Unknown, load.Do = unknown, losing(errLost, errLost)
			tally := racetest.Hammer(t, load)
			assert.Equal(t, []int{128, 0, 32}, []int{tally.Done, tally.Refused, tally.Unknown})
		})
	}
}

func TestHammerCatchesWorkDoneThatWasSaidNotToBe(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	load := counters(t)
	load.Unknown, load.Do = func(error) bool { return false }, losing(errLost, errLost)
	tally, err := racetest.RunLoad(t.Context(), load)
	var no *racetest.NotLinearizable
	var counted *racetest.CheckError
	require.ErrorAs(t, err, &no)
	require.ErrorAs(t, err, &counted)
	assert.Equal(t, []int{128, 32, 0}, []int{tally.Done, tally.Refused, tally.Unknown})
	assert.Equal(t, 128, no.Operations)
}

func TestHammerLeavesRefusedOperationsOut(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	load := counters(t)
	load.Unknown = func(err error) bool { return !errors.Is(err, errRefused) }
	load.Do = func(ctx context.Context, db *sql.DB, in ask) (int, error) {
		if in.Key == "none" {
			return 0, errRefused
		}
		return raise(ctx, db, in)
	}
	load.Next = func(r *rand.Rand) ask { return ask{Key: []string{"a", "none"}[r.IntN(2)]} }
	step := load.Step
	load.Step = func(n int, in ask) (int, int) {
		assert.NotEqual(t, "none", in.Key)
		return step(n, in)
	}
	load.Key = nil
	tally := racetest.Hammer(t, load)
	assert.Positive(t, tally.Refused)
	assert.Equal(t, 160, tally.Refused+tally.Done)
}

func TestHammerCatchesAStaleRead(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	load := counters(t)
	load.Callers, load.Calls, load.Check = 1, 4, nil
	var asked int
	load.Next = func(*rand.Rand) ask {
		asked++
		return ask{Key: "a", Read: asked == 3}
	}
	load.Do = func(ctx context.Context, db *sql.DB, in ask) (int, error) {
		n, err := raise(ctx, db, in)
		if in.Read {
			n-- // as from a replica that lags
		}
		return n, err
	}
	_, err := racetest.RunLoad(t.Context(), load)
	var no *racetest.NotLinearizable
	require.ErrorAs(t, err, &no)
	assert.Equal(t, []any{2, "2", "2"}, []any{no.Prefix, no.State, no.Want})
	assert.Contains(t, no.Operation, "caller 0, {Key:a Read:true} → 1, ")
	assert.ErrorContains(t, err, `no order of the 4 operations on key "a" explains the answers`)
}

func TestHammerTakesKeysForThemselves(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	two := func(r *rand.Rand) ask { return ask{Key: []string{"a", "b"}[r.IntN(2)]} }
	t.Run("one state", func(t *testing.T) {
		load := counters(t)
		load.Next, load.Key = two, nil
		_, err := racetest.RunLoad(t.Context(), load)
		var no *racetest.NotLinearizable
		require.ErrorAs(t, err, &no)
		assert.Empty(t, no.Key)
	})
	t.Run("the key at fault is named", func(t *testing.T) {
		load := counters(t)
		load.Next = two
		load.Do = func(ctx context.Context, db *sql.DB, in ask) (int, error) {
			n, err := raise(ctx, db, in)
			if in.Key == "b" {
				n = 1
			}
			return n, err
		}
		tally, err := racetest.RunLoad(t.Context(), load)
		var no *racetest.NotLinearizable
		require.ErrorAs(t, err, &no)
		assert.Equal(t, "b", no.Key)
		assert.Equal(t, 1, no.Prefix)
		_, b := tally.Bounds(func(op racetest.Operation[ask, int]) int64 {
			if op.In.Key == "b" {
				return 1
			}
			return 0
		})
		assert.EqualValues(t, b, no.Operations)
	})
}

func TestTallyBounds(t *testing.T) {
	tally := racetest.Tally[int64, int]{Operations: []racetest.Operation[int64, int]{
		{In: 100}, {In: -10}, {In: 5, Err: errLost, Unknown: true}, {In: -3, Err: errLost, Unknown: true}, {In: 1000, Err: errRefused},
	}}
	low, high := tally.Bounds(func(op racetest.Operation[int64, int]) int64 { return op.In })
	assert.EqualValues(t, []int64{87, 95}, []int64{low, high})
}
