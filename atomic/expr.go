package atomic

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"reflect"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
	"github.com/raceproof/raceproof/internal/row"
)

// An Expr is an expression that the database evaluates on the row as it is before the change. It is a value that
// never changes. Where an operand is wanted, an Expr or a Go value will do; Go values are bound, never written into the
// statement.
//
// Arithmetic on integers stays among the integers, on every database: Div drops the fraction, and an overflow or a
// division by zero is raceproof.ErrOutOfRange. Arithmetic with NULL is NULL; see [Expr.Coalesce].
type Expr struct{ node node }

// F stands for the value of a column, which T must map.
func F(column string) Expr { return Expr{field(column)} }

// Value stands for a Go value, for where an expression has to begin with one: Value(100).Sub(F("score")).
func Value(v any) Expr { return Expr{operand(v)} }

// Add is e + operand.
func (e Expr) Add(operand any) Expr { return e.with(add, operand) }

// Sub is e - operand.
func (e Expr) Sub(operand any) Expr { return e.with(sub, operand) }

// Mul is e * operand.
func (e Expr) Mul(operand any) Expr { return e.with(mul, operand) }

// Div is e / operand; for two integers it is the quotient without its fraction, as in Go.
func (e Expr) Div(operand any) Expr { return e.with(div, operand) }

// Mod is the remainder of e / operand for two integers. It has the sign of e, as in Go.
func (e Expr) Mod(operand any) Expr { return e.with(mod, operand) }

// Neg is -e.
func (e Expr) Neg() Expr { return Expr{arithmetic{sub, literal{int64(0)}, e.nodeOrMissing()}} }

// Coalesce is e or, where e is NULL, the operand.
func (e Expr) Coalesce(operand any) Expr { return e.with(coalesce, operand) }

func (e Expr) with(op operator, v any) Expr {
	return Expr{arithmetic{op, e.nodeOrMissing(), operand(v)}}
}

func (e Expr) nodeOrMissing() node {
	if e.node == nil {
		return missing("an Expr is empty: begin with F or Value")
	}
	return e.node
}

// operand makes a node of an Expr or of a Go value.
func operand(v any) node {
	switch v := v.(type) {
	case Expr:
		return v.nodeOrMissing()
	case Condition:
		return missing("a Condition stands where a value must")
	}
	return literal{v}
}

// A node is a part of an expression or of a condition.
type node interface {
	// check finds out what the node yields, and returns an error if it makes no sense.
	check(*mapping.Mapping, *dialect.Dialect) (facts, error)
	// write adds the node, which check has passed, to a statement.
	write(*dialect.SQL, *mapping.Mapping)
}

// facts are what is known of a node before the database evaluates it.
type facts struct {
	kind mapping.Kind
	null bool // it is the literal NULL
	size int  // the number of nodes that are written for it
}

func (f facts) fits() error {
	if f.size > maxSize {
		return fmt.Errorf("the expression has more than %d parts", maxSize)
	}
	return nil
}

// missing stands where the caller left something out.
type missing string

func (n missing) check(*mapping.Mapping, *dialect.Dialect) (facts, error) {
	return facts{}, errors.New(string(n))
}
func (n missing) write(*dialect.SQL, *mapping.Mapping) {}

// field is a column.
type field string

func (n field) check(m *mapping.Mapping, _ *dialect.Dialect) (facts, error) {
	i, err := index(m, string(n))
	if err != nil {
		return facts{}, err
	}
	return facts{kind: m.Columns[i].Kind, size: 1}, nil
}

func (n field) write(s *dialect.SQL, m *mapping.Mapping) { s.Name(canonical(m, string(n))) }

// literal is a Go value.
type literal struct{ value any }

func (n literal) check(_ *mapping.Mapping, d *dialect.Dialect) (facts, error) {
	v, err := driver.DefaultParameterConverter.ConvertValue(n.value)
	if err != nil {
		return facts{}, fmt.Errorf("value of type %T: %w", n.value, err)
	}
	if v == nil {
		return facts{null: true, size: 1}, nil
	}
	if err := row.CheckValue(d, v); err != nil {
		return facts{}, err
	}
	return facts{kind: mapping.KindOf(reflect.TypeOf(v)), size: 1}, nil
}

