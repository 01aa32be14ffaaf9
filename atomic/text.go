package atomic

import (
	"fmt"
	"strings"
	"time"
)

// String returns the change for people and logs to read. It looks like SQL, and is not what is sent.
func (c Change) String() string {
	var s strings.Builder
	for i, a := range c.assignments {
		if i > 0 {
			s.WriteString(", ")
		}
		s.WriteString(a.column + " = " + text(a.value))
	}
	if c.condition != nil {
		s.WriteString(" IF " + text(c.condition))
	}
	return s.String()
}

// MarshalText makes a change a text to package once, which compares by their texts what is asked for with one key.
func (c Change) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

func text(n node) string {
	switch n := n.(type) {
	case field:
		return "F(" + string(n) + ")" // a column can be called true
	case literal:
		switch v := n.value.(type) {
		case nil:
			return "NULL"
		case []byte:
			return fmt.Sprintf("x'%x'", v)
		case string:
			return fmt.Sprintf("%q", v)
		case float64: // divides otherwise than an integer
			return fmt.Sprintf("%gf", v)
		case time.Time:
			return v.UTC().Format(time.RFC3339Nano)
		}
		return fmt.Sprint(n.value)
	case arithmetic:
		return text(n.left) + "." + n.op.String() + "(" + text(n.right) + ")"
	case comparison:
		return "(" + text(n.left) + string(n.op) + text(n.right) + ")"
	case logic:
		return "(" + text(n.left) + string(n.op) + text(n.right) + ")"
	case negation:
		return "NOT " + text(n.condition)
	case nullTest:
		return "(" + text(n.value) + string(n.op) + ")"
	}
	return fmt.Sprint(n)
}
