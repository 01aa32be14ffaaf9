package lock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/session"
)

// UpdateMany locks the rows with the keys, calls change with them in the order of the keys as they are given, writes the
// columns that change has changed in any of them, and returns the rows as they are then, in the same order. The rows are
// locked one after the other, in one order whatever the order of the keys, so that two calls never wait for each other: money
// can be moved both ways between two accounts at once. That holds for all calls with keys of this table, as long as change
// locks no others; keys that are the same to the database though not to Go, as 'a' and 'A' are on MariaDB, are left out of it.
//
// It is one transaction, or part of the context's, for which all holds that is said of Update: change is called again if the
// database refuses the transaction, and an error that does not wrap raceproof.ErrCommitUnknown means that nothing was
// changed. If there is no row for one of the keys, the error wraps raceproof.ErrNotFound and names the key, and change is
// not called. No keys, and two of the same row, are errors. If the writing of one row changes another one of them by a
// trigger, that is raceproof.ErrConflict as long as the other is still to be written; if it was written before, the change
// stays, and is not in what is returned. The pointers are not to be kept, and not to be exchanged in the slice.
func (u *Updater[T]) UpdateMany(ctx context.Context, keys []any, change func(ctx context.Context, rows []*T) error) ([]T, error) {
	if u.err != nil {
		return nil, u.err
	}
	rows, err := u.updateMany(ctx, keys, change)
	if err != nil {
		return nil, u.table.WrapAs(fmt.Sprintf("update %s with keys %v", u.Table(), manyKeys(keys)), err)
	}
	values := make([]T, len(rows))
	for i, r := range rows {
		values[i] = r.Value
	}
	return values, nil
}

func (u *Updater[T]) updateMany(ctx context.Context, given []any, change func(context.Context, []*T) error) (rows []*row.Row[T], err error) {
	if change == nil {
		return nil, errNoFunc
	}
	if len(given) == 0 {
		return nil, errors.New("there are none")
	}
	keys := make([]row.Key, len(given))
	order := make([]int, len(given)) // in which they are locked
	for i, key := range given {
		if keys[i], err = u.table.NewKey(key); err != nil {
			return nil, err
		}
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return keys[a].Compare(keys[b]) })
	sorted := make([]row.Key, len(keys))
	for i, n := range order {
		if sorted[i] = keys[n]; i > 0 && sorted[i].Compare(sorted[i-1]) == 0 {
			return nil, fmt.Errorf("key %v is there twice", keys[n])
		}
	}
	err = u.locked(ctx, sorted, func(ctx context.Context, tx *session.Tx, l *row.Lock) error {
		rows = make([]*row.Row[T], len(keys))
		start := time.Now()
		for _, n := range order {
			if rows[n], err = u.table.Lock(ctx, tx, keys[n], l.Until(start)); err != nil {
				return fmt.Errorf("key %v: %w", keys[n], err)
			}
		}
		if err := distinct(rows); err != nil {
			return err
		}
		return u.changeMany(ctx, tx, rows, change)
	})
	return rows, err
}

// distinct returns an error if two of the rows are one, which keys can be that differ to Go.
func distinct[T any](rows []*row.Row[T]) error {
	sorted := slices.Clone(rows)
	slices.SortFunc(sorted, func(a, b *row.Row[T]) int { return a.Found().Compare(b.Found()) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Found().Compare(sorted[i-1].Found()) == 0 {
			return fmt.Errorf("two of them are those of one row, whose key is %v", sorted[i].Found())
		}
	}
	return nil
}

func (u *Updater[T]) changeMany(ctx context.Context, tx *session.Tx, rows []*row.Row[T], change func(context.Context, []*T) error) error {
	values := make([]*T, len(rows))
	for i, r := range rows {
		values[i] = &r.Value
	}
	sent := tx.Statements()
	if err := change(ctx, values); err != nil {
		return &row.FuncError{Err: err}
	}
	for i, r := range rows {
		if values[i] != &r.Value {
			return errors.New("the function has exchanged a pointer in the slice: change what it points to")
		}
		if err := r.Examine(); err != nil {
			return err
		}
	}
	tx.CloseRows(ctx)
	for _, r := range rows {
		// What was written before it can have changed it by a trigger.
		if err := r.WriteLocked(ctx, tx, tx.Statements() != sent); err != nil {
			return err
		}
	}
	return nil
}

// shown is how many keys an error names.
const shown = 5

// manyKeys shows keys in errors.
type manyKeys []any

func (k manyKeys) String() string {
	var parts []string
	for _, key := range k[:min(len(k), shown)] {
		parts = append(parts, fmt.Sprint(key))
	}
	if more := len(k) - shown; more > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(parts, ", ")
}
