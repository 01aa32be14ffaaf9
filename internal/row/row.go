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
	locked  bool
	written bool   // its version was raised in the transaction already
	plain   *Plain // of what is written so that it need not be read back
	before  mapping.Snapshot
	version int64 // as it was read
	changed []int // the columns to write
}

// Read reads the row with the key. If it locks the row, nobody else can change it before the transaction is over.
func (t *Table[T]) Read(ctx context.Context, q session.Querier, key Key, locks bool) (*Row[T], error) {
	r := &Row[T]{table: t, key: key, locked: locks}
	if err := r.begin(ctx, q, t.selects(key, locks)); err != nil {
		return nil, err
	}
	return r, nil
}

// begin reads the row, and remembers how it was.
func (r *Row[T]) begin(ctx context.Context, q session.Querier, s dialect.Statement) (err error) {
	if err = r.read(ctx, q, s); err == nil {
		r.before, err = r.table.Snapshot(reflect.ValueOf(&r.Value).Elem())
	}
	return err
}

// read puts the row as it is now into Value.
func (r *Row[T]) read(ctx context.Context, q session.Querier, s dialect.Statement) error {
	var fresh T // a Scan method may add to what is there
	r.Value = fresh
	found, err := r.table.scan(ctx, q, s, &r.Value, &r.version)
	if err == nil && !found {
		err = raceproof.ErrNotFound
	}
	return err
}

// An Update is an UPDATE statement in the making.
type Update struct {
	Set    *dialect.SQL // the assignments
	Where  *dialect.SQL // the condition, which selects at most the row with Key
	Key    Key
	Locked bool // the transaction has locked the row, and nothing but its key, and its version, is in the condition
	Kept   bool // the version is not raised, so that the row can be left as it is
}

// SQL returns the statement of an Update.
func (t *Table[T]) SQL(u Update) *dialect.SQL {
	return t.sql().Add("UPDATE ").Name(t.Table).Add(" SET ").Append(u.Set).Add(" WHERE ").Append(u.Where)
}

// Write calls f to run an Update: as a transaction of its own where that can be, else in a transaction.
func (t *Table[T]) Write(ctx context.Context, f func(session.Querier) error) error {
	err := t.Pool.Write(ctx, t.alone.Load(), f)
	if errors.Is(err, session.ErrCommitUnknown) {
		t.verified.Store(false) // the table may be another than it was, so that its rows cannot be read any more
	}
	return err
}

// Update runs an UPDATE, puts the row as it is then into value, and reports whether there was one to update.
func (t *Table[T]) Update(ctx context.Context, q session.Querier, u Update, value *T) (found bool, err error) {
	var fresh T // a Scan method may add to what is there
	*value = fresh
	d := t.Pool.Dialect()
	s := t.SQL(u)
	tx, inside := q.(*session.Tx)
	if d.Returning && (d.ReturningInside || !inside) {
		if !inside {
			s.WaitAtMost(t.Pool.WaitAtMost(ctx))
		}
		return t.scan(ctx, q, locking(s.Add(" RETURNING ").Append(t.columns)), value, nil)
	}
	// A table without a version can be left as it is by an UPDATE that finds the row. Where such a row is not counted, it is
	// found before.
	uncounted := d.CountsChanged && (t.Counter == "" || u.Kept)
	if uncounted && !u.Locked {
		if found, err := t.lock(ctx, tx, u); err != nil || !found {
			return false, err
		}
	}
	// Nobody can change the row between the statements.
	switch n, err := tx.Change(ctx, locking(s)); {
	case err != nil:
		return false, err
	case n > 1:
		return false, session.ErrAmbiguous
	case n == 0 && !uncounted:
		return false, nil
	}
	// A row that was left as it is a plain SELECT could show as it was when the transaction began.
	found, err = t.scan(ctx, q, t.selects(u.Key, uncounted), value, new(int64))
	if err == nil && !found {
		err = errors.New("the row was updated and then was gone: a trigger has deleted it")
	}
	return found, err
}

func locking(s *dialect.SQL) dialect.Statement {
	statement := s.Statement()
	statement.Locks = true
	return statement
}

// lock locks the row that an Update would change, and reports whether there is one.
func (t *Table[T]) lock(ctx context.Context, tx *session.Tx, u Update) (bool, error) {
	s := locking(t.sql().Add("SELECT 1 FROM ").Name(t.Table).Add(" WHERE ").Append(u.Where).Add(t.Pool.Dialect().Lock))
	s.Read = true
	return tx.One(ctx, s, new(int64))
}

