// Package lock changes rows under a lock that is held from the read to the commit: the pessimistic way. Nobody else
// can change the row meanwhile, so the caller's function may be any Go code, may use the database through its context, and
// runs once, unless the database itself refuses the transaction. It is the right choice when the computation cannot be
// repeated, or when callers meet on the same rows so often that repeating would be all they do.
//
// [Updater.Update] changes one row, [Updater.UpdateMany] several, in an order in which two calls never wait for each other,
// [Updater.Upsert] one that may not be there yet. [Select] and [SelectWhere] lock rows inside a transaction, for work that is
// more than one update. [Options] say how strong the lock is, and what becomes of one that somebody else holds.
//
// On PostgreSQL the lock is SELECT ... FOR NO KEY UPDATE, which keeps everybody from changing or deleting the row, and
// nobody from inserting rows that refer to it; on MariaDB and MySQL it is SELECT ... FOR UPDATE. On SQLite, which locks no
// rows, it is the database's one write lock, taken by BEGIN IMMEDIATE on a connection of its own: keep functions short
// there. On a Galera cluster FOR UPDATE locks on one node only, and COMMIT refuses what somebody has changed on another:
// then change runs again, as below. What was locked and not changed COMMIT does not refuse: see [Options].UpdateFirst.
//
// Callers of one row queue in this process, first come first served and without a connection; only a few of them at a time
// get to the database, at most half of the pool. So a row that a thousand callers want at once leaves connections for those
// who want another one. In a transaction there is no queue: a connection is held already.
package lock

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/session"
)

// An Updater changes rows of one table under their locks. It is safe for concurrent use.
type Updater[T any] struct {
	table   *row.Table[T]
	lock    *row.Lock // of a row that a key tells
	waiting int       // how many callers of this process may wait for one row
	err     error
}

var _ raceproof.Updater[struct{}, raceproof.Func[struct{}]] = (*Updater[struct{}])(nil)

// New returns an updater of the table. What is wrong with its arguments, and raceproof.ErrUnsupported if the database does not
// have what the options ask for, is reported by Err, and by every update; only whether a server is MySQL, which lacks
// WaitAtMost, is found out by the first update.
func New[T any](db *raceproof.DB, table *raceproof.Table[T], options *Options) *Updater[T] {
	if options == nil {
		options = &Options{}
	}
	u := &Updater[T]{waiting: options.waiting()}
	t, err := row.NewTable(db, table)
	if err == nil {
		u.lock, err = updating(t, options)
	}
	u.table, u.err = t, row.Invalid("lock.New", err)
	return u
}

// updating returns the lock that an updater takes.
func updating[T any](t *row.Table[T], o *Options) (*row.Lock, error) {
	switch {
	case o.Limit != 0:
		return nil, errors.New("only SelectWhere has a Limit")
	case o.Strength == KeyShare || o.Strength == Share:
		return nil, fmt.Errorf("%v lets others lock the row too: an updater needs NoKeyUpdate or Update", o.Strength)
	}
	return byKey(t, o)
}

// byKey returns the lock of a row that a key tells.
func byKey[T any](t *row.Table[T], o *Options) (*row.Lock, error) {
	l, err := o.locking(t.Mapping.Table)
	if err != nil {
		return nil, err
	}
	if err := t.Pool.Dialect().CheckLocking(l); err != nil {
		return nil, fmt.Errorf("%w: %w", raceproof.ErrUnsupported, err)
	}
	if l.SkipLocked { // there is one row, and nothing to skip it for
		l.SkipLocked, l.None = false, true
	}
	return t.NewLock(l)
}

// Err returns what was wrong with the arguments of New, so that a service can check it where it starts. Nothing but
// errors comes from an updater for which it is not nil.
func (u *Updater[T]) Err() error { return u.err }

// DB returns the DB that the updater was made with, or nil if it was made with mistakes.
func (u *Updater[T]) DB() *raceproof.DB { return u.table.Of() }

// Table returns the name of the table whose rows the updater changes, or "" if it was made with mistakes.
func (u *Updater[T]) Table() string { return u.table.Name() }

// Grouping is for package serial, which alone can name its type.
func (u *Updater[T]) Grouping() (*row.Grouping[T, raceproof.Func[T]], error) {
	l := u.lock.Locking
	if l.Wait != (dialect.Wait{}) || l.First {
		return nil, fmt.Errorf("%w: an updater with NoWait, SkipLocked, WaitAtMost or UpdateFirst: others wait with its callers, and its row is locked once for all of them",
			raceproof.ErrUnsupported)
	}
	locks, err := u.table.NewLocks(l)
	return &row.Grouping[T, raceproof.Func[T]]{Table: u.table, Locks: locks, Func: func(f raceproof.Func[T]) raceproof.Func[T] { return f }}, err
}