func (n literal) write(s *dialect.SQL, _ *mapping.Mapping) { s.Value(n.value) }

// isZero tells whether the value is a number that is zero, and isNumber whether it is a number.
func (n literal) number() (isZero, isNumber bool) {
	v, _ := driver.DefaultParameterConverter.ConvertValue(n.value)
	switch v := v.(type) {
	case int64:
		return v == 0, true
	case float64:
		return v == 0, true
	}
	return false, false
}

type operator int

const (
	add operator = iota
	sub
	mul
	div
	mod
	coalesce
)

func (op operator) String() string {
	return [...]string{"Add", "Sub", "Mul", "Div", "Mod", "Coalesce"}[op]
}

// fragments are what is written before, between and after the operands.
func (op operator) fragments() (before, between, after dialect.Fragment) {
	return "(", [...]dialect.Fragment{" + ", " - ", " * ", " / ", " % ", ", "}[op], ")"
}

// arithmetic joins two operands.
type arithmetic struct {
	op          operator
	left, right node
}

func (n arithmetic) check(m *mapping.Mapping, d *dialect.Dialect) (facts, error) {
	left, err := n.left.check(m, d)
	if err != nil {
		return facts{}, err
	}
	right, err := n.right.check(m, d)
	if err != nil {
		return facts{}, err
	}
	both := facts{kind: join(left.kind, right.kind), size: left.size + right.size + 1}
	if n.op == coalesce {
		if left.null || right.null {
			return both, errors.New("Coalesce of NULL")
		}
		if (left.kind == mapping.NotNumber) != (right.kind == mapping.NotNumber) && both.kind != mapping.Other {
			return both, errors.New("Coalesce of a number and what is none")
		}
		return both, both.fits()
	}
	switch {
	case left.null || right.null:
		return both, fmt.Errorf("%s with NULL is always NULL: set the column to nil", n.op)
	case left.kind == mapping.NotNumber || right.kind == mapping.NotNumber:
		return both, fmt.Errorf("%s of what is not a number", n.op)
	case n.op == mod && both.kind == mapping.Float:
		return both, errors.New("Mod of what is not an integer")
	}
	if n.op == div || n.op == mod {
		zero, isNumber := isZero(n.right)
		if zero {
			return both, errors.New("division by zero")
		}
		if !isNumber {
			both.size += right.size // the guard writes the divisor twice
		}
	}
	return both, both.fits()
}

func isZero(n node) (zero, isNumber bool) {
	if l, ok := n.(literal); ok {
		return l.number()
	}
	return false, false
}

func join(a, b mapping.Kind) mapping.Kind {
	switch {
	case a == b:
		return a
	case a == mapping.Other || b == mapping.Other:
		return mapping.Other
	case a == mapping.NotNumber || b == mapping.NotNumber:
		return mapping.NotNumber
	}
	return mapping.Float
}

// write adds the operands with the guards that make an integer that overflows, and a division by zero, an error.
func (n arithmetic) write(s *dialect.SQL, m *mapping.Mapping) {
	if f, _ := n.check(m, s.Dialect()); f.kind == mapping.Integer {
		// One guard around the whole is enough: a REAL stays one through all that follows.
		s.Integer(func(s *dialect.SQL) { n.bare(s, m) })
		return
	}
	n.bare(s, m)
}

// bare adds the operands without the guard for integers around them.
func (n arithmetic) bare(s *dialect.SQL, m *mapping.Mapping) {
	before, between, after := n.op.fragments()
	if n.op == coalesce {
		s.Add("coalesce")
	}
	s.Add(before)
	bare(n.left, s, m)
	s.Add(between)
	if _, isNumber := isZero(n.right); (n.op == div || n.op == mod) && !isNumber {
		s.Divisor(func(s *dialect.SQL) { bare(n.right, s, m) })
	} else {
		bare(n.right, s, m)
	}
	s.Add(after)
}

func bare(n node, s *dialect.SQL, m *mapping.Mapping) {
	if a, ok := n.(arithmetic); ok {
		a.bare(s, m)
		return
	}
	n.write(s, m)
}
