// Package optimistic changes rows without locking them: it reads a row, computes, and writes only if the row's version
// is still the one that was read; else somebody else was faster, and it starts again. Readers and writers of other rows
// wait for nobody, and nothing is held while the caller's function runs, however long it takes. It is the right choice
// when callers seldom meet on a row.
//
// The caller's function may run many times, and only the last run counts: it must do nothing but compute.
package optimistic

import (
	"context"
	"errors"
	"fmt"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/session"
)

// An Updater changes rows of one table that has a version column. It is safe for concurrent use.
type Updater[T any] struct {
	table    *row.Table[T]
	attempts *session.Attempts
	err      error
}

var _ raceproof.Updater[struct{}, raceproof.Func[struct{}]] = (*Updater[struct{}])(nil)

// Options are what can be chosen. The zero value, and a nil *Options, stand for the defaults.
type Options struct {
	// Retry says how often the row is read, changed and tried to be written, and how long to pause in between.
	Retry raceproof.RetryPolicy
}

// New returns an updater of the table, which must have a version column. What is wrong with its arguments is reported
// by Err, and by every Update.
func New[T any](db *raceproof.DB, table *raceproof.Table[T], options *Options) *Updater[T] {
	if options == nil {
		options = &Options{}
	}
	u := &Updater[T]{}
	t, err := row.NewTable(db, table)
	if err == nil && t.Counter == "" {
		err = fmt.Errorf("table %q has no version column: map a field to one, tag a field `db:\"name,version\"`, or use WithVersion", t.Mapping.Table)
	}
	if err == nil {
		var policy session.Policy
		policy, err = session.Policy(options.Retry).Filled()
		u.attempts = t.Pool.Attempts(policy)
	}
	u.table, u.err = t, row.Invalid("optimistic.New", err)
	return u
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
	return &row.Grouping[T, raceproof.Func[T]]{Table: u.table, Func: func(f raceproof.Func[T]) raceproof.Func[T] { return f }}, nil
}

// Update reads the row with the key, calls change with it, and writes the columns that change has changed if the row's
// version is still the one that was read. If it is not, Update pauses and does it all again. It returns the row as it
// is after the write; on PostgreSQL, and on SQLite outside a transaction, without what AFTER triggers make of it. Fields of
// T that are no columns are zero. If change has changed nothing, nothing is written. Where the database refuses a
// statement, because of a deadlock or a serialization failure, that is a conflict too.
//
// Called with a context that carries a transaction, Update reads and writes in that one, and makes one attempt: what
// conflicts inside a transaction can only be mended by running the whole of it again.
//
// An error that does not wrap raceproof.ErrCommitUnknown means that nothing was changed. It is the error that change
// returned, as it is; or one that wraps raceproof.ErrNotFound; raceproof.ErrConflict, if every attempt met a conflict;
// raceproof.ErrLocked, as lock.Updater does, if the write had to wait for a lock, as it does for a transaction that has
// changed the row and is not over; the context's error and cause, if it ended; or the driver's error. After a
// conflict it is also a *raceproof.RetryError, which tells the attempts and wraps the last failure.
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

func (u *Updater[T]) update(ctx context.Context, key any, change raceproof.Func[T]) (*row.Row[T], error) {
	if change == nil {
		return nil, errors.New("the function is nil")
	}
	k, err := u.table.NewKey(key)
	if err != nil {
		return nil, err
	}
	if err := u.table.Verify(ctx); err != nil {
		return nil, err
	}
	var r *row.Row[T]
	err = u.table.Attempt(ctx, u.attempts, func() (err error) {
		r, err = u.attempt(ctx, k, change)
		return err
	})
	return r, err
}

// attempt is one round. Its read and its write are a transaction each: a read in the transaction of the attempt before
// could be shown the same old row for ever.
func (u *Updater[T]) attempt(ctx context.Context, key row.Key, change raceproof.Func[T]) (r *row.Row[T], err error) {
	err = u.table.Pool.Read(ctx, func(q session.Querier) error {
		r, err = u.table.Read(ctx, q, key, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	scope, done := u.table.Pool.Scope(ctx), false
	defer func() { scope.End(done, err) }() // also if change panics or ends its goroutine
	if err = r.Apply(scope, change); err != nil {
		return nil, err
	}
	if r.Unchanged() {
		err = session.Ended(ctx)
	} else {
		err = u.table.Write(ctx, func(q session.Querier) error { return r.Write(ctx, q) })
	}
	done = true
	if err != nil {
		return nil, err
	}
	return r, nil
}
