package row

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
	"github.com/raceproof/raceproof/internal/session"
)

// A Row is a row as it was read, and what was made of it since.
type Row[T any] struct {
	Value T

	table   *Table[T]
	key     Key
	before  mapping.Snapshot
	version int64 // as it was read
	changed []int // the columns to write
}

// Read reads the row with the key. In a transaction that holds the lock, nobody can change it before that is over.
func (t *Table[T]) Read(ctx context.Context, q session.Querier, key Key) (*Row[T], error) {
	r := &Row[T]{table: t, key: key}
	if err := r.read(ctx, q); err != nil {
		return nil, err
	}
	before, err := t.Snapshot(reflect.ValueOf(&r.Value).Elem())
	if err != nil {
		return nil, err
	}
	r.before = before
	return r, nil
}

// read puts the row as it is now into Value.
func (r *Row[T]) read(ctx context.Context, q session.Querier) error {
	var fresh T // a Scan method may add to what is there
	r.Value = fresh
	found, err := r.table.scan(ctx, q, dialect.Statement{Text: r.table.read, Args: r.key, Read: true}, &r.Value, &r.version)
	if err == nil && !found {
		err = raceproof.ErrNotFound
	}
	return err
}

// Update runs an UPDATE of the row with the key, puts the row as it is then into value, and reports whether there was
// one to update.
func (t *Table[T]) Update(ctx context.Context, q session.Querier, update *dialect.SQL, key Key, value *T) (found bool, err error) {
	var fresh T // a Scan method may add to what is there
	*value = fresh
	tx, ok := q.(*session.Tx)
	if !ok {
		s := update.Statement()
		s.Text += t.returning
		return t.scan(ctx, q, s, value, nil)
	}
	// Nobody can change the row between the two. They are faster than RETURNING on SQLite, which copies the row to a
	// table of its own, and see what AFTER triggers have done.
	switch n, err := tx.Change(ctx, update.Statement()); {
	case err != nil || n == 0:
		return false, err
	case n > 1:
		return false, session.ErrAmbiguous
	}
	found, err = t.scan(ctx, q, dialect.Statement{Text: t.read, Args: key, Read: true}, value, new(int64))
	if err == nil && !found {
		err = errors.New("the row was updated and then was gone: a trigger has deleted it")
	}
	return found, err
}

// scan runs a statement that yields the mapped columns and, if version is not nil, the hidden version.
func (t *Table[T]) scan(ctx context.Context, q session.Querier, s dialect.Statement, value *T, version *int64) (bool, error) {
	v := reflect.ValueOf(value).Elem()
	dest := t.Pointers(v)
	var counter Counter
	switch {
	case t.Version >= 0:
		dest[t.Version] = &counter
	case version != nil && t.Hidden():
		dest = append(dest, &counter)
	}
	found, err := q.One(ctx, s, dest...)
	if err != nil || !found {
		return false, err
	}
	if t.Version >= 0 {
		t.Columns[t.Version].Field(v).SetInt(int64(counter))
	}
	if version != nil {
		*version = int64(counter)
	}
	return true, nil
}

// A Counter is a version on its way from the database. NULL is not a version: it is equal to nothing, so that no check
// of it could ever tell anything.
type Counter int64

// Scan implements sql.Scanner.
func (c *Counter) Scan(value any) error {
	if n, isInt := value.(int64); isInt { // what most drivers give
		*c = Counter(n)
		return nil
	}
	var n sql.Null[int64]
	if err := n.Scan(value); err != nil {
		return err
	}
	if !n.Valid {
		return errors.New("the version is NULL: give the row a version, and make the column NOT NULL")
	}
	*c = Counter(n.V)
	return nil
}

// Returns implements session.Returns.
func (*Counter) Returns() {}

// A FuncError is the error that a caller's function returned, on its way through the transaction.
type FuncError struct{ Err error }

func (e *FuncError) Error() string { return e.Err.Error() }

// Unwrap returns the function's error.
func (e *FuncError) Unwrap() error { return e.Err }

// Apply lets a caller's function change the row, and checks that what it changed may be written.
func (r *Row[T]) Apply(ctx context.Context, f raceproof.Func[T]) error {
	if err := f(ctx, &r.Value); err != nil {
		return &FuncError{err}
	}
	v := reflect.ValueOf(&r.Value).Elem()
	changed, err := r.before.Changed(v)
	if err != nil {
		return err
	}
	t := r.table
	for _, i := range changed {
		column := &t.Columns[i]
		if slices.Contains(t.Key, i) {
			return fmt.Errorf("the function changed column %q, which is the key", column.Name)
		}
		if i == t.Version {
			return fmt.Errorf("the function changed column %q, which is the version and is kept by this library", column.Name)
		}
		if err := CheckValue(t.Pool.Dialect(), column.Field(v).Interface()); err != nil {
			return fmt.Errorf("column %q: %w", column.Name, err)
		}
	}
	r.changed = changed
	return nil
}

