package raceproof

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/session"
)

// A DB is a service's pool of connections, and what its updaters share: the transactions that contexts carry and, on
// SQLite, the queue of writers. Make one DB per pool: the transactions of two DBs are strangers to each other, and wait
// for each other. It is safe for concurrent use.
//
// A statement that travels over a network is not cut off at the moment when its context ends but 50 milliseconds later,
// if it is not over by then: that costs the connection, and if it was a COMMIT, or a write that is a transaction of its
// own, it leaves open what became of it (ErrCommitUnknown). With a deadline the server itself gives up waiting for a lock
// in time, so give contexts deadlines.
type DB struct {
	pool     *session.Pool
	attempts *session.Attempts // of transactions, unless they say otherwise
}

// An Option tells New what it cannot find out by itself.
type Option func(*options)

type options struct {
	dialect    string
	unprepared bool
}

// WithDialect names the dialect of the database, for drivers that New does not know, such as one that wraps another to
// trace it: "sqlite"; "postgres", also for CockroachDB and YugabyteDB; "mysql", also for MariaDB, Galera and TiDB.
func WithDialect(name string) Option {
	return func(o *options) { o.dialect = name }
}

// WithoutPreparing keeps the library from preparing statements, and from keeping connections with them, on SQLite and on
// MariaDB and MySQL. It costs speed, on MariaDB unless the DSN says interpolateParams=true. Say both on a Galera cluster
// where several nodes write the same rows: prepared statements lose updates there, by Galera's own doing.
func WithoutPreparing() Option {
	return func(o *options) { o.unprepared = true }
}

// New wraps a pool of connections. The dialect is found by the driver, which New does not import: mattn/go-sqlite3,
// modernc.org/sqlite and ncruces/go-sqlite3 are SQLite's, pgx (stdlib) and lib/pq PostgreSQL's, go-sql-driver/mysql
// that of MariaDB and MySQL. A driver that it does not know is an error that names the known ones.
//
// A pool over SQLite's ":memory:" must be limited to one connection (SetMaxOpenConns(1)) before New is called: each
// connection would open an empty database of its own. New asks the database for that, and so also reports a pool that
// is closed, cannot be opened, or has no connection to give within 10 seconds. A database across a network New does not
// ask for anything: what is wrong with it is reported by the first update.
//
// What the connections of MariaDB and MySQL must be set to is said in the package documentation. The first connection is
// looked at, and if it is not, every update is an error that says so.
func New(db *sqlx.DB, opts ...Option) (*DB, error) {
	if db == nil || db.DB == nil {
		return nil, errors.New("raceproof: the pool is nil")
	}
	var o options
	for _, option := range opts {
		option(&o)
	}
	d, err := findDialect(db, o)
	if err != nil {
		return nil, fmt.Errorf("raceproof: %w", err)
	}
	pool := session.NewPool(db, d, !o.unprepared)
	ctx, cancel := context.WithTimeout(context.Background(), newTimeout)
	defer cancel()
	if err := pool.CheckShared(ctx); err != nil {
		return nil, err
	}
	return &DB{pool, pool.Attempts(session.DefaultPolicy)}, nil
}

// newTimeout bounds how long New waits for a connection of a pool that is in use already.
const newTimeout = 10 * time.Second

func findDialect(db *sqlx.DB, o options) (*dialect.Dialect, error) {
	if o.dialect != "" {
		return dialect.ByName(o.dialect)
	}
	t := reflect.TypeOf(db.Driver())
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return dialect.ByDriver(db.DriverName(), t.PkgPath())
}

// Ext returns the handle for the caller's own SQL: inside a transaction of this DB, which the context of a function
// given to Transact or to a locking updater carries, that transaction, and outside the pool.
//
// In a transaction one statement runs at a time, and only with the context of the innermost function that is running.
// Once that function has returned, the handle returns ErrFinished, and rows that are still open are closed; on PostgreSQL
// and MariaDB close them before you send anything else.
//
// Outside of one, statements run as the pool runs them: on SQLite a write neither queues with those of the updaters nor
// notices while it waits for the lock that its context has ended, and across a network database/sql can send a write a
// second time by itself whose answer was lost (with pgx 5.9 to 5.12 it does). Inside Transact it does none of that.
func (db *DB) Ext(ctx context.Context) sqlx.ExtContext { return db.pool.Ext(ctx) }

// Close waits for the writers that were there before it, and gives the writers' connection back to the pool if it is
// kept. Updates and transactions that begin later, and the writes of optimistic updates under way, are refused with
// ErrClosed. Do not call it inside a transaction: it would wait for itself. Close the DB before the pool: the pool's own
// Close does not close a connection that is kept, which then stays open for another 20 milliseconds, and SQLite moves
// its log into the database's file only when the last connection is closed.
func (db *DB) Close() { db.pool.Close() }

// Pool is for the packages of this module, which alone can name its type.
func (db *DB) Pool() *session.Pool { return db.pool }
