package lease

import (
	"context"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/testdb"
)

// manual leases change only when a test says so.
var manual = &Options{Manual: true}

func open(t *testing.T) (*sqlx.DB, *raceproof.DB) {
	pool, db := testdb.SQLite(t, `CREATE TABLE work (n INTEGER NOT NULL)`, `INSERT INTO work VALUES (0)`)
	require.NoError(t, CreateTable(t.Context(), db))
	t.Cleanup(func() {
		noneLeft(t)
		testdb.Idle(t, pool)
	})
	return pool, db
}

// try acquires what must be free, until the test ends.
func try(t *testing.T, s *Semaphore) *Lease {
	t.Helper()
	l, err := s.TryAcquire(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Release(context.Background()) })
	return l
}

func semaphore(t *testing.T, db *raceproof.DB, name string, n int, o *Options) *Semaphore {
	t.Helper()
	s, err := NewSemaphore(db, name, n, o)
	require.NoError(t, err)
	return s
}

// held is the error of one that is refused.
func held(t *testing.T, s *Semaphore) *HeldError {
	t.Helper()
	_, err := s.TryAcquire(t.Context())
	var e *HeldError
	require.ErrorAs(t, err, &e)
	assert.ErrorIs(t, err, raceproof.ErrLocked)
	return e
}

// later has the database's clock set forward, for a lease.
func later(pool *sqlx.DB, d time.Duration, l *Lease) {
	pool.MustExec(`UPDATE raceproof_lease SET expires = expires - ? WHERE name = ? AND place = ?`, d.Microseconds(), []byte(l.name), l.place)
}

// work is what has been done in transactions.
func work(t *testing.T, pool *sqlx.DB) (n int) {
	t.Helper()
	require.NoError(t, pool.Get(&n, `SELECT n FROM work`))
	return n
}

// column is one of all places of a name.
func column[T any](t *testing.T, pool *sqlx.DB, name, column string) (all []T) {
	t.Helper()
	require.NoError(t, pool.Select(&all, `SELECT `+column+` FROM raceproof_lease WHERE name = ? ORDER BY place`, []byte(name)))
	return all
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			require.Fail(t, "waited in vain: "+what)
		}
	}
}

// noneLeft fails the test unless nothing of this package's runs any more, and nobody is in a queue.
func noneLeft(t *testing.T) {
	t.Helper()
	eventually(t, "no goroutine is left", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return !strings.Contains(string(stacks), "lease.(*Lease)") && !strings.Contains(string(stacks), "lease.(*claim)")
	})
	queues.Lock()
	defer queues.Unlock()
	assert.Empty(t, queues.of)
}

// A fake clock goes when it is told to.
type fake struct {
	mu     sync.Mutex
	now    time.Time
	step   time.Duration // by which it goes on whenever it is looked at
	timers map[*fakeTimer]time.Time
}

type fakeTimer struct {
	clock *fake
	f     func()
}

func newFake() *fake { return &fake{now: time.Unix(1e9, 0), timers: map[*fakeTimer]time.Time{}} }

func (c *fake) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(c.step)
	return c.now
}

func (c *fake) AfterFunc(d time.Duration, f func()) timer {
	t := &fakeTimer{c, f}
	t.Reset(d)
	return t
}

func (t *fakeTimer) Reset(d time.Duration) bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	_, active := t.clock.timers[t]
	t.clock.timers[t] = t.clock.now.Add(d)
	return active
}

func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	_, active := t.clock.timers[t]
	delete(t.clock.timers, t)
	return active
}

// pass has time pass, and nobody notice.
func (c *fake) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// fire calls what is due.
func (c *fake) fire() {
	c.mu.Lock()
	var due []*fakeTimer
	for t, when := range maps.All(c.timers) {
		if !c.now.Before(when) {
			due = append(due, t)
			delete(c.timers, t)
		}
	}
	c.mu.Unlock()
	for t := range slices.Values(due) {
		t.f()
	}
}

func (c *fake) active() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers)
}
