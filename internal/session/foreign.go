package session

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// Code of callers runs in the middle of database/sql: the Value method of what is bound, the Scan method of what is
// scanned into. If it does not return there, because it panics or ends its goroutine, database/sql keeps a lock that it
// never gives back, and closing the rows or the connection waits for that for ever. So the one is called before, and the
// other after, with nothing of database/sql or of ours locked.

// settle returns the arguments with the values of those that are Valuers.
func settle(args []any) ([]any, error) {
	var settled []any
	for i, arg := range args {
		named, isNamed := arg.(sql.NamedArg)
		if isNamed {
			arg = named.Value
		}
		if _, ok := arg.(driver.Valuer); !ok {
			continue
		}
		value, err := driver.DefaultParameterConverter.ConvertValue(arg)
		if err != nil {
			return nil, fmt.Errorf("raceproof: argument %d: %w", i+1, err)
		}
		if settled == nil {
			settled = append(settled, args...) // the caller's own slice stays as it is
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

// captured puts captures in the place of callers' Scanners. Those of database/sql run none of a caller's code.
func captured(dest []any) (captures []*capture) {
	for i, d := range dest {
		switch d := d.(type) {
		case *sql.NullString, *sql.NullInt64, *sql.NullInt32, *sql.NullInt16, *sql.NullByte, *sql.NullFloat64, *sql.NullBool, *sql.NullTime:
		case sql.Scanner:
			c := &capture{scanner: d}
			captures = append(captures, c)
			dest[i] = c
		}
	}
	return captures
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
