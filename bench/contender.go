package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// An update adds points to the score of a player, and one to the version, and returns the row as it is afterwards.
type update func(ctx context.Context, id int64) (Player, error)

// A client is a contender at work on its own database.
type client struct {
	update update
	db     *sql.DB
	close  func() error
}

// working returns a client that works on the pool, or closes the pool.
func working(u update, db *sql.DB, err error) (*client, error) {
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &client{u, db, db.Close}, nil
}

// A contender is one way to write the updates. They all do the same job, which the tests and every run check.
type contender struct {
	name string // in tables
	key  string // in the names of benchmarks
	open func(dsn string, s setting) (*client, error)
}

// The keys of the contenders.
const (
	ours      = "ours"
	hand      = "sql"
	handSqlx  = "sqlx"
	native    = "pgx"
	generator = "bun"
	orm       = "gorm"
)

// contenders returns all that there are on a database, in the order of the tables.
func contenders(d database) []contender {
	all := []contender{
		{"raceproof", ours, openOurs},
		{"database/sql", hand, openHand},
		{"sqlx", handSqlx, openSqlx},
	}
	if d == postgres {
		all = append(all, contender{"pgx", native, openPgx})
	}
	return append(all, contender{"bun", generator, openBun}, contender{"GORM", orm, openGORM})
}

// start makes a database and opens the contender on it.
func (c contender) start(h *host, rows int, s setting) (*client, error) {
	dsn, err := h.newDatabase(rows, s)
	if err != nil {
		return nil, err
	}
	cl, err := c.open(dsn, s)
	if err != nil {
		return nil, fmt.Errorf("open %s for %s: %w", c.name, s, err)
	}
	return cl, nil
}

// errLost is what a contender gets that did not do its job.
var errLost = errors.New("updates were lost")

// check compares the table with the number of updates that were acknowledged since it was made.
func (cl *client) check(acknowledged int) error {
	var scores, versions int
	if err := cl.db.QueryRow("SELECT sum(score), sum(version) FROM players").Scan(&scores, &versions); err != nil {
		return fmt.Errorf("read the sums: %w", err)
	}
	if scores != acknowledged*points || versions != acknowledged {
		return fmt.Errorf("%w: %d were acknowledged, the scores add up to %d and the versions to %d",
			errLost, acknowledged, scores, versions)
	}
	return nil
}

// poolSize is the number of connections that every contender's pool may open, and may keep.
const poolSize = 4

// open opens a pool as every contender's is set up. It does not connect.
func open(dsn string, s setting) (*sql.DB, error) {
	db, err := sql.Open(s.database.driver(), dsn)
	if err != nil {
		return nil, err
	}
	limit(db)
	return db, nil
}

func limit(db *sql.DB) {
	db.SetMaxOpenConns(poolSize)
	db.SetMaxIdleConns(poolSize)
}
