package atomic

import (
	"reflect"
	"unicode/utf8"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
)

// Evaluate makes of the struct in v, which must be addressable and hold the row as it is in the database, what the database
// would make of the row, but for the version and for what its own constraints, triggers and columns that are too small would
// say; exact tells which columns are integers of the database that are read into their fields as they are. Where neither
// applied nor refused, only the database can tell what the change comes to, and v is as it was; refused is
// raceproof.ErrConditionFailed. It is for the packages of this module, which alone can name its types.
func (c Change) Evaluate(m *mapping.Mapping, d *dialect.Dialect, v reflect.Value, exact func(column int) bool) (applied, refused bool) {
	if c.check(m, d) != nil {
		return false, false
	}
	return c.evaluate(m, d, v, exact).told()
}

// A verdict is what a change comes to.
type verdict int

const (
	beyond  verdict = iota // only the database can tell: nothing was changed
	refused                // the condition does not hold, or is NULL: nothing was changed
	applied                // the row is as the database would leave it
)

func (v verdict) told() (applies, refuses bool) { return v == applied, v == refused }

// evaluate is Evaluate for a change that check has passed. If in doubt it is beyond: the database then gives the right answer, or
// the right error.
func (c Change) evaluate(m *mapping.Mapping, d *dialect.Dialect, v reflect.Value, exact func(column int) bool) verdict {
	e := evaluator{mapping: m, row: v, exact: exact, traits: traitsOf(d)}
	if _, err := c.ordered(m, d); err != nil || e.substitutes && substituted(c.condition) {
		return beyond
	}
	holds := yes
	if c.condition != nil {
		var known bool
		if holds, known = e.truth(c.condition); !known {
			return beyond
		}
	}
	if holds != yes {
		for _, a := range c.assignments {
			if !e.idle(a) {
				return beyond
			}
		}
		return refused
	}
	values := make([]value, len(c.assignments)) // all of them from the row as it was
	for i, a := range c.assignments {
		known := false
		if values[i], known = e.assigned(a); !known {
			return beyond
		}
	}
	for i, a := range c.assignments {
		values[i].store(m.Columns[m.Index(a.column)].Field(v))
	}
	return applied
}

// traits are what databases differ in when they compute with integers.
type traits struct {
	// widths: integers of columns are added in the width of their columns, and overflow there.
	widths bool

	// unsigned: columns can be unsigned, and what is computed from such a column is an error below zero.
	unsigned bool

	// folds: what is constant is computed, and converted to its column, before it is known whether there is a row to change.
	folds bool

	// substitutes: where a condition says that a column is equal to something, that can stand in the column's place elsewhere in
	// the condition, where it overflows though the column does not.
	substitutes bool

	// dates: a date that is read as a text can be zero, which is NULL to a test of it, and can be set to NULL and become the
	// present time.
	dates bool
}

func traitsOf(d *dialect.Dialect) traits {
	switch d.Name {
	case "sqlite":
		return traits{}
	case "mysql":
		return traits{unsigned: true, substitutes: true, dates: true}
	case "postgres":
		return traits{widths: true, folds: true}
	}
	return traits{true, true, true, true, true}
}

// An evaluator computes what expressions are of a row, or finds that it cannot know.
type evaluator struct {
	traits
	mapping *mapping.Mapping
	row     reflect.Value
	exact   func(column int) bool
}

// idle tells whether an assignment certainly is no error where the condition does not hold.
func (e *evaluator) idle(a assignment) bool {
	if !e.harmless(a.value) {
		return false
	}
	if !e.folds || !constant(a.value) {
		return true
	}
	n, known := e.integer(a.value)
	switch {
	case !known:
		return false
	case n.null:
		return true
	}
	// The column is at least as wide as what is in it.
	now, known := e.field(field(a.column))
	return known && n.bits() <= now.width
}

// harmless tells whether a part of an expression is certainly no error as long as nobody computes it for a row.
func (e *evaluator) harmless(n node) bool {
	switch n := n.(type) {
	case field:
		return true
	case literal:
		switch v := n.value.(type) {
		case nil, int64:
			return !n.own
		case bool:
			return !e.folds // which would convert it to the type of its column
		case string:
			return !n.own && !e.folds && utf8.ValidString(v)
		}
	case arithmetic:
		if constant(n) {
			_, known := e.integer(n)
			return known
		}
		return e.harmless(n.left) && e.harmless(n.right)
	}
	return false
}

// constant tells whether a value does not depend on the row. A default for what is never NULL is left out by the database.
func constant(n node) bool {
	switch n := n.(type) {
	case literal:
		return true
	case arithmetic:
		return constant(n.left) && (n.op == coalesce || constant(n.right))
	}
	return false
}

// substituted tells whether a condition says that a column is equal to something, and computes something too.
func substituted(condition node) bool {
	equal, computes := false, false
	var look func(node)
	look = func(n node) {
		switch n := n.(type) {
		case arithmetic:
			computes = true
		case comparison:
			_, left := n.left.(field)
			_, right := n.right.(field)
			equal = equal || (left || right) && n.op == " = "
			look(n.left)
			look(n.right)
		case logic:
			look(n.left)
			look(n.right)
		case negation:
			look(n.condition)
		case nullTest:
			look(n.value)
		}
	}
	look(condition)
	return equal && computes
}

// part is about how many bytes a part of an expression takes, apart from its texts.
const part = 16

// size is about how many bytes the change takes.
func (c Change) size() int {
	n := 0
	for _, a := range c.assignments {
		n += bytes(a.value)
	}
	return n + bytes(c.condition)
}

func bytes(n node) int {
	switch n := n.(type) {
	case nil:
		return 0
	case literal:
		switch v := n.value.(type) {
		case string:
			return part + len(v)
		case []byte:
			return part + len(v)
		}
	case arithmetic:
		return part + bytes(n.left) + bytes(n.right)
	case comparison:
		return part + bytes(n.left) + bytes(n.right)
	case logic:
		return part + bytes(n.left) + bytes(n.right)
	case negation:
		return part + bytes(n.condition)
	case nullTest:
		return part + bytes(n.value)
	}
	return part
}
