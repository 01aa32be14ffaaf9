package serial

import (
	"errors"

	"github.com/raceproof/raceproof/internal/row"
)

// compared reads the callers' rows, applies their changes to them in order, holding nothing meanwhile, and writes them if they
// are still as they were read.
func (r *round[T, C]) compared(callers []*caller[T, C]) error {
	t := r.grouping.Table
	plain, err := r.plain()
	if err != nil {
		return err
	}
	rows, err := t.Compare(r.ctx, keys(callers), plain)
	if err != nil {
		return err
	}
	bytes := 0
	for i, c := range callers {
		if bytes > r.limits.groupBytes {
			r.later = append(r.later, callers[i:]...)
			break
		}
		switch found, open := rows.Has(c.id); {
		case !found:
			c.sendAway()
			continue
		case !open:
			r.later = append(r.later, c)
			continue
		case !c.enter():
			continue
		}
		bytes += c.bytes + rows.Size(c.id)
		if r.grouping.Evaluate == nil {
			err = r.try(c, rows)
		} else if err = errUnmerged; r.evaluate(c, &rows.Held, plain) {
			c.after = rows.Result(c.id, c.value)
			r.done, err = append(r.done, c), nil
		}
		if err != nil {
			return err
		}
	}
	switch {
	case !rows.Changed():
		return nil
	case rows.One(): // the whole of it
		if err := r.seal(); err != nil {
			return err
		}
		return rows.WriteOne(r.ctx)
	}
	return r.transact(rows.Write)
}

// errUnmerged: a change has to be made by the database.
var errUnmerged = errors.New("a change that cannot be computed in Go, or not be merged")

// try has a caller apply his function to a row that is not locked.
func (r *round[T, C]) try(c *caller[T, C], rows *row.Compared[T]) error {
	later := false
	err := r.turn(c, func() {
		scope := r.grouping.Table.Pool.Scope(c.ctx)
		c.end = scope.End
		var err error
		if later, c.after, err = rows.Apply(inside[T, C]{scope, r.Updater}, c.id, r.grouping.Func(c.change)); err == nil {
			return
		}
		c.err = r.grouping.Table.Wrap(c.key, err)
		if c.ctx.Err() != nil {
			c.state.Store(gone)
			c.order(served)
		}
	})
	if err == nil && later && c.state.Load() == entered {
		r.done = r.done[:len(r.done)-1]
		r.later = append(r.later, c)
	}
	return err
}
