package lock

import (
	"context"
	"errors"
	"fmt"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/session"
)

// Select locks the row with the key in the transaction that ctx carries, and returns it: for work that is more than one
// update. Outside a transaction of db it is an error that wraps raceproof.ErrNoTransaction, as the lock would be gone at
// once. The row stays locked to the end of the outermost transaction; only if a raceproof.DB.Transact inside that one is
// rolled back, what was locked in it is free again on PostgreSQL.
//
// On SQLite the transaction has the one write lock since it began, and so has waited for it already: none of the options
// changes anything there.
//
// Other errors wrap raceproof.ErrNotFound; raceproof.ErrLocked, if the lock could not be had within the time that the
// options say, which leaves the transaction as it was, or before the context ended; raceproof.ErrUnsupported, if the database
// does not have what the options ask for, or if the transaction is a ReadOnly one; raceproof.ErrConflict, if the database
// refuses the transaction: return that, and Transact makes the whole of it again. An error means that nothing was changed.
func Select[T any](ctx context.Context, db *raceproof.DB, table *raceproof.Table[T], key any, options *Options) (T, error) {
	var value T
	t, l, tx, err := prepare(ctx, db, table, options, false)
	if err != nil {
		return value, row.Invalid("lock.Select", err)
	}
	k, err := t.NewKey(key)
	if err == nil {
		err = inside(ctx, t, tx, l, func(ctx context.Context, tx *session.Tx) error {
			r, err := t.Lock(ctx, tx, k, l)
			if err == nil {
				value = r.Value
			}
			return err
		})
	}
	if err != nil {
		var none T
		return none, t.WrapAs(fmt.Sprintf("lock %s with key %v", t.Name(), key), err)
	}
	return value, nil
}

// SelectWhere locks the rows for which the condition holds, in the transaction that ctx carries, and returns them in the
// order of their keys, in which they are locked where the database follows that. There may be none. What is said of Select
// holds here too, but for raceproof.ErrNotFound.
//
// With Options.Limit and SkipLocked it picks jobs: workers that do it at once get different rows, and none waits for
// another.
//
//	jobs, err := lock.SelectWhere(ctx, db, jobs, atomic.F("state").Eq("ready"), &lock.Options{SkipLocked: true, Limit: 10})
//
// On PostgreSQL, at READ COMMITTED, a row that somebody else has changed while it was waited for is looked at again, and left
// out if the condition does not hold any more: with a Limit there can then be fewer rows than there are. On MariaDB and MySQL,
// at REPEATABLE READ, the rows that the database has to look through are locked too, and the gaps between them; give the
// condition an index, or the transaction raceproof.Isolation(sql.LevelReadCommitted).
func SelectWhere[T any](ctx context.Context, db *raceproof.DB, table *raceproof.Table[T], condition raceproof.Condition, options *Options) ([]T, error) {
	if options == nil {
		options = &Options{}
	}
	t, l, tx, err := prepare(ctx, db, table, options, true)
	if err == nil && condition == nil {
		err = errors.New("the condition is nil")
	}
	if err != nil {
		return nil, row.Invalid("lock.SelectWhere", err)
	}
	where := t.Pool.Dialect().NewSQL()
	if err := condition.WriteCondition(where, t.Mapping); err != nil {
		return nil, row.Invalid("lock.SelectWhere", fmt.Errorf("table %q: condition: %w", t.Name(), err))
	}
	var values []T
	err = inside(ctx, t, tx, l, func(ctx context.Context, tx *session.Tx) error {
		rows, err := t.LockWhere(ctx, tx, where, options.Limit, l)
		values = make([]T, len(rows))
		for i, r := range rows {
			values[i] = r.Value
		}
		return err
	})
	if err != nil {
		return nil, t.WrapAs("lock rows of "+t.Name(), err)
	}
	return values, nil
}

// prepare checks what Select and SelectWhere are given.
func prepare[T any](ctx context.Context, db *raceproof.DB, table *raceproof.Table[T], o *Options, many bool) (t *row.Table[T], l *row.Lock, tx *session.Tx, err error) {
	if o == nil {
		o = &Options{}
	}
	if t, err = row.Known(db, table); err != nil {
		return nil, nil, nil, err
	}
	if many {
		var locking dialect.Locking
		if locking, err = o.locking(t.Mapping.Table); err == nil {
			l, err = t.NewLock(locking)
		}
	} else if o.Limit != 0 {
		err = errors.New("only SelectWhere has a Limit")
	} else {
		l, err = byKey(t, o)
	}
	if err == nil && o.MaxWaiting != 0 {
		err = errors.New("MaxWaiting is for updaters: inside a transaction nobody waits in a queue")
	}
	if err != nil {
		return nil, nil, nil, err
	}
	tx = t.Pool.Current(ctx)
	switch {
	case tx == nil:
		return nil, nil, nil, raceproof.ErrNoTransaction
	case tx.ReadOnly():
		return nil, nil, nil, fmt.Errorf("%w: to lock in a read-only transaction", raceproof.ErrUnsupported)
	}
	return t, l, tx, t.VerifyFor(ctx, l.Locking)
}

// inside calls f to lock rows in a caller's transaction, which must be left as it was if that fails: where errors abort it,
// and where something was written. A lock whose time is limited has a level of its own already where errors abort one.
func inside[T any](ctx context.Context, t *row.Table[T], tx *session.Tx, l *row.Lock, f func(context.Context, *session.Tx) error) error {
	return t.Attempt(ctx, t.Attempts, func() error {
		if t.Pool.Dialect().ErrorsAbort && l.AtMost == 0 || l.First {
			return t.Pool.Transact(ctx, f)
		}
		return f(ctx, tx)
	})
}
