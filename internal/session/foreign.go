package session

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
)

// Code of callers runs in the middle of database/sql: the Value method of what is bound, the Scan method of what is
// scanned into. If it panics there, database/sql keeps a lock that it never gives back, and closing the rows or the
// connection waits for that for ever. So the one is called before, and the other in a shield.

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

// A panicked is the value of a caller's panic, on its way out of database/sql.
type panicked struct{ value any }

func (p *panicked) Error() string { return fmt.Sprint("panic: ", p.value) }

// goOn lets a caller's panic go on, now that everything is closed.
func goOn(err error) error {
	if p, ok := err.(*panicked); ok {
		panic(p.value)
	}
	return err
}

// Harmless is a Scanner of this module's, which needs no shield.
type Harmless interface{ Harmless() }

// A shield keeps a panic of a caller's Scan method from database/sql.
type shield struct {
	sql.Scanner
	panic *panicked
}

func (s *shield) Scan(value any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.panic = &panicked{p}
			err = s.panic
		}
	}()
	return s.Scanner.Scan(value)
}

// scan scans a row. If a caller's Scan method has panicked, the error is a *panicked.
func scan(rows *sql.Rows, dest []any) error {
	var shields []*shield
	for i, d := range dest {
		scanner, ok := d.(sql.Scanner)
		if _, ours := d.(Harmless); ok && !ours {
			s := &shield{Scanner: scanner}
			shields = append(shields, s)
			dest[i] = s
		}
	}
	err := rows.Scan(dest...)
	for _, s := range shields {
		if s.panic != nil {
			return s.panic
		}
	}
	return err
}
