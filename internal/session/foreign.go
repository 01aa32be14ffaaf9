package session

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/jmoiron/sqlx"
)

// Code of callers runs in the middle of database/sql: the Value method of what is bound, the Scan method of what is
// scanned into. If it does not return there, because it panics or ends its goroutine, database/sql keeps a lock that it
// never gives back, and closing the rows or the connection waits for that for ever. So the one is called before, and the
// other after.

var valuerType = reflect.TypeFor[driver.Valuer]()

// settle returns the arguments with the values of those that are Valuers, or point to one.
func settle(args []any) ([]any, error) {
	var settled []any
	for i, arg := range args {
		named, isNamed := arg.(sql.NamedArg)
		if isNamed {
			arg = named.Value
		}
		if !valued(arg) {
			continue
		}
		value, err := driver.DefaultParameterConverter.ConvertValue(arg)
		if err != nil {
			return nil, fmt.Errorf("raceproof: argument %d: %w", i+1, err)
		}
		if settled == nil {
			settled = slices.Clone(args) // the caller's own slice stays as it is
		}
		settled[i] = value
		if isNamed {
			named.Value = value
			settled[i] = named
		}
	}
	if settled == nil {
		return args, nil
	}
	return settled, nil
}

func valued(arg any) bool {
	switch arg.(type) {
	case nil, int64, int, string, float64, bool, []byte:
		return false // what most are
	case driver.Valuer:
		return true
	}
	t := reflect.TypeOf(arg)
	for t.Kind() == reflect.Pointer {
		if t = t.Elem(); t.Implements(valuerType) {
			return true
		}
	}
	return false
}

// Returns is a Scanner of this module's: its Scan method always returns.
type Returns interface{ Returns() }

// A capture takes the value of a column in the place of a caller's Scanner.
type capture struct {
	scanner sql.Scanner
	value   any
}

// Scan implements sql.Scanner.
func (c *capture) Scan(value any) error {
	if b, ok := value.([]byte); ok {
		value = bytes.Clone(b) // the driver's own, until the next row
	}
	c.value = value
	return nil
}

// captured returns the destinations with captures in the place of callers' Scanners, and the captures. The Scanners of
// database/sql run none of a caller's code.
func captured(dest []any) (replaced []any, captures []*capture) {
	replaced = dest
	for i, d := range dest {
		switch d.(type) {
		case *int64, *int, *string, *float64, *bool, *[]byte, *time.Time, **int64, **string, **float64, **time.Time:
			continue // what most are
		case *sql.NullString, *sql.NullInt64, *sql.NullInt32, *sql.NullInt16, *sql.NullByte, *sql.NullFloat64, *sql.NullBool, *sql.NullTime,
			Returns:
			continue
		}
		c := newCapture(d)
		if c == nil {
			continue
		}
		if captures == nil {
			replaced = slices.Clone(dest)
		}
		captures = append(captures, c)
		replaced[i] = c
	}
	return replaced, captures
}

// newCapture returns a capture for a Scanner, or for a pointer to be set to one, and nil for anything else.
func newCapture(d any) *capture {
	if s, ok := d.(sql.Scanner); ok {
		return &capture{scanner: s}
	}
	v := reflect.ValueOf(d)
	if v.Kind() != reflect.Pointer || v.Type().Elem().Kind() != reflect.Pointer {
		return nil
	}
	made := reflect.New(v.Type().Elem().Elem())
	inner := newCapture(made.Interface())
	if inner == nil {
		return nil
	}
	return &capture{scanner: chain{v.Elem(), made, inner.scanner}}
}

// A chain sets a pointer to a Scanner when there is a value for that, and else to nil.
type chain struct {
	pointer, made reflect.Value
	scanner       sql.Scanner
}

func (c chain) Scan(value any) error {
	if value == nil {
		c.pointer.SetZero()
		return nil
	}
	if err := c.scanner.Scan(value); err != nil {
		return err
	}
	c.pointer.Set(c.made)
	return nil
}

// deliver calls the Scanners with what was captured for them.
func deliver(captures []*capture) error {
	for _, c := range captures {
		if err := c.scanner.Scan(c.value); err != nil {
			return fmt.Errorf("scan into %T: %w", c.scanner, err)
		}
	}
	return nil
}

// rowOf returns a Row that holds an error, which only sqlx can make: it is what a query on a pool gets whose
// connections fail with that error.
func rowOf(ctx context.Context, err error) *sqlx.Row {
	pool := sqlx.NewDb(sql.OpenDB(failing{err}), "")
	defer func() { _ = pool.Close() }()
	return pool.QueryRowxContext(context.WithoutCancel(ctx), "")
}

type failing struct{ err error }

func (f failing) Connect(context.Context) (driver.Conn, error) { return nil, f.err }
func (f failing) Open(string) (driver.Conn, error)             { return nil, f.err }
func (f failing) Driver() driver.Driver                        { return f }
