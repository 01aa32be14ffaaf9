package atomic

import (
	"database/sql"
	"reflect"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
)

// A truth is what a condition comes to. AND is the least of two, OR the greatest.
type truth int

const (
	no truth = iota
	unknown
	yes
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

// truth computes a condition. Every part of it must be known, also where another decides: which one the database computes is
// its own choice, and it may meet an error there.
func (e *evaluator) truth(n node) (truth, bool) {
	switch n := n.(type) {
	case comparison:
		left, known := e.integer(n.left)
		if !known {
			return no, false
		}
		right, known := e.integer(n.right)
		if !known {
			return no, false
		}
		return compare(n.op, left, right)
	case logic:
		left, known := e.truth(n.left)
		if !known {
			return no, false
		}
		right, known := e.truth(n.right)
		switch n.op {
		case " AND ":
			return min(left, right), known
		case " OR ":
			return max(left, right), known
		}
	case negation:
		condition, known := e.truth(n.condition)
		return yes - condition, known
	case nullTest:
		null, known := e.null(n.value)
		return truthOf(null == (n.op == " IS NULL")), known
	}
	return no, false
}

func compare(op dialect.Fragment, left, right number) (truth, bool) {
	if left.null || right.null {
		return unknown, true
	}
	switch a, b := left.n, right.n; op {
	case " = ":
		return truthOf(a == b), true
	case " <> ":
		return truthOf(a != b), true
	case " < ":
		return truthOf(a < b), true
	case " <= ":
		return truthOf(a <= b), true
	case " > ":
		return truthOf(a > b), true
	case " >= ":
		return truthOf(a >= b), true
	}
	return no, false
}

// null tells whether a value is NULL.
func (e *evaluator) null(n node) (null, known bool) {
	if f, isField := n.(field); isField {
		c := &e.mapping.Columns[e.mapping.Index(string(f))]
		if c.Kind != mapping.Integer {
			known = e.hasNull(c.Kind) && plain(c.Type)
			return known && isNull(c.Field(e.row)), known
		}
	}
	i, known := e.integer(n)
	return i.null, known
}

// hasNull tells whether NULL is nothing special to columns of a kind.
func (e *evaluator) hasNull(kind mapping.Kind) bool {
	return kind == mapping.Bool || kind == mapping.Float || kind == mapping.Text && !e.dates
}

var scanner = reflect.TypeFor[sql.Scanner]()

// plain tells whether a field of a kind that is known has the value that the database has: no pointer, and of no type
// that has its own way to read it.
func plain(t reflect.Type) bool {
	if wrapped(t) {
		t = t.Field(0).Type
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Struct, reflect.Interface:
		return false
	}
	return !reflect.PointerTo(t).Implements(scanner)
}

// wrapped tells whether a type is sql.Null or one of its like.
func wrapped(t reflect.Type) bool { return t.Kind() == reflect.Struct && t.PkgPath() == "database/sql" }

func isNull(v reflect.Value) bool { return wrapped(v.Type()) && !v.Field(1).Bool() }

// inner is the value itself.
func inner(v reflect.Value) reflect.Value {
	if wrapped(v.Type()) {
		return v.Field(0)
	}
	return v
}
