// Package lock_test holds what is promised of package lock, its options and its waiting, against real servers through the
// real drivers.
package lock_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3" // one of the two drivers of that name
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }

// Which databases a test is for.
func everywhere(databases.Database) bool  { return true }
func onServers(d databases.Database) bool { return d.Kind != "" }
func onSQLite(d databases.Database) bool  { return d.Kind == "" }

// each runs a test on databases, each with a world of its own, and fails it if it leaves a connection in use.
func each(t *testing.T, on func(databases.Database) bool, test func(*testing.T, *world.World)) {
	t.Helper()
	for _, d := range databases.All() {
		if !on(d) {
			continue
		}
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			w := world.New(t, d, databases.Options{})
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

// slow is much more than anything takes that does not wait for a lock.
const slow = 15 * time.Second

func minute(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// little is the least limit that is worth waiting for: MariaDB counts seconds.
func little(w *world.World) time.Duration {
	if w.Kind == servers.MariaDB {
		return time.Second
	}
	return 100 * time.Millisecond
}

// add is a change that adds to the score.
func add(points int64) raceproof.Func[world.Player] {
	return func(_ context.Context, p *world.Player) error { p.Score += points; return nil }
}

// updater makes an updater of players without a mistake in it.
func updater(t *testing.T, w *world.World, o *lock.Options) *lock.Updater[world.Player] {
	t.Helper()
	u := lock.New(w.DB, world.Players, o)
	require.NoError(t, u.Err())
	return u
}

// warm makes the library know the table, so that all it sends from now on is what is asked for.
func warm(t *testing.T, w *world.World) {
	t.Helper()
	_, err := updater(t, w, nil).Update(minute(t), 8, add(0))
	require.NoError(t, err)
}

// locked fails the test unless the error says that a lock was not free, and nothing else.
func locked(t *testing.T, err error, about ...any) {
	t.Helper()
	assert.ErrorIs(t, err, raceproof.ErrLocked, about...)
	for _, other := range []error{raceproof.ErrConflict, raceproof.ErrNotFound, raceproof.ErrCommitUnknown, raceproof.ErrFinished,
		raceproof.ErrOverloaded, context.DeadlineExceeded, context.Canceled} {
		assert.NotErrorIs(t, err, other, about...)
	}
}

func isUnsupported(err error) bool { return errors.Is(err, raceproof.ErrUnsupported) }

// exec sends a statement in the context's transaction.
func exec(ctx context.Context, w *world.World, statement string) error {
	_, err := w.DB.Ext(ctx).ExecContext(ctx, statement)
	return err
}

func isNotFound(err error) bool { return errors.Is(err, raceproof.ErrNotFound) }
func isConflict(err error) bool { return errors.Is(err, raceproof.ErrConflict) }
