package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// A pattern is a way to keep updates from being lost.
type pattern string

const (
	atomicPattern     pattern = "atomic"
	optimisticPattern pattern = "optimistic"
	lockPattern       pattern = "lock"
)

// A setting is what the contenders are compared under.
type setting struct {
	pattern        pattern
	cancellable    bool // the context can be cancelled, as that of every HTTP request can
	statementCache bool // the driver keeps prepared statements by their text
}

// settings returns all of them, those side by side that only differ in the pattern.
func settings() []setting {
	var all []setting
	for _, cancellable := range []bool{false, true} {
		for _, statementCache := range []bool{false, true} {
			for _, p := range []pattern{atomicPattern, optimisticPattern, lockPattern} {
				all = append(all, setting{p, cancellable, statementCache})
			}
		}
	}
	return all
}

// String names the setting as benchmarks are named, for benchstat to tell the parts apart.
func (s setting) String() string {
	return fmt.Sprintf("pattern=%s/ctx=%s/stmtcache=%s", s.pattern,
		choose(s.cancellable, "cancel", "bg"), choose(s.statementCache, "on", "off"))
}

// fileName names the setting in the name of a file.
func (s setting) fileName() string {
	return strings.NewReplacer("/", "-", "=", "-").Replace(s.String())
}

// context returns the context that all updates of a run are called with.
func (s setting) context() (context.Context, context.CancelFunc) {
	if s.cancellable {
		return context.WithCancel(context.Background())
	}
	return context.Background(), func() {}
}

func choose(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

// An update adds points to the score of a player, and one to the version, and returns the row as it is afterwards.
type update func(ctx context.Context, id int64) (Player, error)

// A client is a contender at work on its own database.
type client struct {
	update update
	db     *sql.DB
}

// A contender is one way to write the updates. They all do the same job, which the tests and every run check.
type contender struct {
	name string // in tables
	key  string // in the names of benchmarks and files
	open func(dsn string, p pattern) (*client, error)
}

// The keys of the contenders that the goals compare.
const (
	ours = "ours"
	hand = "sql"
	orm  = "gorm"
)

// contenders returns all of them, in the order of the tables.
func contenders() []contender {
	return []contender{
		{"raceproof", ours, openOurs},
		{"database/sql", hand, openHand},
		{"sqlx", "sqlx", openSqlx},
		{"GORM", orm, openGORM},
	}
}

// start makes a database below dir and opens the contender on it.
func (c contender) start(dir string, rows int, s setting) (*client, error) {
	dsn, err := newDatabase(dir, s.fileName()+"-"+c.key, rows, s)
	if err != nil {
		return nil, err
	}
	cl, err := c.open(dsn, s.pattern)
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

// open opens a pool as every contender's is set up. It does not connect.
func open(dsn string) (*sql.DB, error) {
	db, err := sql.Open("sqlite3", dsn)
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
