package row

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/session"
)

// Held are rows that a transaction has locked, and that the functions of many callers are applied to, one after another, in
// memory: each is given the row as those before it have left it. What is written once in the place of many times is what
// nobody can tell apart: see Plain.
type Held[T any] struct {
	table *Table[T]
	plain *Plain
	locks *Locks
	ctx   context.Context // carries the transaction
	tx    *session.Tx

	rows    map[session.KeyID]*heldRow[T]
	twice   map[session.KeyID]bool // keys of more than one row
	pending []*heldRow[T]          // to be written, in the order in which they were changed first
}

// A heldRow is as its callers have left it; its snapshot, and its version, are as it is in the database.
type heldRow[T any] struct {
	Row[T]
	raised  int64 // how many changes are still to be written
	touched []int // the columns that they have changed
	taken   bool  // for one caller alone
	latest  *T    // as it is in the database after it was written, if that is asked
}

// Hold returns no rows yet, to be locked in the transaction.
func (t *Table[T]) Hold(ctx context.Context, tx *session.Tx, l *Locks, p *Plain) *Held[T] {
	return &Held[T]{table: t, plain: p, locks: l, ctx: ctx, tx: tx, rows: map[session.KeyID]*heldRow[T]{}, twice: map[session.KeyID]bool{}}
}

// Lock locks and reads the rows with the keys, which are in order. Rows that are not there, that others hold if those
// are skipped, and rows whose keys are only equal to what was asked for, are none of the held ones: of two spellings of one key
// each would have a copy.
func (h *Held[T]) Lock(keys []Key, skips bool) error {
	l := h.locks.limited
	switch {
	case skips:
		l = h.locks.skipping
	case h.table.Pool.CheckServer(l.Locking) != nil:
		l = h.locks.plain
	}
	defer h.doubt()
	if h.table.inOneStatement(len(keys)) {
		return h.table.readMany(h.ctx, h.tx, keys, l, h.add)
	}
	for _, key := range keys {
		r, err := h.table.Lock(h.ctx, h.tx, key, l)
		switch {
		case err == nil:
			h.add(r)
		case !errors.Is(err, raceproof.ErrNotFound) && !errors.Is(err, session.ErrAmbiguous):
			return err
		}
	}
	return nil
}

func (h *Held[T]) add(r *Row[T]) {
	key, err := h.table.keyOf(&r.Value)
	if err != nil {
		return
	}
	id := session.KeyIDOf(key)
	if session.KeyIDOf(r.key) != id {
		return
	}
	if _, twice := h.rows[id]; twice { // the updater itself says that there are two
		delete(h.rows, id)
		h.twice[id] = true
	}
	if !h.twice[id] {
		h.rows[id] = &heldRow[T]{Row: *r}
	}
}

// doubt gives up what is known of the table if it was asked too long ago, by now, when the rows are locked.
func (h *Held[T]) doubt() {
	if h.plain != nil && time.Since(h.plain.asked) > 2*plainFor { // it was not older than one then
		h.plain = nil
	}
}

// Has tells whether the row is held. One that was given up because something was sent in the transaction is read again.
func (h *Held[T]) Has(key Key, id session.KeyID) (bool, error) {
	r, known := h.rows[id]
	if known && r == nil {
		delete(h.rows, id)
		if err := h.Lock([]Key{key}, false); err != nil {
			return false, err
		}
		r = h.rows[id]
	}
	return r != nil, nil
}

// Size is about how many bytes a held row takes.
func (h *Held[T]) Size(id session.KeyID) int {
	r := h.rows[id]
	if r == nil {
		return 0
	}
	v := reflect.ValueOf(&r.Value).Elem()
	size := int(v.Type().Size())
	for i := range h.table.Columns {
		if f := h.table.Columns[i].Field(v); f.Kind() == reflect.String || f.Kind() == reflect.Slice {
			size += f.Len()
		}
	}
	return size
}

// Forget gives up what is known of the rows: they can have been changed by something else than us.
func (h *Held[T]) Forget() {
	for id := range h.rows {
		h.rows[id] = nil
	}
}

