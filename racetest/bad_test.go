package racetest_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/raceproof/raceproof/racetest"
)

// An actorFunc is an actor.
type actorFunc = func(ctx context.Context, db *sql.DB) error

// counted connects to SQLite, and counts the connections that are open.
type counted struct {
	dsn    string
	opened atomic.Int64
	open   atomic.Int64
	refuse func(n int64) error // of the nth connection
}

func (c *counted) Driver() driver.Driver { return &sqlite3.SQLiteDriver{} }

func (c *counted) Connect(context.Context) (driver.Conn, error) {
	if n := c.opened.Add(1); c.refuse != nil {
		if err := c.refuse(n); err != nil {
			return nil, err
		}
	}
	conn, err := c.Driver().Open(c.dsn)
	if err != nil {
		return nil, err
	}
	c.open.Add(1)
	return &countedConn{SQLiteConn: conn.(*sqlite3.SQLiteConn), of: c}, nil
}

// countedConn can do all that its driver's can.
type countedConn struct {
	*sqlite3.SQLiteConn
	of     *counted
	closed atomic.Bool
}

func (c *countedConn) Close() error {
	if !c.closed.Swap(true) {
		c.of.open.Add(-1)
	}
	return c.SQLiteConn.Close()
}

// scenario is of one player with a score of 10, and needs actors.
func scenario(c *counted, actors racetest.Actors) racetest.Scenario {
	return racetest.Scenario{
		Open: func() (driver.Connector, error) { return c, nil }, Setup: setup, Actors: actors,
		Check: func(context.Context, *sql.DB, map[string]error) error { return nil },
	}
}

// behave runs a scenario, and wants it to end in time with nothing left behind but those goroutines.
func behave(t *testing.T, s racetest.Scenario, ignore ...goleak.Option) (racetest.Result, error) {
	t.Helper()
	return behaveWith(t, s, nil, ignore...)
}

func behaveWith(t *testing.T, s racetest.Scenario, opts []racetest.Option, ignore ...goleak.Option) (racetest.Result, error) {
	t.Helper()
	ignore = append(ignore, goleak.IgnoreCurrent())
	var c *counted
	if open := s.Open; open != nil {
		s.Open = func() (driver.Connector, error) {
			connector, err := open()
			c, _ = connector.(*counted)
			return connector, err
		}
	}
	start := time.Now()
	r, err := racetest.Run(t.Context(), s, opts...)
	assert.Less(t, time.Since(start), 60*time.Second, "the time it took")
	if c != nil {
		assert.Zero(t, c.open.Load(), "connections left open, of %d", c.opened.Load())
	}
	goleak.VerifyNone(t, ignore...)
	return r, err
}

// fails runs a scenario that must fail with this kind, by this actor, and a text that has all of these.
func fails(t *testing.T, s racetest.Scenario, kind racetest.Kind, actor string, texts ...string) *racetest.Failure {
	t.Helper()
	_, err := behave(t, s)
	return failed(t, err, kind, actor, texts...)
}

func failed(t *testing.T, err error, kind racetest.Kind, actor string, texts ...string) *racetest.Failure {
	t.Helper()
	var f *racetest.Failure
	require.ErrorAs(t, err, &f)
	assert.Equal(t, kind, f.Kind, "%v", err)
	assert.Equal(t, actor, f.Actor, "%v", err)
	for _, text := range texts {
		assert.Contains(t, err.Error(), text)
	}
	return f
}

// with returns an actor that reads and writes as it should, but for what it does at one place: before its first statement
// (0), between the two (1), or after its last (2).
func with(place int, bad actorFunc) actorFunc {
	return func(ctx context.Context, db *sql.DB) error {
		do := []actorFunc{look, write}
		for i := range 3 {
			if i == place {
				if err := bad(ctx, db); err != nil {
					return err
				}
			}
			if i < len(do) {
				if err := do[i](ctx, db); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func look(ctx context.Context, db *sql.DB) error {
	var score int
	return db.QueryRowContext(ctx, "SELECT score FROM players WHERE id = 7").Scan(&score)
}

func write(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "UPDATE players SET score = score + 1 WHERE id = 7")
	return err
}
