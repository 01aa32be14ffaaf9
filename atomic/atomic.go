// Package atomic changes rows by expressions that the database evaluates, in one statement: SET score = score + 10.
// Nothing is read before, so nothing can change in between. It is the fastest way, and the right choice whenever the
// change can be said in SQL:
//
//	inSQL.Update(ctx, 7, atomic.Set("score", atomic.F("score").Add(10)).If(atomic.F("score").Lt(1000)))
//
// The package's name is that of sync/atomic; a file that needs both can import this one as dbatomic.
package atomic

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/session"
)

// An Updater changes rows of one table by expressions. It is safe for concurrent use.
type Updater[T any] struct {
	table *row.Table[T]
	err   error
}

var _ raceproof.Updater[struct{}, Change] = (*Updater[struct{}])(nil)

// Options are what can be chosen. There is nothing to choose yet; nil is the same as the zero value.
type Options struct{}

// New returns an updater of the table. What is wrong with its arguments is reported by Err, and by every Update.
func New[T any](db *raceproof.DB, table *raceproof.Table[T], _ *Options) *Updater[T] {
	t, err := row.NewTable(db, table)
	return &Updater[T]{t, row.Invalid("atomic.New", err)}
}

// Err returns what was wrong with the arguments of New, so that a service can check it where it starts. Nothing but
// errors comes from an updater for which it is not nil.
func (u *Updater[T]) Err() error { return u.err }

// DB returns the DB that the updater was made with, or nil if it was made with mistakes.
func (u *Updater[T]) DB() *raceproof.DB { return u.table.Of() }

// Table returns the name of the table whose rows the updater changes, or "" if it was made with mistakes.
func (u *Updater[T]) Table() string { return u.table.Name() }

// Update applies the change to the row with the key in one statement, and returns the row as it is after it; on
// PostgreSQL, and on SQLite outside a transaction, without what AFTER triggers make of it. On MariaDB and MySQL, which cannot
// return it, the row is read in the same transaction. Fields of T that are no columns are zero. Every
// expression is evaluated on the row as it was before. Called with a context that carries a transaction, the statement
// is part of that. A statement that the database refuses, because of a deadlock or a serialization failure, is sent again
// after a pause, up to 64 times, or until the context ends; not within a caller's transaction.
//
// An error that does not wrap raceproof.ErrCommitUnknown means that nothing was changed. It wraps raceproof.ErrNotFound;
// raceproof.ErrConditionFailed, if the row is there and the condition of If does not hold for it or is NULL;
// raceproof.ErrOutOfRange, for an integer overflow, a division by zero, or a value that the column cannot hold;
// raceproof.ErrLocked, as lock.Updater does, if the statement had to wait for a lock; raceproof.ErrConflict, if it was
// refused each time; the context's error and cause, if it ended; or the driver's error. A change that T and the
// table do not allow is an error before anything is sent: a column that T does not map, the key, the version, a column
// set twice, arithmetic on what is not a number, a fraction for an integer; and on MariaDB and MySQL, which assign one
// column after the other, two columns whose new values need each other's old ones, such as a swap.
func (u *Updater[T]) Update(ctx context.Context, key any, change Change) (T, error) {
	var none, value T
	if u.err != nil {
		return none, u.err
	}
	if err := u.update(ctx, key, change, &value); err != nil {
		return none, u.table.Wrap(key, err)
	}
	return value, nil
}

// maxDoubts bounds how often a statement is sent again because its verdict was out of date when it was looked into.
const maxDoubts = 16

func (u *Updater[T]) update(ctx context.Context, key any, change Change, value *T) error {
	k, err := u.table.NewKey(key)
	if err != nil {
		return err
	}
	if err := change.check(u.table.Mapping, u.table.Pool.Dialect()); err != nil {
		return err
	}
	if err := u.table.Verify(ctx); err != nil {
		return err
	}
	statement, err := u.statement(k, change)
	if err != nil {
		return err
	}
	for range maxDoubts {
		missed := false
		err := u.table.Attempt(ctx, u.table.Attempts, func() error {
			err := u.table.Write(ctx, func(q session.Querier) error {
				found, err := u.table.Update(ctx, q, statement, value)
				if err == nil && !found {
					err = errMissed // in a transaction, what triggers have done all the same is taken back
				}
				return err
			})
			if missed = errors.Is(err, errMissed); !missed {
				return err
			}
			return u.why(ctx, k, change)
		})
		if err != nil || !missed {
			return err
		}
	}
	return &raceproof.RetryError{Attempts: maxDoubts, Last: errDoubtful}
}

