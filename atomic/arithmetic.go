package atomic

import (
	"errors"
	"fmt"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
)

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

// between is what is written between the operands of a kind.
func (op operator) between(d *dialect.Dialect, kind mapping.Kind) dialect.Fragment {
	if op == div && kind == mapping.Integer {
		return d.Quotient
	}
	return [...]dialect.Fragment{" + ", " - ", " * ", " / ", " % ", ", "}[op]
}

func (op operator) divides() bool { return op == div || op == mod }

// arithmetic joins two operands.
type arithmetic struct {
	op          operator
	left, right node
}

func (n arithmetic) check(m *mapping.Mapping, d *dialect.Dialect) (facts, error) {
	left, right, err := checkBoth(n.left, n.right, m, d)
	if err != nil {
		return facts{}, err
	}
	f := facts{kind: join(left.kind, right.kind), size: left.size + right.size + 1, factors: left.factors + right.factors}
	if n.op == coalesce {
		err = checkCoalesce(left, right)
	} else {
		err = n.checkNumbers(left, right, d)
	}
	if err != nil {
		return facts{}, err
	}
	if n.op == mul {
		f.factors++
	}
	if _, known := divisor(n.right); n.op.divides() && !known {
		f.size += right.size // the guard writes the divisor twice
	}
	return f, f.fits()
}

func checkCoalesce(left, right facts) error {
	if left.null || right.null {
		return errors.New("Coalesce of NULL")
	}
	if !left.kind.Matches(right.kind) {
		return errors.New("Coalesce of values of different types")
	}
	return nil
}

// checkNumbers returns an error unless the operator makes sense for the operands.
func (n arithmetic) checkNumbers(left, right facts, d *dialect.Dialect) error {
	for _, f := range []facts{left, right} {
		switch {
		case f.null:
			return fmt.Errorf("%s with NULL is always NULL: set the column to nil", n.op)
		case f.kind == mapping.Other && d.Untyped:
			return fmt.Errorf("%s of a type with a conversion of its own: the database could make anything of it", n.op)
		case f.kind != mapping.Other && !f.kind.IsNumber():
			return fmt.Errorf("%s of what is not a number", n.op)
		case n.op == mod && f.kind != mapping.Integer:
			return errors.New("Mod of what is not an integer")
		}
	}
	for _, operand := range []node{n.left, n.right} {
		if l, ok := operand.(literal); ok && l.infinite() {
			return fmt.Errorf("%w: %s of an infinite number", raceproof.ErrOutOfRange, n.op)
		}
	}
	if zero, _ := divisor(n.right); n.op.divides() && zero {
		return fmt.Errorf("%w: division by zero", raceproof.ErrOutOfRange)
	}
	return nil
}

// join is the kind of what two kinds make together.
func join(a, b mapping.Kind) mapping.Kind {
	switch {
	case a == b:
		return a
	case a.IsNumber() && b.IsNumber():
		return mapping.Float
	}
	return mapping.Other
}

// write adds the operands with the guards that make an integer that overflows, and a division by zero, an error.
func (n arithmetic) write(s *dialect.SQL, m *mapping.Mapping) {
	if n.kind(s, m) == mapping.Integer {
		// One guard around the whole is enough: what overflowed is a REAL, and stays one through all that follows.
		// Only an infinite REAL could come to nothing, and maxFactors keeps it finite; and one that % takes for zero,
		// which has a guard of its own.
		s.WithinIntegers(func(s *dialect.SQL) { n.bare(s, m) })
		return
	}
	n.bare(s, m)
}

// kind is the kind that check has found.
func (n arithmetic) kind(s *dialect.SQL, m *mapping.Mapping) mapping.Kind {
	f, _ := n.check(m, s.Dialect())
	return f.kind
}

// bare adds the operands without the guard for integers around them.
func (n arithmetic) bare(s *dialect.SQL, m *mapping.Mapping) {
	if n.op == coalesce {
		s.Add("coalesce")
	}
	s.Add("(")
	kind := n.kind(s, m)
	operand := func(o, other node) func(*dialect.SQL) {
		return func(s *dialect.SQL) {
			if a, ok := o.(arithmetic); ok && kind == mapping.Integer {
				a.bare(s, m) // the guard around the whole is enough
			} else {
				writeBeside(s, m, o, other, n.op != coalesce)
			}
		}
	}
	left, right := operand(n.left, n.right), operand(n.right, n.left)
	switch {
	case n.op == div && kind == mapping.Float:
		s.Real(left)
	case n.op == div && kind == mapping.Integer:
		s.Whole(left)
	default:
		left(s)
	}
	s.Add(n.op.between(s.Dialect(), kind))
	switch _, known := divisor(n.right); {
	case known || !n.op.divides():
		right(s)
	case n.op == mod:
		s.ModDivisor(right)
	case kind == mapping.Integer:
		s.Whole(func(s *dialect.SQL) { s.Divisor(right) })
	default:
		s.Divisor(right)
	}
	s.Add(")")
}