// Update locks the row with the key, calls change with it, writes the columns that change has changed, and returns
// the row as it is then; fields of T that are no columns are zero in it. On PostgreSQL it is without what AFTER triggers
// make of it. If change has changed nothing, nothing is written. The transaction that holds the lock travels
// in change's context: updaters and raceproof.DB.Ext called with it take part in it, called with another context they
// would wait for it for ever. Called with a context that carries a transaction, Update takes part in that one, and the
// lock is held until that one ends.
//
// If the database refuses the transaction, because of a deadlock, a serialization failure or a certification conflict, it
// is rolled back, and after a pause all of it is done again, change included, up to 64 times, or until the context ends, as
// raceproof.DB.Transact does it with its function and the zero RetryPolicy; also if it is change's own statements, or other
// updaters that it calls with its context, that are refused. At
// the default isolation levels of PostgreSQL and MariaDB, and on SQLite, that takes a deadlock, which change brings about
// only if it locks other rows. Within a caller's transaction nothing is done again: only the whole of it could be.
//
// An error that does not wrap raceproof.ErrCommitUnknown means that nothing was changed, by change's own statements
// neither. It is the error that change returned, as it is; or one that wraps raceproof.ErrNotFound; raceproof.ErrLocked,
// if the lock could not be had before the context ended or, if the context cannot end, for as long as the connection is set
// to wait (SQLite: busy_timeout, PostgreSQL: lock_timeout, MariaDB: innodb_lock_wait_timeout); raceproof.ErrConflict, if
// change has changed or deleted the row by statements of its own, or if every attempt was refused; raceproof.ErrOverloaded,
// if as many callers of this process wait for the row as may; the context's error and cause, if it ended, which takes back
// what change did; or the driver's error.
func (u *Updater[T]) Update(ctx context.Context, key any, change raceproof.Func[T]) (T, error) {
	var none T
	if u.err != nil {
		return none, u.err
	}
	r, err := u.update(ctx, key, change)
	if err != nil {
		return none, u.table.Wrap(key, err)
	}
	return r.Value, nil
}

func (u *Updater[T]) update(ctx context.Context, key any, change raceproof.Func[T]) (r *row.Row[T], err error) {
	if change == nil {
		return nil, errNoFunc
	}
	k, err := u.table.NewKey(key)
	if err != nil {
		return nil, err
	}
	if err := u.table.AskPlain(ctx); err != nil {
		return nil, err
	}
	err = u.locked(ctx, []row.Key{k}, func(ctx context.Context, tx *session.Tx, l *row.Lock) error {
		if r, err = u.table.Lock(ctx, tx, k, l); err != nil {
			return err
		}
		r.TrustPlain()
		return u.change(ctx, tx, r, change)
	})
	return r, err
}

var errNoFunc = errors.New("the function is nil")

// locked calls f in a transaction that is to lock the rows with the keys, in the order of which they are waited for in this
// process, again and again as long as the database refuses it on account of others.
func (u *Updater[T]) locked(ctx context.Context, keys []row.Key, f func(context.Context, *session.Tx, *row.Lock) error) error {
	if err := u.table.VerifyFor(ctx, u.lock.Locking); err != nil {
		return err
	}
	return u.table.Attempt(ctx, u.table.Attempts, func() error {
		start := time.Now()
		turns := u.table.Pool.Turns()
		defer turns.End()
		for _, key := range keys {
			if err := turns.Wait(ctx, u.table.Mapping.Table, key, u.waiting, u.lock.Until(start).Wait); err != nil {
				return err
			}
		}
		o := session.TxOptions{Turns: turns}
		if !u.table.Pool.InTransaction(ctx) {
			o.Wait = u.lock.Until(start).Wait
		}
		return u.table.Pool.TransactWith(ctx, o, func(ctx context.Context, tx *session.Tx) error {
			return f(ctx, tx, u.lock.Until(start))
		})
	})
}

// change has the function change a row that is locked in the transaction, and writes it.
func (u *Updater[T]) change(ctx context.Context, tx *session.Tx, r *row.Row[T], change raceproof.Func[T]) error {
	sent := tx.Statements()
	if err := r.Apply(ctx, change); err != nil {
		return err
	}
	tx.CloseRows(ctx)
	return r.WriteLocked(ctx, tx, tx.Statements() != sent)
}
