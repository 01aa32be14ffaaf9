package row

import (
	"context"
	"errors"
	"reflect"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/session"
)

// Compared are rows that were read without a lock, that the functions of many callers are applied to as to those that are
// Held, and that are written if they are still as they were read.
type Compared[T any] struct {
	Held[T]
	single []*heldRow[T] // to be written for one caller alone, whose change cannot be merged
}

// Compare reads the rows with the keys, which are in order.
func (t *Table[T]) Compare(ctx context.Context, keys []Key, p *Plain) (*Compared[T], error) {
	c := &Compared[T]{Held: *t.Hold(ctx, nil, nil, p)}
	err := t.Pool.Read(ctx, func(q session.Querier) error {
		clear(c.rows)
		if t.inOneStatement(len(keys)) {
			return t.readMany(ctx, q, keys, nil, c.add)
		}
		for _, key := range keys {
			r, err := t.Read(ctx, q, key, false)
			switch {
			case err == nil:
				c.add(r)
			case !errors.Is(err, raceproof.ErrNotFound):
				return err
			}
		}
		return nil
	})
	return c, err
}

// Has tells whether the row was found, and whether further changes of it can be taken.
func (c *Compared[T]) Has(id session.KeyID) (found, open bool) {
	r := c.rows[id]
	return r != nil, r != nil && !r.taken
}

// Apply calls a function with the row. If the change cannot be made in this round, because it cannot be merged with those
// before it, later is true. The value is the row as it is then, or, if that is known only when it is written, what result
// returns after Write.
func (c *Compared[T]) Apply(ctx context.Context, id session.KeyID, f raceproof.Func[T]) (value T, later bool, result func() T, err error) {
	r := c.rows[id]
	if !c.table.Flat() { // the function has the only copy that there is
		r.taken = true
		if err = f(ctx, &r.Value); err != nil {
			return value, false, nil, &FuncError{err}
		}
		if err = r.Examine(); err == nil && !r.Unchanged() {
			c.single = append(c.single, r)
		}
		return value, false, func() T { return r.Value }, err
	}
	mine := r.Value
	if err = f(ctx, &mine); err != nil {
		return value, false, nil, &FuncError{err}
	}
	unmerged, err := c.Merge(id, &mine, false)
	switch {
	case err != nil || unmerged == nil:
		return r.Value, false, nil, err
	case r.raised > 0:
		return value, true, nil, nil
	}
	r.taken, r.changed = true, unmerged
	r.take(reflect.ValueOf(&mine).Elem(), unmerged)
	c.single = append(c.single, r)
	return value, false, func() T { return r.Value }, nil
}

// Changed tells whether something is to be written.
func (c *Compared[T]) Changed() bool { return len(c.pending)+len(c.single) > 0 }

// Write writes what was changed in a transaction. It returns ErrStale if a row is not any more as it was read.
func (c *Compared[T]) Write(ctx context.Context, tx *session.Tx) error {
	for _, r := range c.single {
		if err := r.Write(ctx, tx); err != nil {
			return err
		}
	}
	return c.table.writeMany(ctx, tx, c.pending)
}

// ComparesFast tells whether the write of a row that is compared is one round trip, and locking it is several.
func (t *Table[T]) ComparesFast() bool {
	return t.Counter != "" && t.alone.Load() && !t.Pool.Dialect().InProcess
}

// One tells whether what was changed can be written by a statement that is a transaction of its own: it is one row, and was
// changed in columns that stand for themselves. Several could be written in part.
func (c *Compared[T]) One() bool {
	return c.table.ComparesFast() && len(c.single) == 0 && len(c.pending) == 1
}

// WriteOne is Write in a transaction of its own.
func (c *Compared[T]) WriteOne(ctx context.Context) error {
	return c.table.Write(ctx, func(q session.Querier) error { return c.table.writeMany(ctx, q, c.pending) })
}
