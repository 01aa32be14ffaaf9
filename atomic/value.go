package atomic

import (
	"math"
	"reflect"

	"github.com/raceproof/raceproof/internal/mapping"
)

// A number is an integer that the database has, or NULL.
type number struct {
	n    int64
	null bool

	width    int  // how many bits the database computes with at least
	unsigned bool // it can be unsigned to the database
}

// bits is how wide the number is: as an integer of 16, 32 or 64 bits.
func (n number) bits() int {
	switch {
	case n.n == int64(int16(n.n)):
		return 16
	case n.n == int64(int32(n.n)):
		return 32
	}
	return 64
}

// integer computes an expression over integers.
func (e *evaluator) integer(n node) (number, bool) {
	switch n := n.(type) {
	case field:
		return e.field(n)
	case literal:
		i, isInteger := n.value.(int64)
		return number{n: i, null: n.value == nil, width: 64}, !n.own && (isInteger || n.value == nil)
	case arithmetic:
		left, known := e.integer(n.left)
		if !known {
			return number{}, false
		}
		right, known := e.integer(n.right)
		if !known {
			return number{}, false
		}
		return e.compute(n.op, left, right)
	}
	return number{}, false
}

// field reads a column of integers.
func (e *evaluator) field(f field) (number, bool) {
	i := e.mapping.Index(string(f))
	c := &e.mapping.Columns[i]
	if c.Kind != mapping.Integer || !e.exact(i) || !plain(c.Type) {
		return number{}, false
	}
	v := c.Field(e.row)
	if isNull(v) {
		return number{null: true, width: 16, unsigned: true}, true
	}
	v = inner(v)
	var n number
	switch {
	case v.CanInt():
		n.n = v.Int()
	case v.Uint() > math.MaxInt64:
		return number{}, false
	default:
		n.n = int64(v.Uint())
	}
	n.width, n.unsigned = n.bits(), n.n >= 0
	return n, true
}

// compute joins two integers. What could be an error in the database it does not know.
func (e *evaluator) compute(op operator, left, right number) (number, bool) {
	result := number{width: max(left.width, right.width), unsigned: left.unsigned || right.unsigned}
	if op == div {
		result.width = 64 // both sides are cast
	}
	switch {
	case op == coalesce && left.null:
		result.n, result.null = right.n, right.null
		return result, true
	case op == coalesce:
		result.n = left.n
		return result, true
	case op.divides() && !right.null && right.n == 0:
		return number{}, false
	case left.null || right.null:
		result.null = true
		return result, true
	}
	exact := false
	if result.n, exact = op.exactly(left.n, right.n); !exact {
		return number{}, false
	}
	if e.widths && result.bits() > result.width || e.unsigned && result.unsigned && result.n < 0 {
		return number{}, false
	}
	return result, true
}

// exactly computes with integers of 64 bits, and tells whether there was no overflow. The divisor is not zero.
func (op operator) exactly(a, b int64) (n int64, exact bool) {
	switch op {
	case add:
		n = a + b
		return n, (n > a) == (b > 0)
	case sub:
		n = a - b
		return n, (n < a) == (b > 0)
	case mul:
		if a == 0 || b == 0 {
			return 0, true
		}
		n = a * b
		return n, n/b == a && (a != math.MinInt64 || b != -1)
	case div:
		return a / b, a != math.MinInt64 || b != -1
	case mod:
		return a % b, true
	}
	return 0, false
}

// A value is what a column is set to: NULL, or what an int64, a string or a bool is.
type value struct {
	null bool
	v    any
}

// assigned computes the value of an assignment, if it is known and the field can hold it.
func (e *evaluator) assigned(a assignment) (value, bool) {
	i := e.mapping.Index(a.column)
	c := &e.mapping.Columns[i]
	if !plain(c.Type) {
		return value{}, false
	}
	if c.Kind == mapping.Integer {
		n, known := e.integer(a.value)
		if !known || !e.exact(i) {
			return value{}, false
		}
		return value{n.null, n.n}, fits(c.Type, n)
	}
	l, isLiteral := a.value.(literal)
	if !isLiteral || l.own {
		return value{}, false
	}
	switch l.value.(type) {
	case nil:
		return value{null: true}, e.hasNull(c.Kind)
	case string:
		return value{v: l.value}, c.Kind == mapping.Text
	case bool:
		return value{v: l.value}, c.Kind == mapping.Bool
	}
	return value{}, false
}

// fits tells whether a field of integers can hold a number.
func fits(t reflect.Type, n number) bool {
	if n.null {
		return wrapped(t)
	}
	v := inner(reflect.New(t).Elem())
	if v.CanInt() {
		return !v.OverflowInt(n.n)
	}
	return n.n >= 0 && !v.OverflowUint(uint64(n.n))
}

// store puts the value into a field that can hold it, as reading the row would.
func (v value) store(f reflect.Value) {
	f.SetZero()
	if v.null {
		return
	}
	if wrapped(f.Type()) {
		f.Field(1).SetBool(true)
	}
	switch f = inner(f); n := v.v.(type) {
	case int64:
		if f.CanInt() {
			f.SetInt(n)
		} else {
			f.SetUint(uint64(n))
		}
	case string:
		f.SetString(n)
	case bool:
		f.SetBool(n)
	}
}
