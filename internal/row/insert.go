package row

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/session"
)

// createdAtMost bounds how often a row can be there when it is inserted and gone when it is locked.
const createdAtMost = 16

// LockOrCreate locks the row with the key, or inserts the one that create makes, and locks that. It looks for the row only
// once it has tried to insert it: where gaps are locked two who have looked in vain would wait for each other's gap.
func (t *Table[T]) LockOrCreate(ctx context.Context, tx *session.Tx, key Key, l *Lock, create raceproof.Func[T]) (*Row[T], error) {
	created, err := t.make(ctx, tx, key, create)
	if err != nil {
		return nil, err
	}
	quietly, vanished := true, false
	start := time.Now()
	for range createdAtMost {
		inserted, err := t.insert(ctx, tx, created, quietly, l.Until(start))
		if err != nil && !t.Pool.Dialect().IsDuplicate(err) {
			return nil, err
		}
		r, notThere := t.Lock(ctx, tx, key, l.Until(start))
		switch {
		case !errors.Is(notThere, raceproof.ErrNotFound):
			return r, notThere
		case err != nil && vanished:
			return nil, fmt.Errorf("%w; or another row is in its way: %w", errElsewhere, err)
		case err != nil:
			return nil, err // it is another row that is in the way, and not the same with all of its unique columns
		case inserted && !(quietly && t.Pool.Dialect().SkipsAny):
			return nil, errElsewhere
		}
		// MariaDB counts a row that is there as one too, if it is told to count those that are found.
		vanished = inserted
		quietly = !t.Pool.Dialect().SkipsAny // the database says which other row is in the way
	}
	return nil, fmt.Errorf("%w: the row is there and gone again and again, or a trigger keeps it from being inserted", raceproof.ErrConflict)
}

var errElsewhere = errors.New("the row that was inserted is not found by its key: the database, or a trigger, has given it another one")

// make returns the row that create makes for a key.
func (t *Table[T]) make(ctx context.Context, tx *session.Tx, key Key, create raceproof.Func[T]) (*T, error) {
	value := new(T)
	t.setKey(value, key)
	if err := create(ctx, value); err != nil {
		return nil, &FuncError{err}
	}
	tx.CloseRows(ctx)
	made, err := t.keyOf(value)
	if err != nil {
		return nil, err
	}
	if made.Compare(key) != 0 {
		return nil, fmt.Errorf("the function that creates the row has given it the key %v", made)
	}
	v := reflect.ValueOf(value).Elem()
	for i := range t.Columns {
		if err := CheckValue(t.Pool.Dialect(), t.Columns[i].Field(v).Interface()); err != nil {
			return nil, fmt.Errorf("column %q: %w", t.Columns[i].Name, err)
		}
	}
	return value, nil
}

// atOnce is for how long an INSERT waits that is not to wait: no database has one with NOWAIT, and the least limit would
// also end its waits for what is free again in a moment.
const atOnce = 10 * time.Millisecond

// insert inserts a row, and reports whether it did. If it is to do so quietly, nothing happens if there is a row with the
// key. It waits for somebody else who inserts the same as it would for the lock.
func (t *Table[T]) insert(ctx context.Context, tx *session.Tx, value *T, quietly bool, l *Lock) (inserted bool, err error) {
	d := t.Pool.Dialect()
	s := t.sql().Add("INSERT INTO ").Name(t.Table).Add(" (").Append(t.columns).Add(") VALUES (")
	v := reflect.ValueOf(value).Elem()
	for i := range t.Columns {
		if i > 0 {
			s.Add(", ")
		}
		t.bind(s, i, t.Columns[i].Field(v).Interface())
	}
	s.Add(")")
	if quietly {
		s.UnlessThere(t.keyNames())
	}
	statement, w := l.waits(ctx, s.Statement()), l.Wait
	if w.None {
		w.AtMost = atOnce
	}
	change := func(ctx context.Context, tx *session.Tx) error {
		n, err := tx.Change(ctx, statement)
		inserted = err == nil && n == 1
		if err == nil && n != 1 && d.SkipsAny {
			err = errThere
		}
		return err
	}
	if !d.ErrorsAbort && !d.SkipsAny {
		return inserted, change(ctx, tx)
	}
	// PostgreSQL can fail though it is quiet: it meets a row that is inserted at the same time in the index of another column.
	// MariaDB has updated the row that is there, with what triggers make of that; it is taken back, and the lock stays.
	err = t.Pool.TransactWith(ctx, session.TxOptions{Wait: w}, change)
	if err == errThere {
		err = nil
	}
	return inserted && err == nil, err
}

var errThere = errors.New("the row is there")
