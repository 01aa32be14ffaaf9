package row

import (
	"context"
	"errors"
	"reflect"
	"slices"

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
		clear(c.twice)
		return t.readRows(ctx, q, keys, c.add)
	})
	return c, err
}

// readRows reads rows without locking them. It leaves out those that are not there.
func (t *Table[T]) readRows(ctx context.Context, q session.Querier, keys []Key, add func(*Row[T])) error {
	if t.inOneStatement(len(keys)) {
		return t.readMany(ctx, q, keys, nil, add)
	}
	for _, key := range keys {
		r, err := t.Read(ctx, q, key, false)
		switch {
		case err == nil:
			add(r)
		case !errors.Is(err, raceproof.ErrNotFound):
			return err
		}
	}
	return nil
}

// Has tells whether the row was found, and whether further changes of it can be taken.
func (c *Compared[T]) Has(id session.KeyID) (found, open bool) {
	r := c.rows[id]
	return r != nil, r != nil && !r.taken
}

// Apply calls a function with the row. If the change cannot be made in this round, because it cannot be merged with those
// before it, later is true. The result is known when the rows are written.
func (c *Compared[T]) Apply(ctx context.Context, id session.KeyID, f raceproof.Func[T]) (later bool, result func() T, err error) {
	r := c.rows[id]
	if !c.table.Flat() { // the function has the only copy that there is
		r.taken = true
		if err = run(ctx, f, &r.Value); err != nil {
			return false, nil, err
		}
		if err = r.Examine(); err == nil && !r.Unchanged() {
			c.single = append(c.single, r)
		}
		return false, func() T { return r.Value }, err
	}
	mine := r.Value
	if err = run(ctx, f, &mine); err != nil {
		return false, nil, err
	}
	unmerged, err := c.Merge(id, &mine, false)
	switch {
	case err != nil:
		return false, nil, err
	case unmerged == nil:
		return false, c.Result(id, r.Value), nil
	case r.raised > 0:
		r.taken = true // those behind him wait with him
		return true, nil, nil
	}
	r.taken, r.changed = true, unmerged
	r.take(reflect.ValueOf(&mine).Elem(), unmerged)
	c.single = append(c.single, r)
	return false, func() T { return r.Value }, nil
}

// Result returns what returns the row as one of its callers has left it, once it is written. Columns that none of them has
// changed are as they are then: somebody who does not raise the version can have changed them since they were read.
func (c *Compared[T]) Result(id session.KeyID, value T) func() T {
	r := c.rows[id]
	return func() T {
		r.settle(&value)
		return value
	}
}

// settle takes over the columns that nobody has changed from the row as it is in the database.
func (r *heldRow[T]) settle(value *T) {
	if r.latest == nil {
		return
	}
	from, to := reflect.ValueOf(r.latest).Elem(), reflect.ValueOf(value).Elem()
	for i := range r.table.Columns {
		if i != r.table.Version && !slices.Contains(r.touched, i) {
			c := &r.table.Columns[i]
			c.Field(to).Set(c.Field(from))
		}
	}
}

// run calls a function. What it has changed does not count if its context has ended.
func run[T any](ctx context.Context, f raceproof.Func[T], value *T) error {
	if err := f(ctx, value); err != nil {
		return &FuncError{err}
	}
	return session.Ended(ctx)
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
	if err := c.table.writeMany(ctx, tx, c.pending); err != nil {
		return err
	}
	var keys []Key
	for _, r := range c.pending {
		keys = append(keys, r.key)
	}
	latest := c.table.Hold(ctx, tx, nil, nil)
	if err := c.table.readRows(ctx, tx, keys, latest.add); err != nil {
		return err
	}
	for _, r := range c.pending {
		after := latest.rows[session.KeyIDOf(r.key)]
		if after == nil {
			return errGone
		}
		r.latest = &after.Value
	}
	return nil
}

var errGone = errors.New("the row was updated and then was gone")

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
	r := c.pending[0]
	if err := r.settleChanged(); err != nil {
		return err
	}
	r.latest = new(T)
	return c.table.Write(ctx, func(q session.Querier) error {
		found, err := c.table.Update(ctx, q, r.updating(), r.latest)
		if err == nil && !found {
			err = ErrStale
		}
		return err
	})
}
