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
type DB struct {
	pool *session.Pool
}

// An Option tells New what it cannot find out by itself.
type Option func(*options)

type options struct{ dialect string }

// WithDialect names the dialect of the database, for drivers that are registered under a name of the service's own:
// "sqlite".
func WithDialect(name string) Option {
	return func(o *options) { o.dialect = name }
}

// New wraps a pool of connections. The dialect is found by the driver, which New does not import; a driver that it
// does not know is an error that names the known ones.
//
// A pool over SQLite's ":memory:" must be limited to one connection (SetMaxOpenConns(1)) before New is called: each
// connection would open an empty database of its own. New asks the database for that, and so also reports a pool that
// is closed, cannot be opened, or has no connection to give within 10 seconds.
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
	pool := session.NewPool(db, d)
	ctx, cancel := context.WithTimeout(context.Background(), newTimeout)
	defer cancel()
	if err := pool.CheckShared(ctx); err != nil {
		return nil, err
	}
	return &DB{pool}, nil
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
// Once that function has returned, the handle returns ErrFinished, and rows that are still open are closed. Outside of one, statements run as the pool runs them: on SQLite a write neither queues with those of the
// updaters nor notices while it waits for the lock that its context has ended. Inside Transact it does both.
func (db *DB) Ext(ctx context.Context) sqlx.ExtContext { return db.pool.Ext(ctx) }

// Transact calls f in a transaction. Every updater of this DB that is called with f's context takes part in it, and
// [DB.Ext] gives the handle for other statements. If f returns nil and the context has not ended, the transaction is
// committed. If f returns an error, or panics, or ends its goroutine, or if the context has ended, it is rolled back;
// the error is returned as it is.
//
// Called with a context that carries a transaction of this DB, Transact is a savepoint of it: an error takes back what
// f did and leaves the rest. While f runs, the context of the function around it can send nothing: use the one that the
// innermost function was given, from one goroutine at a time. Anything else is an error.
//
// On SQLite the transaction takes the write lock when it begins (BEGIN IMMEDIATE), whatever the pool's DSN says.
// Transact does not call f a second time.
//
// If the database has given up the whole transaction, because of an interrupted write or a full disk, or because f has
// ended it by a statement of its own, every later statement and Transact itself return an error that wraps ErrFinished,
// also if f has swallowed the first. Leave COMMIT and ROLLBACK to Transact.
func (db *DB) Transact(ctx context.Context, f func(context.Context) error) error {
	if f == nil {
		return errors.New("raceproof: Transact: the function is nil")
	}
	return db.pool.Transact(ctx, func(ctx context.Context, _ *session.Tx) error { return f(ctx) })
}

// Close waits for the writers that were there before it, and gives the writers' connection back to the pool if it is
// kept. Updates and transactions that begin later, and the writes of optimistic updates under way, are refused with
// ErrClosed. Do not call it inside a transaction: it would wait for itself. Close the DB before the pool: the pool's own
// Close does not close a connection that is kept, which then stays open for another 20 milliseconds, and SQLite moves
// its log into the database's file only when the last connection is closed.
func (db *DB) Close() { db.pool.Close() }

// Pool is for the packages of this module, which alone can name its type.
func (db *DB) Pool() *session.Pool { return db.pool }
