package atomic

import (
	"fmt"
	"slices"
	"strings"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
)

// A Change says what becomes of a row: which columns are set to what, and on what condition. It is a value: its
// methods return a new Change and leave the old one as it was, so that one can be kept and used many times, by many
// callers. Start with Set.
type Change struct {
	assignments []assignment
	condition   node
}

type assignment struct {
	column string
	value  node
}

// Set returns a change that sets a column to a value: an [Expr], any value that the driver takes, or nil for NULL.
func Set(column string, value any) Change {
	return Change{}.Set(column, value)
}

// Set returns the change with one more column set. All values are computed from the row as it was before the change.
func (c Change) Set(column string, value any) Change {
	c.assignments = append(slices.Clip(c.assignments), assignment{column, operand(value)})
	return c
}

// If returns the change guarded by a condition: where it does not hold, or is NULL, nothing is written, and the update
// is raceproof.ErrConditionFailed. Several conditions must all hold.
func (c Change) If(condition Condition) Change {
	if c.condition == nil {
		c.condition = condition.nodeOrMissing()
	} else {
		c.condition = logic{" AND ", c.condition, condition.nodeOrMissing()}
	}
	return c
}

// check returns an error if T or the database does not allow the change.
func (c Change) check(m *mapping.Mapping, d *dialect.Dialect) error {
	if len(c.assignments) == 0 {
		return errNoColumn
	}
	var set []int
	for _, a := range c.assignments {
		i, err := index(m, a.column)
		if err != nil {
			return err
		}
		switch {
		case slices.Contains(set, i):
			return fmt.Errorf("column %q is set twice", a.column)
		case slices.Contains(m.Key, i):
			return fmt.Errorf("column %q is the key, which cannot be changed", a.column)
		case i == m.Version:
			return fmt.Errorf("column %q is the version, which is kept by this library", a.column)
		}
		set = append(set, i)
		if err := checkAssignment(m, d, &m.Columns[i], a.value); err != nil {
			return fmt.Errorf("set %q: %w", a.column, err)
		}
	}
	if c.condition != nil {
		if _, err := c.condition.check(m, d); err != nil {
			return fmt.Errorf("condition: %w", err)
		}
	}
	return nil
}

func checkAssignment(m *mapping.Mapping, d *dialect.Dialect, column *mapping.Column, value node) error {
	f, err := value.check(m, d)
	if err != nil {
		return err
	}
	if f.null && !column.Null {
		return fmt.Errorf("the field is of type %s, which cannot be NULL", column.Type)
	}
	switch {
	case f.null:
	case column.Kind == mapping.Integer && f.kind == mapping.Float:
		return fmt.Errorf("the value can have a fraction, and the field is of type %s", column.Type)
	case !f.kind.Matches(column.Kind):
		return fmt.Errorf("the value does not fit the field, which is of type %s", column.Type)
	}
	return f.fits()
}

// write adds the value, as its column takes it.
func (a assignment) write(s *dialect.SQL, m *mapping.Mapping) {
	l, isLiteral := a.value.(literal)
	if !isLiteral {
		a.value.write(s, m)
		return
	}
	if m.Columns[m.Index(a.column)].Kind == mapping.Integer {
		s.Integer(l.value)
		return
	}
	if f, isFloat := l.value.(float64); isFloat {
		s.Fraction(f)
		return
	}
	s.Value(l.value)
}

// ordered returns the assignments in an order in which every value is computed from the row as it was before the
// change, also by a database that assigns one after the other: a column is read before it is set.
func (c Change) ordered(m *mapping.Mapping, d *dialect.Dialect) ([]assignment, error) {
	if !d.LeftToRight {
		return c.assignments, nil
	}
	rest := slices.Clone(c.assignments)
	ordered := make([]assignment, 0, len(rest))
	for len(rest) > 0 {
		next := slices.IndexFunc(rest, func(a assignment) bool {
			return !slices.ContainsFunc(rest, func(other assignment) bool {
				return other.column != a.column && reads(other.value, m, m.Index(a.column))
			})
		})
		if next < 0 {
			var columns []string
			for _, a := range rest {
				columns = append(columns, fmt.Sprintf("%q", a.column))
			}
			return nil, fmt.Errorf("the new values of %s need each other's old ones, and the database assigns one after the other: "+
				"use lock or optimistic", strings.Join(columns, " and "))
		}
		ordered = append(ordered, rest[next])
		rest = slices.Delete(rest, next, next+1)
	}
	return ordered, nil
}

// index returns the index of a column, or an error that names those there are.
func index(m *mapping.Mapping, column string) (int, error) {
	if err := dialect.CheckName(column); err != nil {
		return 0, err
	}
	if i := m.Index(column); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("%s has no column %q: it has %s", m.Type, column, strings.Join(m.Names(), ", "))
}

// canonical returns the name of a column that check has passed, as T spells it.
func canonical(m *mapping.Mapping, column string) string { return m.Columns[m.Index(column)].Name }