// statement is the one statement that applies the change.
func (u *Updater[T]) statement(key row.Key, change Change) (row.Update, error) {
	t := u.table
	d := t.Pool.Dialect()
	s := row.Update{Set: d.NewSQL(), Where: d.NewSQL(), Key: key}
	assignments, err := change.ordered(t.Mapping, d)
	if err != nil {
		return s, err
	}
	for i, a := range assignments {
		if i > 0 {
			s.Set.Add(", ")
		}
		s.Set.Name(canonical(t.Mapping, a.column)).Add(" = ")
		a.write(s.Set, t.Mapping)
	}
	t.HasKey(s.Where, key)
	if t.Counter != "" {
		s.Set.Add(", ").Name(t.Counter).Add(" = ").Name(t.Counter).Add(" + 1")
		// Also false for NULL, which + 1 would leave NULL; why tells the two apart.
		s.Where.Add(" AND ").Name(t.Counter).Add(" < ").Integer(int64(math.MaxInt64))
	}
	if change.condition == nil {
		return s, nil
	}
	s.Where.Add(" AND ")
	if !d.Reorders {
		change.condition.write(s.Where, t.Mapping)
		return s, nil
	}
	// Other rows' values are none of this change's: it must not fail by their overflows. CASE is what keeps the order
	// (https://www.postgresql.org/docs/current/sql-expressions.html#SYNTAX-EXPRESS-EVAL).
	s.Where.Add("CASE WHEN ")
	t.HasKey(s.Where, key)
	s.Where.Add(" THEN ")
	change.condition.write(s.Where, t.Mapping)
	s.Where.Add(" END")
	return s, nil
}

// why finds out why a statement matched no row. The answer is true of the moment when why looked. If nothing speaks
// against the change any more, somebody has changed the row since, why returns nil, and the statement is sent again.
func (u *Updater[T]) why(ctx context.Context, key row.Key, change Change) error {
	t := u.table
	s := t.Pool.Dialect().NewSQL().Add("SELECT ")
	if change.condition != nil {
		s.Add("CASE WHEN ")
		change.condition.write(s, t.Mapping)
		s.Add(" THEN 1 ELSE 0 END")
	} else {
		s.Add("1")
	}
	if t.Counter != "" {
		s.Add(", ").Name(t.Counter)
	}
	s.Add(" FROM ").Name(t.Mapping.Table).Add(" WHERE ")
	t.HasKey(s, key)
	inside := t.Pool.InTransaction(ctx)
	if inside {
		s.Add(t.Pool.Dialect().Lock) // a plain SELECT could be shown what the transaction has begun with
	}
	statement := s.Statement()
	statement.Read, statement.Locks = true, inside
	holds, counter, found := int64(1), row.Counter(0), false
	dest := []any{&holds}
	if t.Counter != "" {
		dest = append(dest, &counter)
	}
	err := t.Pool.Read(ctx, func(q session.Querier) (err error) {
		found, err = q.One(ctx, statement, dest...)
		return err
	})
	switch {
	case err != nil:
		return err
	case !found:
		return raceproof.ErrNotFound
	case holds == 0:
		return raceproof.ErrConditionFailed
	case counter == math.MaxInt64:
		return row.ErrVersionFull
	}
	return nil
}

// errMissed: the statement matched no row.
var errMissed = errors.New("no row was updated")

var errDoubtful = fmt.Errorf("%w: the row is there each time the statement has not found it, "+
	"because it changes very often, or because a trigger ignores the statement", raceproof.ErrConflict)

var errNoColumn = errors.New("the change sets no column")
