package row

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/session"
)

// A Lock says how rows of a table are locked.
type Lock struct {
	dialect.Locking
	text   string // the end of a SELECT that locks like that, if there is no limit on the time
	atOnce string // the same without waiting
}

// NewLock returns an error that wraps raceproof.ErrUnsupported if the table's database cannot lock as it is asked to.
func (t *Table[T]) NewLock(l dialect.Locking) (*Lock, error) {
	if err := t.Pool.Dialect().CheckLocking(l); err != nil {
		return nil, fmt.Errorf("%w: %w", raceproof.ErrUnsupported, err)
	}
	if l.First && t.Counter == "" {
		return nil, fmt.Errorf("%w: UpdateFirst needs a version column, to have something to update", raceproof.ErrUnsupported)
	}
	unwaited := l
	unwaited.Wait = dialect.Wait{None: true}
	return &Lock{l, t.Pool.Dialect().LockText(l, 0), t.Pool.Dialect().LockText(unwaited, 0)}, nil
}

// VerifyFor is Verify for those who take a lock: also of the server it is known only now what it has.
func (t *Table[T]) VerifyFor(ctx context.Context, l dialect.Locking) error {
	if err := t.Verify(ctx); err != nil {
		return err
	}
	if err := t.Pool.CheckServer(l); err != nil {
		return fmt.Errorf("%w: %w", raceproof.ErrUnsupported, err)
	}
	return nil
}

// Until returns the lock with what is left of the time to wait for it when some of that has passed.
func (l *Lock) Until(start time.Time) *Lock {
	if l.AtMost == 0 {
		return l
	}
	rest := *l // its text is for when there is no limit
	if rest.AtMost -= time.Since(start); rest.AtMost > 0 {
		return &rest
	}
	if rest.AtMost = 0; l.First {
		rest.AtMost = time.Nanosecond // an UPDATE cannot be told not to wait
	} else {
		rest.None, rest.text = true, l.atOnce
	}
	return &rest
}

// selectsLocked returns the SELECT with the end that makes it lock its rows.
func (t *Table[T]) selectsLocked(ctx context.Context, s dialect.Statement, l *Lock) dialect.Statement {
	s = l.waits(ctx, s)
	if s.AtMost > 0 {
		s.Text += t.Pool.Dialect().LockText(l.Locking, l.AtMost)
	} else {
		s.Text += l.text
	}
	return s
}

// waits returns the statement with how long it waits for locks. If the context ends before that, it is not what its caller
// has said that is over.
func (l *Lock) waits(ctx context.Context, s dialect.Statement) dialect.Statement {
	s.Locks = true
	if deadline, ok := ctx.Deadline(); l.AtMost > 0 && (!ok || time.Until(deadline) > l.AtMost) {
		s.AtMost = l.AtMost
	}
	s.Unwaited = l.None
	s.Limited = l.None || s.AtMost > 0
	return s
}

// Lock locks the row with a key as it is asked to, and reads it: to the end of the whole transaction nobody else can change
// it.
func (t *Table[T]) Lock(ctx context.Context, tx *session.Tx, key Key, l *Lock) (r *Row[T], err error) {
	err = t.limited(ctx, tx, l.Wait, func(ctx context.Context, tx *session.Tx) error {
		r = &Row[T]{table: t, key: key, locked: true, written: l.First}
		s := t.selects(key, false)
		if !l.First {
			return r.begin(ctx, tx, t.selectsLocked(ctx, s, l))
		}
		if err := t.touch(ctx, tx, key, l); err != nil {
			return err
		}
		return r.begin(ctx, tx, s)
	})
	return r, err
}

// LockWhere locks the rows for which a condition holds, at most limit of them if that is not 0, and reads them, in the order
// of their keys.
func (t *Table[T]) LockWhere(ctx context.Context, tx *session.Tx, where *dialect.SQL, limit int, l *Lock) (rows []*Row[T], err error) {
	s := t.sql().Add("SELECT ").Append(t.selected()).Add(" FROM ").Name(t.Table).Add(" WHERE ").Append(where).Add(" ORDER BY ")
	for i, column := range t.Key {
		if i > 0 {
			s.Add(", ")
		}
		s.Name(t.Columns[column].Name)
	}
	if limit > 0 {
		s.Add(" LIMIT ").Integer(int64(limit))
	}
	statement := s.Statement()
	statement.Read = true
	err = t.limited(ctx, tx, l.Wait, func(ctx context.Context, tx *session.Tx) error {
		rows = nil
		err := tx.Many(ctx, t.selectsLocked(ctx, statement, l), func() []any {
			r := &Row[T]{table: t, locked: true}
			rows = append(rows, r)
			return t.dest(&r.Value, (*Counter)(&r.version), true)
		})
		for _, r := range rows {
			if err == nil {
				err = r.identify()
			}
			if err == nil && l.First {
				err = t.touch(ctx, tx, r.key, l)
			}
			if err == nil && l.First {
				err = r.read(ctx, tx, t.selects(r.key, false)) // with its version, and as triggers have left it
			}
		}
		return err
	})
	return rows, err
}

// identify puts the version and the key of a row that was found by something else in their places.
func (r *Row[T]) identify() (err error) {
	r.table.count(&r.Value, Counter(r.version))
	r.key, err = r.table.keyOf(&r.Value)
	return err
}

// Found returns the key as it is in the row that was found by the one that was given; that is another one if the database
// takes the two for the same.
func (r *Row[T]) Found() Key {
	key, err := r.table.keyOf(&r.Value)
	if err != nil {
		return r.key
	}
	return key
}

// limited calls f to lock rows. Where a limit on the wait is set for a transaction, f has a level of its own in it.
func (t *Table[T]) limited(ctx context.Context, tx *session.Tx, w dialect.Wait, f func(context.Context, *session.Tx) error) error {
	if w.AtMost == 0 || !t.Pool.Dialect().ErrorsAbort {
		return f(ctx, tx)
	}
	return t.Pool.TransactWith(ctx, session.TxOptions{Wait: w}, f)
}

// touch locks the row by raising its version: a write, which is what a cluster compares that locks rows on one node only.
func (t *Table[T]) touch(ctx context.Context, tx *session.Tx, key Key, l *Lock) error {
	s := t.sql().Add("UPDATE ").Name(t.Table).Add(" SET ").Name(t.Counter).Add(" = ").Name(t.Counter).Add(" + 1 WHERE ")
	t.HasKey(s, key)
	s.Add(" AND ").Name(t.Counter).Add(" < ").Integer(int64(math.MaxInt64))
	statement := l.waits(ctx, s.Statement())
	for range 2 {
		switch n, err := tx.Change(ctx, statement); {
		case err != nil:
			return err
		case n > 1:
			return session.ErrAmbiguous
		case n == 1:
			return nil
		}
		r := &Row[T]{table: t, key: key}
		if err := r.begin(ctx, tx, t.selectsLocked(ctx, t.selects(key, false), l)); err != nil {
			return err
		}
		if r.version == math.MaxInt64 {
			return ErrVersionFull
		}
		// It was inserted since, and is locked now.
	}
	return errors.New("the version cannot be raised: a trigger leaves the row as it is")
}