// Apply calls a function with the row, at a level of its own of the transaction, and returns the row as it is then. Memory is
// shared with nobody. What is not merged is written at once. An error that leaves the transaction usable has left
// nothing else behind.
func (h *Held[T]) Apply(ctx context.Context, part *session.Part, id session.KeyID, f raceproof.Func[T]) (value T, err error) {
	r := h.rows[id]
	if !h.table.Flat() {
		h.rows[id] = nil // the next one needs memory of his own
	}
	mine := r.Row
	part.First = func() error {
		err := h.Flush()
		mine.version, mine.before = r.version, r.before
		return err
	}
	err = h.tx.Part(ctx, part, func(ctx context.Context, level *session.Tx) error {
		if err := f(ctx, &mine.Value); err != nil {
			return &FuncError{err}
		}
		level.CloseRows(ctx)
		if !part.Sent() {
			return nil
		}
		if err := mine.Examine(); err != nil {
			return err
		}
		return mine.WriteLocked(ctx, level, true)
	})
	if part.Sent() {
		h.Forget()
	}
	if err != nil || part.Sent() {
		return mine.Value, err
	}
	return h.accept(id, r, &mine)
}

// accept makes what a function has made of a row the row.
func (h *Held[T]) accept(id session.KeyID, r *heldRow[T], mine *Row[T]) (value T, err error) {
	if !h.table.Flat() {
		if err = mine.Examine(); err == nil {
			err = h.savepoint(func(ctx context.Context, tx *session.Tx) error { return mine.WriteLocked(ctx, tx, false) })
		}
		return mine.Value, err
	}
	changed, err := h.Merge(id, &mine.Value, false)
	if err == nil && changed != nil {
		r, err = h.writeNow(id, &mine.Value, changed)
	}
	return r.Value, err
}

// Value returns the struct of a held row as it is now. T must be flat.
func (h *Held[T]) Value(id session.KeyID) T { return h.rows[id].Value }

// Merge makes what was made of a held row the row, to be written together with what others make of it. It returns the columns
// that were changed if that must be written by itself. If it counts, it raises the version also if it has changed nothing.
func (h *Held[T]) Merge(id session.KeyID, after *T, counts bool) (unmerged []int, err error) {
	r, t := h.rows[id], h.table
	v := reflect.ValueOf(after).Elem()
	changed, err := t.Changed(reflect.ValueOf(&r.Value).Elem(), v)
	if err != nil || len(changed) == 0 && !counts {
		return nil, err
	}
	if err := t.mayChange(v, changed); err != nil {
		return nil, err
	}
	if t.Counter != "" && r.version >= math.MaxInt64-r.raised {
		return nil, ErrVersionFull
	}
	for _, column := range changed {
		if !h.plain.Holds(column, v) {
			return changed, nil
		}
	}
	if r.raised == 0 {
		h.pending = append(h.pending, r)
	}
	r.raised++
	for _, column := range changed {
		if !slices.Contains(r.touched, column) {
			r.touched = append(r.touched, column)
		}
	}
	r.take(v, changed)
	return nil, nil
}

// take takes over the columns that a function has changed, and no fields that are no columns.
func (r *heldRow[T]) take(from reflect.Value, changed []int) {
	to := reflect.ValueOf(&r.Value).Elem()
	for _, column := range changed {
		c := &r.table.Columns[column]
		c.Field(to).Set(c.Field(from))
	}
	r.table.count(&r.Value, Counter(r.version+r.raised))
}

// writeNow writes what a function has made of a row, after what is pending, and returns the row as it is then.
func (h *Held[T]) writeNow(id session.KeyID, after *T, changed []int) (*heldRow[T], error) {
	r := h.rows[id]
	if err := h.Flush(); err != nil {
		h.tx.Fail(err) // it is others' changes that could not be written
		return r, err
	}
	written := &heldRow[T]{Row: r.Row}
	written.take(reflect.ValueOf(after).Elem(), changed)
	written.changed = changed
	if err := h.savepoint(func(ctx context.Context, tx *session.Tx) error { return written.Write(ctx, tx) }); err != nil {
		return r, err
	}
	if h.table.Counter != "" {
		written.version++
	}
	var err error
	written.before, err = h.table.Snapshot(reflect.ValueOf(&written.Value).Elem())
	h.rows[id] = written
	return written, err
}

// savepoint calls f in the transaction such that an error leaves nothing of it behind, but the rest of the transaction. A row that
// was written can be one that cannot be read.
func (h *Held[T]) savepoint(f func(context.Context, *session.Tx) error) error {
	return h.table.Pool.Transact(h.ctx, f)
}

// Flush writes what is pending.
func (h *Held[T]) Flush() error {
	if len(h.pending) == 0 {
		return nil
	}
	if err := h.table.writeMany(h.ctx, h.tx, h.pending); err != nil {
		return err
	}
	for _, r := range h.pending {
		if h.table.Counter != "" {
			r.version += r.raised
		}
		r.raised, r.touched = 0, nil
		var err error
		if r.before, err = h.table.Snapshot(reflect.ValueOf(&r.Value).Elem()); err != nil {
			return err
		}
	}
	h.pending = nil
	return nil
}