// scan runs a statement that yields the mapped columns and, if version is not nil, the hidden version.
func (t *Table[T]) scan(ctx context.Context, q session.Querier, s dialect.Statement, value *T, version *int64) (bool, error) {
	var counter Counter
	found, err := q.One(ctx, s, t.dest(value, &counter, version != nil)...)
	if err != nil || !found {
		return false, err
	}
	t.count(value, counter)
	if version != nil {
		*version = int64(counter)
	}
	return true, nil
}

// dest returns what the mapped columns are scanned into and, if it is hidden and wanted, the version.
func (t *Table[T]) dest(value *T, counter *Counter, hidden bool) []any {
	dest := t.Pointers(reflect.ValueOf(value).Elem())
	switch {
	case t.Version >= 0:
		dest[t.Version] = counter
	case hidden && t.Hidden():
		dest = append(dest, counter)
	}
	return dest
}

// count puts the version into its field, if it has one.
func (t *Table[T]) count(value *T, counter Counter) {
	if t.Version >= 0 {
		t.Columns[t.Version].Field(reflect.ValueOf(value).Elem()).SetInt(int64(counter))
	}
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

// Apply lets a caller's function change the row, and examines that.
func (r *Row[T]) Apply(ctx context.Context, f raceproof.Func[T]) error {
	if err := f(ctx, &r.Value); err != nil {
		return &FuncError{err}
	}
	return r.Examine()
}

// Examine finds out what a caller's function has changed, and checks that it may be written.
func (r *Row[T]) Examine() error {
	v := reflect.ValueOf(&r.Value).Elem()
	changed, err := r.before.Changed(v)
	if err == nil {
		err = r.table.mayChange(v, changed)
	}
	if err != nil {
		return err
	}
	r.changed = changed
	return nil
}

// mayChange returns an error unless a caller's function may give the columns the values that they have in the struct.
func (t *Table[T]) mayChange(v reflect.Value, changed []int) error {
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
	return nil
}

// Untouched returns ErrStale unless the row is still as it was read. Who holds the row's lock needs it only if the
// function had the chance to change the row in the same transaction.
func (r *Row[T]) Untouched(ctx context.Context, q session.Querier) error {
	now := &Row[T]{table: r.table, key: r.key}
	switch err := now.read(ctx, q, r.table.selects(r.key, true)); {
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

// Refresh reads the row as it is now: the function has left it as it was, but can have changed it by other means.
func (r *Row[T]) Refresh(ctx context.Context, q session.Querier) error {
	err := r.read(ctx, q, r.table.selects(r.key, true))
	if errors.Is(err, raceproof.ErrNotFound) {
		err = ErrStale
	}
	return err
}

// Unchanged tells whether Apply left nothing to write.
func (r *Row[T]) Unchanged() bool { return len(r.changed) == 0 }

// ErrStale: the row is not any more as it was read. It is one with raceproof.ErrConflict to callers.
var ErrStale = fmt.Errorf("%w: the row was changed or deleted after it was read", raceproof.ErrConflict)

// ErrSelf: it was the caller's function that changed the row, so that it would do it again.
var ErrSelf = fmt.Errorf("%w, by the function itself", ErrStale)

// ErrVersionFull: the version cannot rise any more.
var ErrVersionFull = fmt.Errorf("%w: the version is the greatest integer there is", raceproof.ErrOutOfRange)

// Write writes the columns that changed and raises the version, if the version is still the one that was read, and
// puts the row as it is then into Value; else it returns ErrStale. In a table without a version it is enough that the
// row is there: only whoever holds its lock can be sure that it is unchanged.
func (r *Row[T]) Write(ctx context.Context, q session.Querier) error {
	if r.Unchanged() {
		return nil
	}
	if r.table.Counter != "" && !r.written && r.version == math.MaxInt64 {
		return ErrVersionFull
	}
	if tx, inside := q.(*session.Tx); inside && r.known() {
		return r.writePlain(ctx, tx)
	}
	var after T // not Value itself: if the database is busy, Write is called again with it
	found, err := r.table.Update(ctx, q, r.update(), &after)
	switch {
	case err != nil:
		return err
	case !found:
		return ErrStale
	}
	r.Value = after
	return nil
}

// TrustPlain has a row that is locked not be read back after it was written, if it is known what the database makes of it: now
// that nobody has to be waited for any more.
func (r *Row[T]) TrustPlain() { r.plain = r.table.knownPlain() }

// known tells whether the row is known as it will be in the database, where it costs a statement to ask.
func (r *Row[T]) known() bool {
	if r.plain == nil || r.written || r.table.Pool.Dialect().ReturningInside || !r.table.Flat() {
		return false
	}
	v := reflect.ValueOf(&r.Value).Elem()
	return !slices.ContainsFunc(r.changed, func(column int) bool { return !r.plain.Holds(column, v) })
}

// writePlain is Write where it is known what the database makes of the columns.
func (r *Row[T]) writePlain(ctx context.Context, tx *session.Tx) error {
	after := &heldRow[T]{Row: *r, raised: 1, touched: r.changed}
	if err := r.table.change(ctx, tx, r.table.updatesOne(after), 1); err != nil {
		return err
	}
	r.before.Restore(reflect.ValueOf(&after.Value).Elem())
	after.take(reflect.ValueOf(&r.Value).Elem(), r.changed)
	r.Value = after.Value
	return nil
}

// WriteLocked is Write for who holds the row's lock. If the transaction was used since the row was read, this very row can
// have been changed in it, which writing would undo.
func (r *Row[T]) WriteLocked(ctx context.Context, tx *session.Tx, used bool) (err error) {
	if used {
		r.plain = nil // the function can have altered the table
	}
	switch {
	case used && r.Unchanged():
		err = r.Refresh(ctx, tx)
	case used:
		err = r.Untouched(ctx, tx)
	}
	if err == nil {
		err = r.Write(ctx, tx)
	}
	if used && errors.Is(err, ErrStale) {
		err = ErrSelf // nobody else can change the row
	}
	return err
}

// update is the statement that writes the row.
func (r *Row[T]) update() Update {
	t := r.table
	v := reflect.ValueOf(&r.Value).Elem()
	u := Update{t.sql(), t.sql(), r.key, r.locked, r.written}
	for i, column := range r.changed {
		if i > 0 {
			u.Set.Add(", ")
		}
		u.Set.Name(t.Columns[column].Name).Add(" = ")
		t.bind(u.Set, column, t.Columns[column].Field(v).Interface())
	}
	t.HasKey(u.Where, r.key)
	if t.Counter != "" {
		if !r.written {
			u.Set.Add(", ").Name(t.Counter).Add(" = ").Integer(r.version + 1)
		}
		u.Where.Add(" AND ").Name(t.Counter).Add(" = ").Integer(r.version)
	}
	return u
}

// CheckValue refuses a value that the database would store as something else without saying so.
func CheckValue(d *dialect.Dialect, value any) error {
	if !d.NoNaN && !d.NoInfinity {
		return nil
	}
	switch value.(type) {
	case int, int64, string, bool:
		return nil // what most columns are, without the cost of a conversion
	}
	// What cannot be converted is left to the driver, which says so.
	converted, _ := driver.DefaultParameterConverter.ConvertValue(value)
	f, isFloat := converted.(float64)
	if isFloat && (d.NoNaN && math.IsNaN(f) || d.NoInfinity && math.IsInf(f, 0)) {
		return fmt.Errorf("%w: the database cannot store %v", raceproof.ErrOutOfRange, f)
	}
	return nil
}

// Wrap says which row an error is about. The error of a caller's own function goes back to him as it is.
func (t *Table[T]) Wrap(key any, err error) error {
	return t.WrapAs(fmt.Sprintf("update %s with key %v", t.Table, key), err)
}

// WrapAs is Wrap for something else than the update of a row.
func (t *Table[T]) WrapAs(what string, err error) error {
	var own *FuncError
	if _, gaveUp := err.(*raceproof.RetryError); !gaveUp && errors.As(err, &own) {
		if errors.Is(err, raceproof.ErrLeaseLost) && !errors.Is(own.Err, raceproof.ErrLeaseLost) {
			return err // the function has hidden why its transaction could not be committed
		}
		return own.Err
	}
	switch t.Pool.Dialect().Classify(err) {
	case dialect.OutOfRange:
		err = fmt.Errorf("%w: an integer overflow, a division by zero, or more than the database can hold: %w", raceproof.ErrOutOfRange, err)
	case dialect.Conflict:
		if !errors.Is(err, raceproof.ErrConflict) {
			err = fmt.Errorf("%w: %w", raceproof.ErrConflict, err)
		}
	case dialect.Busy:
		if !errors.Is(err, raceproof.ErrLocked) {
			err = fmt.Errorf("%w: %w", raceproof.ErrLocked, err)
		}
	}
	return fmt.Errorf("raceproof: %s: %w", what, err)
}

// Invalid says what was wrong with the arguments that an updater was made with.
func Invalid(constructor string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("raceproof: %s: %w", constructor, err)
}