// Untouched returns ErrStale unless the row is still as it was read. Who holds the row's lock needs it only if the
// function had the chance to change the row in the same transaction.
func (r *Row[T]) Untouched(ctx context.Context, q session.Querier) error {
	now := &Row[T]{table: r.table, key: r.key}
	switch err := now.read(ctx, q); {
	case errors.Is(err, raceproof.ErrNotFound):
		return ErrStale
	case err != nil:
		return err
	}
	changed, err := r.before.Changed(reflect.ValueOf(&now.Value).Elem())
	if err == nil && (len(changed) > 0 || now.version != r.version) {
		err = ErrStale
	}
	return err
}

// Unchanged tells whether Apply left nothing to write.
func (r *Row[T]) Unchanged() bool { return len(r.changed) == 0 }

// ErrStale: the row is not any more as it was read. It is one with raceproof.ErrConflict to callers.
var ErrStale = fmt.Errorf("%w: the row was changed or deleted after it was read", raceproof.ErrConflict)

// ErrVersionFull: the version cannot rise any more.
var ErrVersionFull = fmt.Errorf("%w: the version is the greatest integer there is", raceproof.ErrOutOfRange)

// Write writes the columns that changed and raises the version, if the version is still the one that was read, and
// puts the row as it is then into Value; else it returns ErrStale. In a table without a version it is enough that the
// row is there: only whoever holds its lock can be sure that it is unchanged.
func (r *Row[T]) Write(ctx context.Context, q session.Querier) error {
	if r.Unchanged() {
		return nil
	}
	if r.table.Counter != "" && r.version == math.MaxInt64 {
		return ErrVersionFull
	}
	var after T // not Value itself: if the database is busy, Write is called again with it
	found, err := r.table.Update(ctx, q, r.update(), r.key, &after)
	switch {
	case err != nil:
		return err
	case !found:
		return ErrStale
	}
	r.Value = after
	return nil
}

// update is the statement that writes the row.
func (r *Row[T]) update() *dialect.SQL {
	t := r.table
	v := reflect.ValueOf(&r.Value).Elem()
	s := t.sql().Add("UPDATE ").Name(t.Table).Add(" SET ")
	for i, column := range r.changed {
		if i > 0 {
			s.Add(", ")
		}
		s.Name(t.Columns[column].Name).Add(" = ").Value(t.Columns[column].Field(v).Interface())
	}
	if t.Counter != "" {
		s.Add(", ").Name(t.Counter).Add(" = ").Value(r.version + 1)
	}
	t.Where(s, r.key)
	if t.Counter != "" {
		s.Add(" AND ").Name(t.Counter).Add(" = ").Value(r.version)
	}
	return s
}

// CheckValue refuses a value that the database would store as something else without saying so.
func CheckValue(d *dialect.Dialect, value any) error {
	if !d.NaNIsNull {
		return nil
	}
	switch value.(type) {
	case int, int64, string, bool:
		return nil // what most columns are, without the cost of a conversion
	}
	// What cannot be converted is left to the driver, which says so.
	converted, _ := driver.DefaultParameterConverter.ConvertValue(value)
	if f, ok := converted.(float64); ok && math.IsNaN(f) {
		return fmt.Errorf("%w: the database would store NaN as NULL", raceproof.ErrOutOfRange)
	}
	return nil
}

// Wrap says which row an error is about. The error of a caller's own function goes back to him as it is.
func (t *Table[T]) Wrap(key any, err error) error {
	var own *FuncError
	if errors.As(err, &own) {
		return own.Err
	}
	switch t.Pool.Dialect().Classify(err) {
	case dialect.OutOfRange:
		err = fmt.Errorf("%w: an integer overflow, a division by zero, or more than the database can hold: %w", raceproof.ErrOutOfRange, err)
	case dialect.Conflict:
		err = fmt.Errorf("%w: %w", raceproof.ErrConflict, err)
	}
	return fmt.Errorf("raceproof: update %s with key %v: %w", t.Table, key, err)
}

// IsConflict tells whether an attempt failed because somebody else changed the row, and could succeed if made again.
// The error of a caller's function is none, whatever it wraps.
func (t *Table[T]) IsConflict(err error) bool {
	var own *FuncError
	if err == nil || errors.As(err, &own) {
		return false
	}
	return errors.Is(err, ErrStale) || t.Pool.Dialect().Classify(err) == dialect.Conflict
}

// Invalid says what was wrong with the arguments that an updater was made with.
func Invalid(constructor string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("raceproof: %s: %w", constructor, err)
}
