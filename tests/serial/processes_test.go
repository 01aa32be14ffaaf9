package serial_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/serial"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// The size of the load of each process.
const (
	callers = 8
	updates = 100
)

// participants are the updaters that processes have of one table.
var participants = map[string]func(*raceproof.DB) raceproof.Updater[Tally, int64]{
	"serial lock": func(db *raceproof.DB) raceproof.Updater[Tally, int64] {
		return raceproof.Bind(serial.Wrap(lock.New(db, tallies, nil)), byFunc)
	},
	"serial optimistic": func(db *raceproof.DB) raceproof.Updater[Tally, int64] {
		patient := &optimistic.Options{Retry: raceproof.RetryPolicy{MaxAttempts: 100_000, Budget: 100_000}}
		return raceproof.Bind(serial.Wrap(optimistic.New(db, tallies, patient)), byFunc)
	},
	"serial atomic": func(db *raceproof.DB) raceproof.Updater[Tally, int64] {
		return raceproof.Bind(serial.Wrap(atomic.New(db, tallies, nil)), func(n int64) atomic.Change { return plus(n).expr })
	},
	"lock": func(db *raceproof.DB) raceproof.Updater[Tally, int64] {
		return raceproof.Bind(lock.New(db, tallies, nil), byFunc)
	},
}

func byFunc(n int64) raceproof.Func[Tally] { return plus(n).f }

// work makes a process's updates, of two rows.
func work(ctx context.Context, u raceproof.Updater[Tally, int64], report func(error)) {
	var c crowd
	for i := range callers {
		c.Go(func() {
			for n := range updates {
				if _, err := u.Update(ctx, 1+(i+n)%2, 1); err != nil {
					report(err)
					return
				}
			}
		})
	}
	c.Wait()
}

// exact fails the test unless the rows are what so many updates have made of them.
func exact(t *testing.T, w *world.World, processes int) {
	t.Helper()
	want := int64(processes * callers * updates / 2)
	assert.Equal(t, Tally{ID: 1, N: want, Version: want}, tally(t, w, 1))
	assert.Equal(t, Tally{ID: 2, N: want, Version: want}, tally(t, w, 2))
}

// Pools that know nothing of each other, as processes have them, lose nothing.
func TestOtherPools(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		var all crowd
		for name, updater := range participants {
			pool := w.Fresh.Open(databases.Options{})
			db, err := raceproof.New(pool)
			require.NoError(t, err)
			t.Cleanup(db.Close)
			all.Go(func() { work(minute(t), updater(db), func(err error) { assert.NoError(t, err, name) }) })
		}
		all.Wait()
		exact(t, w, len(participants))
	})
}

// What a child is told.
const (
	childDriver  = "RACEPROOF_TEST_SERIAL_DRIVER"
	childDSN     = "RACEPROOF_TEST_SERIAL_DSN"
	childUpdater = "RACEPROOF_TEST_SERIAL_UPDATER"
)

// child is another process, which makes its updates and ends.
func child() {
	db, err := raceproof.New(sqlx.MustOpen(os.Getenv(childDriver), os.Getenv(childDSN)))
	if err == nil {
		work(context.Background(), participants[os.Getenv(childUpdater)](db), func(e error) { err = e })
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// The same of real processes.
func TestOtherProcesses(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		var all crowd
		for name := range participants {
			all.Go(func() {
				cmd := exec.CommandContext(minute(t), os.Args[0])
				cmd.Env = append(cmd.Environ(), childDriver+"="+w.Driver, childDSN+"="+w.Fresh.DSN(databases.Options{}), childUpdater+"="+name)
				out, err := cmd.CombinedOutput()
				assert.NoError(t, err, "%s: %s", name, out)
			})
		}
		all.Wait()
		exact(t, w, len(participants))
	})
}
