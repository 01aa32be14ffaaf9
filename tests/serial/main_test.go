// Package serial_test holds what package serial promises against real databases: who is served together gets what he would
// have got alone.
package serial_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	_ "github.com/mattn/go-sqlite3" // one of the two drivers of that name
	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/serial"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

func TestMain(m *testing.M) {
	if os.Getenv(childDriver) != "" {
		child()
		return
	}
	_ = mysql.SetLogger(&mysql.NopLogger{}) // broken connections are what some tests are about
	os.Exit(databases.Main(m))
}

// A Tally is a row of a table in which several writes can be merged into one.
type Tally struct {
	ID      int64  `db:"id"`
	N       int64  `db:"n"`
	Note    string `db:"note"`
	Version int64  `db:"version"`
}

// A Person is a row of a table that has a say in what is written.
type Person struct {
	ID      int64  `db:"id"`
	Name    string `db:"name"`
	Score   int64  `db:"score"`
	Level   int64  `db:"level"`
	Team    *int64 `db:"team"`
	Note    string `db:"note"`
	Version int64  `db:"version"`
}

var (
	tallies = raceproof.MustTable[Tally]("tallies")
	people  = raceproof.MustTable[Person]("people")
)

// The rows at whose functions others are kept waiting.
const (
	loneKey = 1000
	gateKey = 1001
)

var setup = []string{
	`CREATE TABLE tallies (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, note VARCHAR(100) NOT NULL, version BIGINT NOT NULL)`,
	`INSERT INTO tallies VALUES (1, 0, '', 0), (2, 0, '', 0), (3, 0, '', 0), (4, 0, '', 0), (1000, 0, '', 0), (1001, 0, '', 0)`,
	`CREATE TABLE teams (id BIGINT PRIMARY KEY)`,
	`INSERT INTO teams VALUES (1), (2)`,
	`CREATE TABLE people (id BIGINT PRIMARY KEY, name VARCHAR(20) NOT NULL UNIQUE, score BIGINT NOT NULL CHECK (score >= 0),
		level SMALLINT NOT NULL, team BIGINT, note VARCHAR(100) NOT NULL, version BIGINT NOT NULL, FOREIGN KEY (team) REFERENCES teams (id))`,
	`INSERT INTO people VALUES (1, 'Ada', 0, 0, NULL, '', 0), (2, 'Bob', 0, 0, NULL, '', 0), (1000, 'lone', 0, 0, NULL, '', 0),
		(1001, 'gate', 0, 0, NULL, '', 0)`,
}

// Which databases a test is for.
// everywhere leaves out modernc's driver, which has the contract suite: with the race detector an update takes so long there
// that callers seldom meet when they are to.
func everywhere(d databases.Database) bool { return d.Name != "sqlite/modernc" }

func onServers(d databases.Database) bool { return d.Kind != "" }

// isWrite tells a statement that changes a tally.
func isWrite(text string) bool {
	return strings.Contains(text, "UPDATE `tallies`") || strings.Contains(text, `UPDATE "tallies"`)
}

// changesN tells one that changes the number of it, which the callers at the gate do not.
func changesN(text string) bool {
	return isWrite(text) && (strings.Contains(text, `"n" =`) || strings.Contains(text, "`n` ="))
}

func isClosed(err error) bool { return errors.Is(err, raceproof.ErrClosed) }

// prepare makes a world with the tables.
func prepare(t *testing.T, d databases.Database) *world.World {
	t.Helper()
	w := world.New(t, d, databases.Options{})
	for _, statement := range setup {
		w.Look.MustExec(statement)
	}
	return w
}

// each runs a test on databases, each with a world of its own, and fails it if it leaves a connection in use.
func each(t *testing.T, on func(databases.Database) bool, test func(*testing.T, *world.World)) {
	t.Helper()
	for _, d := range databases.All() {
		if !on(d) {
			continue
		}
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			w := prepare(t, d)
			test(t, w)
			w.Idle(w.Pool)
			assert.Zero(t, w.DB.Pool().Waiting(), "nobody is left in a queue")
		})
	}
}

var (
	errOwn   = errors.New("the function's own error")
	errCause = errors.New("the caller has gone")
)

func minute(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// A change is one for every pattern.
type change[T any] struct {
	f    raceproof.Func[T]
	expr atomic.Change
}

// A pattern is an updater that is served in groups, with what it was made of.
type pattern[T any] struct {
	name string
	raceproof.Updater[T, change[T]]
	bare raceproof.Updater[T, change[T]]
	served
}

// served is what can be asked of any updater that serves groups.
type served interface {
	Stats() serial.Stats
	Close(context.Context) error
	Err() error
}

func function[T any](c change[T]) raceproof.Func[T] { return c.f }
func expression[T any](c change[T]) atomic.Change   { return c.expr }
func itself[T any](f raceproof.Func[T]) change[T]   { return change[T]{f: f} }

// noted is a change that nobody looks at.
func noted[T any]() change[T] {
	return change[T]{func(context.Context, *T) error { return nil }, atomic.Set("note", "")}
}

func wrapped[T, C any](name string, u raceproof.Updater[T, C], of func(change[T]) C, opts []serial.Option) pattern[T] {
	hot := serial.Wrap(u, opts...)
	return pattern[T]{name, raceproof.Bind(hot, of), raceproof.Bind(u, of), hot}
}

// patterns returns every pattern, served in groups.
func patterns[T any](w *world.World, table *raceproof.Table[T], opts ...serial.Option) []pattern[T] {
	return []pattern[T]{
		byLock(w, table, opts...),
		wrapped("optimistic", optimistic.New(w.DB, table, nil), function, opts),
		wrapped("atomic", atomic.New(w.DB, table, nil), expression, opts),
	}
}

func byLock[T any](w *world.World, table *raceproof.Table[T], opts ...serial.Option) pattern[T] {
	return wrapped("lock", lock.New(w.DB, table, nil), function, opts)
}
