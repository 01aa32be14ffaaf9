package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync/atomic"
)

// An update adds points to the score of a player, and one to the version, and returns the row as it is afterwards.
type update func(ctx context.Context, id int64) (Player, error)

// A client is a contender at work on its own database.
type client struct {
	update update
	db     *sql.DB
	close  func() error
	rest   func() // gives all connections back; nil if the pool does so when it may keep none

	job
	acknowledged int // updates since the database was made
}

// working returns a client that works on the pool, or closes the pool.
func working(u update, db *sql.DB, err error) (*client, error) {
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &client{update: u, db: db, close: db.Close}, nil
}

// A job is what a contender is to do, and the means that it has.
type job struct {
	setting
	pool  int          // how many connections it may open, and may keep
	pause bool         // whether optimistic waits before it tries again
	over  *atomic.Bool // whether the turn is over: who would try again then gives up instead
}

// A family is what contenders are in the eyes of the goals.
type family int

const (
	raceproofFamily family = iota
	handFamily
	peerFamily
)

// A contender is one way to write the updates. They all do the same job, which the tests and every run check.
type contender struct {
	name   string // in tables and curves
	key    string // in the names of benchmarks
	family family
	open   func(dsn string, j job) (*client, error)

	pool  int
	pause bool // of the optimistic pattern
}

// variant is what is the same for all sizes of the pool.
func (c contender) variant() string {
	return c.name + choose(c.pause && c.family == handFamily, ", pausing", "")
}

// label tells those by hand apart.
func (c contender) label() string {
	if c.family != handFamily {
		return c.name
	}
	return fmt.Sprintf("%s, %d", c.variant(), c.pool)
}

// The keys of the contenders.
const (
	ours       = "ours"
	oursSerial = "serial"
	hand       = "sql"
	handSqlx   = "sqlx"
	native     = "pgx"
	generator  = "bun"
	orm        = "gorm"
	builder    = "ent"
)

// contenders returns all that there are on a database, in the order of the tables, as they are with one caller.
func contenders(d database) []contender {
	all := []contender{
		{name: "serial", key: oursSerial, open: openSerial},
		{name: "unwrapped", key: ours, open: openOurs},
		{name: "database/sql", key: hand, family: handFamily, open: openHand},
		{name: "sqlx", key: handSqlx, family: handFamily, open: openSqlx},
	}
	if d == postgres {
		all = append(all, contender{name: "pgx", key: native, family: handFamily, open: openPgx})
	}
	all = append(all,
		contender{name: "GORM", key: orm, family: peerFamily, open: openGORM},
		contender{name: "bun", key: generator, family: peerFamily, open: openBun},
		contender{name: "ent", key: builder, family: peerFamily, open: openEnt})
	for i := range all {
		all[i].pool = few
	}
	return all
}

// few connections are enough for one caller, and for SQLite, which has one writer at a time.
const few = 4

// contestants returns all that there are where callers meet, those by hand by the sizes of their pools.
func contestants(d database, p pattern) (all []contender) {
	for _, pool := range []int{few, 16, 64} {
		for _, c := range contenders(d) {
			c.pool = pool
			if c.family == handFamily {
				all = append(all, c)
			}
			if c.pause = p == optimisticPattern; c.pause && c.family == handFamily {
				all = append(all, c)
			}
		}
	}
	if d == sqlite {
		all = append(all, contender{name: "database/sql, one writer", key: hand, family: handFamily, pool: 1, open: openHand},
			contender{name: "database/sql, mutex", key: hand, family: handFamily, pool: few, open: openMutex})
	}
	for _, c := range contenders(d) {
		if c.family != handFamily {
			c.pool, c.pause = choose(d == sqlite, few, 16), p == optimisticPattern
			all = append(all, c)
		}
	}
	return all
}

// start makes a database and opens the contender on it.
func (c contender) start(h *host, rows int, s setting) (*client, error) {
	dsn, err := h.newDatabase(rows, s)
	if err != nil {
		return nil, err
	}
	j := job{setting: s, pool: c.pool, pause: c.pause, over: new(atomic.Bool)}
	cl, err := c.open(dsn, j)
	if err != nil {
		return nil, fmt.Errorf("open %s for %s: %w", c.name, s, err)
	}
	cl.job = j
	return cl, nil
}

// errLost is what a contender gets that did not do its job.
var errLost = errors.New("updates were lost")

// check compares the table with the number of updates that were acknowledged.
func (cl *client) check() error {
	var scores, versions int
	if err := cl.db.QueryRow("SELECT sum(score), sum(version) FROM players").Scan(&scores, &versions); err != nil {
		return fmt.Errorf("read the sums: %w", err)
	}
	if scores != cl.acknowledged*points || versions != cl.acknowledged {
		return fmt.Errorf("%w: %d were acknowledged, the scores add up to %d and the versions to %d",
			errLost, cl.acknowledged, scores, versions)
	}
	return nil
}

// connect opens a pool as every contender's is set up. It does not connect.
func (j job) connect(dsn string) (*sql.DB, error) {
	db, err := sql.Open(j.database.driver(), dsn)
	if err != nil {
		return nil, err
	}
	limit(db, j.pool)
	return db, nil
}

func limit(db *sql.DB, connections int) {
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
}
