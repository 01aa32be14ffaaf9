package serial

import (
	"context"
	"reflect"
	"slices"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/session"
)

// keys returns those of the rows that callers want, in the order in which everybody locks them.
func keys[T, C any](callers []*caller[T, C]) (keys []row.Key) {
	seen := make(map[session.KeyID]bool, len(callers))
	for _, c := range callers {
		if !seen[c.id] {
			seen[c.id] = true
			keys = append(keys, c.row)
		}
	}
	slices.SortFunc(keys, row.Key.Compare)
	return keys
}

// locked locks the callers' rows, applies their changes to them in order, and writes them.
func (r *round[T, C]) locked(callers []*caller[T, C], skips bool) error {
	t := r.grouping.Table
	plain, err := r.plain()
	if err != nil {
		return err
	}
	return r.transact(func(ctx context.Context, tx *session.Tx) error {
		h := t.Hold(ctx, tx, r.grouping.Locks, plain)
		if err := h.Lock(keys(callers), skips); err != nil {
			return err
		}
		bytes := 0
		for i, c := range callers {
			if bytes > r.limits.groupBytes {
				r.later = callers[i:]
				break
			}
			held, err := h.Has(c.row, c.id)
			if err != nil {
				return err
			}
			switch {
			case !held:
				c.sendAway()
				continue
			case !c.enter():
				continue
			}
			bytes += c.bytes + h.Size(c.id)
			if err := r.change(c, tx, h, plain); err != nil {
				return err
			}
		}
		return h.Flush()
	})
}

// plain returns what can be merged, once the table is known to be what it is taken for.
func (r *round[T, C]) plain() (*row.Plain, error) {
	if err := r.grouping.Table.Verify(r.ctx); err != nil {
		return nil, err
	}
	return r.grouping.Table.Plain(r.ctx)
}

// change makes a caller's change of a row that is held.
func (r *round[T, C]) change(c *caller[T, C], tx *session.Tx, h *row.Held[T], plain *row.Plain) error {
	if r.grouping.Evaluate == nil {
		return r.apply(c, tx, h)
	}
	if r.evaluate(c, h, plain) {
		r.done = append(r.done, c)
		return nil
	}
	return r.separate(c, tx, h.Flush, h.Forget)
}

// apply has a caller apply his function to his row.
func (r *round[T, C]) apply(c *caller[T, C], tx *session.Tx, h *row.Held[T]) error {
	err := r.turn(c, func() {
		part := c.part(&session.Part{Round: r.ctx})
		value, err := h.Apply(c.ctx, part, c.id, r.grouping.Func(c.change))
		own := row.Own(err)
		if err != nil && !(own && tx.Refused(err)) {
			err = r.grouping.Table.Wrap(c.key, err)
		}
		c.value = value
		r.conclude(c, tx, part, err, own)
	})
	if err != nil {
		return err
	}
	return tx.Usable(r.ctx)
}

// evaluate makes a change that Go can, and reports whether it could.
func (r *round[T, C]) evaluate(c *caller[T, C], h *row.Held[T], plain *row.Plain) bool {
	t := r.grouping.Table
	if !t.Flat() {
		return false
	}
	mine := h.Value(c.id)
	applied, refused := r.grouping.Evaluate(c.change, reflect.ValueOf(&mine).Elem(), plain.Integer)
	switch {
	case refused:
		c.err = t.Wrap(c.key, raceproof.ErrConditionFailed)
	case applied:
		unmerged, err := h.Merge(c.id, &mine, true)
		if err != nil || unmerged != nil {
			return false // the updater itself says what is wrong with it
		}
		c.value = h.Value(c.id)
	}
	return applied || refused
}
