package lease_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A falseClock is the real-time clock of the programs that run in its environment, by libfaketime: that of a server, or
// of SQLite in a process. Go programs themselves do not ask the C library for the time.
type falseClock struct {
	t           *testing.T
	file        string
	environment []string
}

func newFalseClock(t *testing.T) *falseClock {
	libraries, err := filepath.Glob("/usr/lib*/*/faketime/libfaketimeMT.so.1")
	require.NoError(t, err)
	if len(libraries) == 0 {
		require.Empty(t, os.Getenv("RACEPROOF_REQUIRE"), "libfaketime is absent: install the Debian package libfaketime")
		t.Skip("libfaketime is absent: install the Debian package libfaketime")
	}
	folder, err := os.MkdirTemp("", "clock")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	require.NoError(t, os.Chmod(folder, 0o755), "servers run as other users")
	c := &falseClock{t: t, file: filepath.Join(folder, "offset")}
	c.set("+0")
	c.environment = []string{"LD_PRELOAD=" + libraries[0], "FAKETIME_TIMESTAMP_FILE=" + c.file, "FAKETIME_NO_CACHE=1",
		"FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"}
	return c
}

// set moves the clock, in one step for whoever reads it.
func (c *falseClock) set(offset string) {
	require.NoError(c.t, os.WriteFile(c.file+".new", []byte(offset+"\n"), 0o644))
	require.NoError(c.t, os.Rename(c.file+".new", c.file))
}

// clock returns by how many hours the database's clock is ahead of ours. SQLite's is that of the processes, and seen in a
// lease that is renewed.
func (r *relay) clock() float64 {
	query := map[string]string{
		"sqlite":   `SELECT COALESCE(MAX(expires), 0) / 1000000 FROM raceproof_lease`,
		"postgres": `SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) AS BIGINT)`,
		"mysql":    `SELECT UNIX_TIMESTAMP()`,
	}[r.w.Dialect.Name]
	return time.Until(time.Unix(number(r.T, r.w, query), 0)).Round(30 * time.Minute).Hours()
}

// set sets the database's clock, and waits until it is.
func (r *relay) set(c *falseClock, hours int) {
	c.set(fmt.Sprintf("%+dh", hours))
	r.until("the clock is set", func() bool { return r.clock() == float64(hours) })
	r.writes(5)
}

// die kills the holder, does something, and returns how long it is until another has the lease.
func (r *relay) die(environment []string, meanwhile func()) time.Duration {
	r.resume()
	h := r.writes(1)
	h.by.kill()
	began := time.Now()
	meanwhile()
	r.until("another has taken over", func() bool { return r.holder().token > h.token })
	took := time.Since(began)
	assert.Less(r, took, stoppedTTL+time.Second)
	r.join("fenced", fmt.Sprint("p", len(r.processes)), environment)
	return took
}

// The database's clock is set while leases are held, by an hour forward and back: nobody writes late, and a holder that has
// died is followed as soon as ever.
func TestClockIsSet(t *testing.T) {
	for _, name := range withProcesses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newFalseClock(t)
			d, environment := databases.Named(name), c.environment
			if d.Kind != "" {
				d, environment = d.At(databases.ServerIn(t, environment, d.Kind).DSN("")), nil
			}
			r := newRelay(t, world.New(t, d, databases.Options{}), "fenced", environment...)
			var longest time.Duration
			hours := 0
			for _, hours = range []int{1, 0, -1} {
				r.set(c, hours)
				r.round("look")
				r.round("at random")
				longest = max(longest, r.die(environment, func() {}))
			}
			for range 3 {
				hours--
				longest = max(longest, r.die(environment, func() { c.set(fmt.Sprintf("%+dh", hours)) }))
			}
			r.set(c, hours)
			writes, stale := r.end()
			assert.Zero(t, stale, "stale writes")
			t.Logf("%d writes, %d stale; those who died were followed after %v at most", len(writes), stale, longest)
		})
	}
}
