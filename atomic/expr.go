package atomic

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
	"github.com/raceproof/raceproof/internal/row"
)

// An Expr is an expression that the database evaluates on the row as it is before the change. It is a value that
// never changes. Where an operand is wanted, an Expr or a Go value will do; Go values are bound, never written into the
// statement.
//
// Arithmetic on integers stays among the integers, on every database: Div drops the fraction, and an overflow or a
// division by zero is raceproof.ErrOutOfRange. Arithmetic with NULL is NULL; see [Expr.Coalesce]. So is, on SQLite,
// arithmetic on fractions that has no result, such as the difference of two numbers that have become infinite.
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
func (e Expr) Neg() Expr { return Expr{arithmetic{sub, literal{value: int64(0)}, e.nodeOrMissing()}} }

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
	// Converted here and once: what stands behind a pointer may change later.
	value, err := driver.DefaultParameterConverter.ConvertValue(v)
	if err != nil {
		return missing(fmt.Sprintf("value of type %T: %v", v, err))
	}
	if b, ok := value.([]byte); ok {
		value = slices.Clone(b)
	}
	own := value != nil && mapping.KindOf(reflect.TypeOf(v)) == mapping.Other
	return literal{value, own}
}

// A node is a part of an expression or of a condition.
type node interface {
	// check finds out what the node yields, and returns an error if it makes no sense.
	check(*mapping.Mapping, *dialect.Dialect) (facts, error)
	// write adds the node, which check has passed, to a statement.
	write(*dialect.SQL, *mapping.Mapping)
}

// reads tells whether a value is computed from a column.
func reads(n node, m *mapping.Mapping, column int) bool {
	switch n := n.(type) {
	case field:
		return m.Index(string(n)) == column
	case arithmetic:
		return reads(n.left, m, column) || reads(n.right, m, column)
	}
	return false
}

// checkBoth checks two nodes that belong together.
func checkBoth(left, right node, m *mapping.Mapping, d *dialect.Dialect) (l, r facts, err error) {
	if l, err = left.check(m, d); err != nil {
		return facts{}, facts{}, err
	}
	if r, err = right.check(m, d); err != nil {
		return facts{}, facts{}, err
	}
	return l, r, nil
}

// facts are what is known of a node before the database evaluates it.
type facts struct {
	kind    mapping.Kind
	null    bool // it is the literal NULL
	size    int  // the number of nodes that are written for it
	factors int  // the number of multiplications in it
}

// Bounds of an expression, and with it of the statement. A product of 16 integers is less than 2^1008, which the
// floating-point number that an overflow makes of it can still hold.
const (
	maxSize    = 1000
	maxFactors = 15
)

func (f facts) fits() error {
	if f.size > maxSize {
		return fmt.Errorf("the expression has more than %d parts", maxSize)
	}
	if f.factors > maxFactors {
		return fmt.Errorf("the expression multiplies more than %d times", maxFactors)
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

// literal is a Go value, as drivers take it.
type literal struct {
	value driver.Value
	own   bool // it was made from a type with a conversion of its own, a decimal number for example
}

func (n literal) check(_ *mapping.Mapping, d *dialect.Dialect) (facts, error) {
	if n.value == nil {
		return facts{null: true, size: 1}, nil
	}
	if err := row.CheckValue(d, n.value); err != nil {
		return facts{}, err
	}
	if n.own && !d.Untyped {
		return facts{size: 1}, nil
	}
	return facts{kind: mapping.KindOf(reflect.TypeOf(n.value)), size: 1}, nil
}

func (n literal) write(s *dialect.SQL, _ *mapping.Mapping) {
	switch n.value.(type) {
	case int64:
		s.Integer(n.value)
	case float64:
		s.Float(n.value)
	default:
		s.Value(n.value)
	}
}

// writeBeside writes an operand that stands beside another. What stands beside anything but integers is what that is,
// which can be more exact than a floating-point number.
func writeBeside(s *dialect.SQL, m *mapping.Mapping, n, other node, arithmetic bool) {
	l, isLiteral := n.(literal)
	_, otherToo := other.(literal)
	if !isLiteral || otherToo {
		n.write(s, m)
		return
	}
	beside, _ := other.check(m, s.Dialect())
	f, isFloat := l.value.(float64)
	text, isText := l.value.(string)
	switch {
	case isFloat && beside.kind != mapping.Integer:
		s.Exact(f)
	case isText && l.own && arithmetic:
		s.Decimal(text)
	default:
		n.write(s, m)
	}
}

// infinite tells whether the value is an infinite number.
func (n literal) infinite() bool {
	f, ok := n.value.(float64)
	return ok && math.IsInf(f, 0)
}

// divisor tells whether a node is a number that is written down, and whether that is zero.
func divisor(n node) (zero, known bool) {
	l, _ := n.(literal)
	switch v := l.value.(type) {
	case int64:
		return v == 0, true
	case float64:
		return v == 0, true
	}
	return false, false
}
