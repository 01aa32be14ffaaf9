package serial_test

import (
	"context"
	"sync"
	counter "sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/testdb"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/serial"
)

type player struct {
	ID      int64 `db:"id"`
	Score   int64 `db:"score"`
	Version int64 `db:"version"`
}

type change = raceproof.Func[player]

var players = raceproof.MustTable[player]("players")

func open(t *testing.T) *raceproof.DB {
	t.Helper()
	_, db := testdb.SQLite(t, `CREATE TABLE players (id INTEGER PRIMARY KEY, score INTEGER NOT NULL, version INTEGER NOT NULL)`,
		`INSERT INTO players VALUES (1, 0, 0), (2, 0, 0)`)
	return db
}

func add(_ context.Context, p *player) error { p.Score++; return nil }

// none is an updater that is none of this module's.
type none struct{}

func (*none) Update(context.Context, any, change) (player, error) { return player{}, nil }

// What cannot be wrapped, and what is said of it.
func TestWrapRefuses(t *testing.T) {
	db := open(t)
	good := lock.New(db, players, nil)
	var typed *lock.Updater[player]
	for name, c := range map[string]struct {
		u    raceproof.Updater[player, change]
		opts []serial.Option
		says string
	}{
		"nil":             {nil, nil, "the updater is nil"},
		"typed nil":       {typed, nil, "the updater is nil"},
		"wrapped":         {serial.Wrap(good), nil, "wrapped already"},
		"foreign":         {&none{}, nil, "*serial_test.none"},
		"bound":           {raceproof.Bind(good, func(c change) change { return c }), nil, "before raceproof.Bind"},
		"with mistakes":   {lock.New(nil, players, nil), nil, "DB is nil"},
		"once, mistakes":  {once.Wrap[player, change](lock.New(nil, players, nil)), nil, "DB is nil"},
		"GroupLimit":      {good, []serial.Option{serial.GroupLimit(0)}, "GroupLimit is 0"},
		"GroupBytes":      {good, []serial.Option{serial.GroupBytes(-1)}, "GroupBytes is -1"},
		"MaxWaiting":      {good, []serial.Option{serial.MaxWaiting(-7)}, "MaxWaiting is -7"},
		"MaxWaitingBytes": {good, []serial.Option{serial.MaxWaitingBytes(0)}, "MaxWaitingBytes is 0"},
	} {
		hot := serial.Wrap(c.u, c.opts...)
		assert.ErrorContains(t, hot.Err(), c.says, name)
		assert.ErrorContains(t, hot.Err(), "serial: Wrap: ", name)
		p, err := hot.Update(t.Context(), 1, add)
		assert.Equal(t, hot.Err(), err, name)
		assert.Zero(t, p, name)
		assert.Equal(t, hot.Err(), hot.Close(t.Context()), name)
		assert.Zero(t, hot.Stats(), name)
	}
	for name, o := range map[string]lock.Options{
		"NoWait": {NoWait: true}, "WaitAtMost": {WaitAtMost: time.Second}, "UpdateFirst": {UpdateFirst: true},
	} {
		u := lock.New(db, players, &o)
		require.NoError(t, u.Err(), name)
		hot := serial.Wrap[player, change](u)
		assert.ErrorIs(t, hot.Err(), raceproof.ErrUnsupported, name)
		assert.ErrorContains(t, hot.Err(), name)
	}
}

// What can be, tells what it is of.
func TestWrap(t *testing.T) {
	db := open(t)
	require.NoError(t, once.CreateTable(t.Context(), db))
	byLock := lock.New(db, players, nil)
	for name, u := range map[string]raceproof.Updater[player, change]{
		"lock": byLock, "optimistic": optimistic.New(db, players, nil), "once": once.Wrap[player, change](byLock),
	} {
		hot := serial.Wrap(u)
		require.NoError(t, hot.Err(), name)
		assert.Same(t, db, hot.DB(), name)
		assert.Equal(t, "players", hot.Table(), name)
		_, err := hot.Update(t.Context(), 1, add)
		assert.NoError(t, err, name)
		assert.Equal(t, serial.Stats{Alone: 1}, hot.Stats(), name)
		bound := raceproof.Bind(hot, func(int) change { return add })
		assert.NoError(t, bound.(interface{ Err() error }).Err(), name)
		assert.Same(t, db, bound.(interface{ DB() *raceproof.DB }).DB(), name)
	}
	hot := serial.Wrap(atomic.New(db, players, nil))
	require.NoError(t, hot.Err())
	p, err := hot.Update(t.Context(), 1, atomic.Set("score", atomic.F("score").Add(1)))
	assert.NoError(t, err)
	assert.Equal(t, player{1, 4, 4}, p)
}

