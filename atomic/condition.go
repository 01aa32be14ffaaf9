package atomic

import (
	"errors"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
)

// A Condition is what must hold of a row for a change to be made. It is a value that never changes. A comparison with
// NULL is neither true nor false, and so does not hold.
type Condition struct{ node node }

var _ raceproof.Condition = Condition{}

// Eq is e = operand.
func (e Expr) Eq(operand any) Condition { return e.compare(" = ", operand) }

// Ne is e <> operand.
func (e Expr) Ne(operand any) Condition { return e.compare(" <> ", operand) }

// Lt is e < operand.
func (e Expr) Lt(operand any) Condition { return e.compare(" < ", operand) }

// Le is e <= operand.
func (e Expr) Le(operand any) Condition { return e.compare(" <= ", operand) }

// Gt is e > operand.
func (e Expr) Gt(operand any) Condition { return e.compare(" > ", operand) }

// Ge is e >= operand.
func (e Expr) Ge(operand any) Condition { return e.compare(" >= ", operand) }

// IsNull holds if e is NULL.
func (e Expr) IsNull() Condition { return Condition{nullTest{" IS NULL", e.nodeOrMissing()}} }

// IsNotNull holds if e is not NULL.
func (e Expr) IsNotNull() Condition { return Condition{nullTest{" IS NOT NULL", e.nodeOrMissing()}} }

// And holds if both conditions do.
func (c Condition) And(other Condition) Condition {
	return Condition{logic{" AND ", c.nodeOrMissing(), other.nodeOrMissing()}}
}

// Or holds if at least one of the conditions does.
func (c Condition) Or(other Condition) Condition {
	return Condition{logic{" OR ", c.nodeOrMissing(), other.nodeOrMissing()}}
}

// Not holds if the condition is false; if it is NULL, Not is NULL too.
func Not(c Condition) Condition { return Condition{negation{c.nodeOrMissing()}} }

func (e Expr) compare(op dialect.Fragment, v any) Condition {
	return Condition{comparison{op, e.nodeOrMissing(), operand(v)}}
}

func (c Condition) nodeOrMissing() node {
	if c.node == nil {
		return missing("a Condition is empty: make one by comparing an Expr")
	}
	return c.node
}

// WriteCondition implements raceproof.Condition.
func (c Condition) WriteCondition(s *dialect.SQL, m *mapping.Mapping) error {
	n := c.nodeOrMissing()
	if _, err := n.check(m, s.Dialect()); err != nil {
		return err
	}
	n.write(s, m)
	return nil
}

// comparison compares two values.
type comparison struct {
	op          dialect.Fragment
	left, right node
}

func (n comparison) check(m *mapping.Mapping, d *dialect.Dialect) (facts, error) {
	left, right, err := checkBoth(n.left, n.right, m, d)
	if err != nil {
		return facts{}, err
	}
	if left.null || right.null {
		return facts{}, errors.New("a comparison with NULL never holds: use IsNull or IsNotNull")
	}
	if !left.kind.Matches(right.kind) {
		return facts{}, errors.New("values of different types are compared")
	}
	if order := n.op != " = " && n.op != " <> "; order && d.Untyped && (left.kind == mapping.Other) != (right.kind == mapping.Other) {
		return facts{}, errors.New("a type with a conversion of its own has no order that the database knows")
	}
	if d.TimesAreTexts && (left.kind == mapping.Time || right.kind == mapping.Time) {
		return facts{}, errors.New("the database compares times as texts, whatever their zones: store them as integers")
	}
	return sum(left, right)
}

func (n comparison) write(s *dialect.SQL, m *mapping.Mapping) {
	writePair(s, m, n.op, n.left, n.right)
}

// logic joins two conditions.
type logic struct {
	op          dialect.Fragment
	left, right node
}

func (n logic) check(m *mapping.Mapping, d *dialect.Dialect) (facts, error) {
	left, right, err := checkBoth(n.left, n.right, m, d)
	if err != nil {
		return facts{}, err
	}
	return sum(left, right)
}

func (n logic) write(s *dialect.SQL, m *mapping.Mapping) { writePair(s, m, n.op, n.left, n.right) }

// negation is NOT.
type negation struct{ condition node }

func (n negation) check(m *mapping.Mapping, d *dialect.Dialect) (facts, error) {
	f, err := n.condition.check(m, d)
	if err != nil {
		return facts{}, err
	}
	return sum(f, facts{})
}

func (n negation) write(s *dialect.SQL, m *mapping.Mapping) {
	s.Add("(NOT ")
	n.condition.write(s, m)
	s.Add(")")
}

// nullTest tells whether a value is NULL.
type nullTest struct {
	op    dialect.Fragment
	value node
}

func (n nullTest) check(m *mapping.Mapping, d *dialect.Dialect) (facts, error) {
	f, err := n.value.check(m, d)
	if err != nil {
		return facts{}, err
	}
	return sum(f, facts{})
}

func (n nullTest) write(s *dialect.SQL, m *mapping.Mapping) {
	s.Add("(")
	n.value.write(s, m)
	s.Add(n.op).Add(")")
}

// sum is what is known of a condition over two nodes.
func sum(left, right facts) (facts, error) {
	f := facts{size: left.size + right.size + 1}
	return f, f.fits()
}

func writePair(s *dialect.SQL, m *mapping.Mapping, op dialect.Fragment, left, right node) {
	s.Add("(")
	writeBeside(s, m, left, right, false)
	s.Add(op)
	writeBeside(s, m, right, left, false)
	s.Add(")")
}