// Close of who has nothing to do is done at once; a function that is nil is told as without the wrap.
func TestIdle(t *testing.T) {
	db := open(t)
	u := lock.New(db, players, nil)
	hot := serial.Wrap(u)
	_, want := u.Update(t.Context(), 1, nil)
	_, err := hot.Update(t.Context(), 1, nil)
	assert.EqualError(t, err, want.Error())
	ended, end := context.WithCancel(t.Context())
	end()
	assert.NoError(t, hot.Close(ended), "there is nobody to wait for")
	assert.NoError(t, hot.Close(t.Context()))
	_, err = hot.Update(t.Context(), 1, add)
	assert.ErrorIs(t, err, raceproof.ErrClosed)
	assert.ErrorContains(t, err, "players")
}

// A crowd waits for one caller, whose function goes on until it is let go. On SQLite he holds the only write lock, so that
// nobody is served before.
type crowd struct {
	t     *testing.T
	hot   *serial.Updater[player, change]
	wg    sync.WaitGroup
	leave chan struct{}

	made, refused counter.Int64
}

func gather(t *testing.T, hot *serial.Updater[player, change]) *crowd {
	t.Helper()
	c := &crowd{t: t, hot: hot, leave: make(chan struct{})}
	inside := make(chan struct{})
	c.wg.Go(func() {
		_, err := hot.Update(t.Context(), 1, func(_ context.Context, p *player) error {
			close(inside)
			<-c.leave
			p.Score++
			return nil
		})
		assert.NoError(t, err)
		c.made.Add(1)
	})
	<-inside
	return c
}

// call starts a caller, who can be refused with an error.
func (c *crowd) call(refused error) {
	c.wg.Go(func() {
		_, err := c.hot.Update(c.t.Context(), 1, add)
		if err == nil {
			c.made.Add(1)
			return
		}
		assert.ErrorIs(c.t, err, refused)
		assert.NotErrorIs(c.t, err, raceproof.ErrLocked)
		c.refused.Add(1)
	})
}

func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited in vain: " + what)
		}
	}
}

// Not more may wait than are allowed to; who is refused has changed nothing, and who waits is served.
func TestOverloaded(t *testing.T) {
	for name, o := range map[string]serial.Option{"callers": serial.MaxWaiting(8), "bytes": serial.MaxWaitingBytes(4_000)} {
		db := open(t)
		hot := serial.Wrap(lock.New(db, players, nil), o)
		c := gather(t, hot)
		until(t, "somebody is refused", func() bool {
			for range 40 { // at once: some are always taken out, to be served
				c.call(raceproof.ErrOverloaded)
			}
			return c.refused.Load() > 0
		})
		if name == "callers" {
			assert.LessOrEqual(t, hot.Stats().Waiting, 8)
		} else {
			assert.LessOrEqual(t, hot.Stats().WaitingBytes, 4_000)
			assert.Positive(t, hot.Stats().WaitingBytes)
		}
		close(c.leave)
		c.wg.Wait()
		p, err := hot.Update(t.Context(), 1, add)
		assert.NoError(t, err, name)
		s := hot.Stats()
		assert.EqualValues(t, c.made.Load()+1, p.Score, "%s: all who were not refused", name)
		assert.Greater(t, s.LargestGroup, 1, name)
		assert.Zero(t, s.Waiting, name)
		assert.Zero(t, s.WaitingBytes, name)
	}
}

// Groups are no larger than they may be.
func TestGroupLimits(t *testing.T) {
	for name, o := range map[string]serial.Option{"callers": serial.GroupLimit(7), "bytes": serial.GroupBytes(1_500)} {
		db := open(t)
		hot := serial.Wrap(lock.New(db, players, nil), o)
		c := gather(t, hot)
		for range 40 {
			c.call(nil)
		}
		until(t, "they wait", func() bool { s := hot.Stats(); return s.Waiting >= 20 })
		close(c.leave)
		c.wg.Wait()
		s := hot.Stats()
		assert.Greater(t, s.Groups, uint64(2), name)
		assert.LessOrEqual(t, s.LargestGroup, 7, name)
		assert.Greater(t, s.LargestGroup, 1, name)
		p, err := hot.Update(t.Context(), 1, add)
		assert.NoError(t, err, name)
		assert.EqualValues(t, 42, p.Score, name)
	}
}
