package dialect

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Fragment is SQL that stands in this module's source. An untyped constant is one; text that came from a caller is
// not, short of a conversion that a reader would see.
type Fragment string

// A Statement is ready to be sent: its text, and apart from it the values bound to it.
type Statement struct {
	Text string
	Args []any

	// Read: it changes nothing, so that nothing can go wrong any more once its first row is there.
	Read bool
}

// SQL is a statement in the making. Every way of adding to it is safe for what it takes: text from the source, a
// validated and quoted name, a bound value.
type SQL struct {
	dialect *Dialect
	text    strings.Builder
	args    []any
}

// NewSQL returns an empty statement.
func (d *Dialect) NewSQL() *SQL {
	s := &SQL{dialect: d, args: make([]any, 0, 8)}
	s.text.Grow(256) // most are no larger
	return s
}

// Dialect returns the dialect that the statement is written in.
func (s *SQL) Dialect() *Dialect { return s.dialect }

// Add adds SQL from this module's source.
func (s *SQL) Add(f Fragment) *SQL {
	s.text.WriteString(string(f))
	return s
}

// Name adds a name, which must have passed CheckName or CheckTable, in quotes.
func (s *SQL) Name(name string) *SQL {
	if schema, table, qualified := strings.Cut(name, "."); qualified {
		return s.quoted(schema).Add(".").quoted(table)
	}
	return s.quoted(name)
}

func (s *SQL) quoted(name string) *SQL {
	s.text.WriteByte(s.dialect.quote)
	s.text.WriteString(name)
	s.text.WriteByte(s.dialect.quote)
	return s
}

// Value binds a value.
func (s *SQL) Value(v any) *SQL {
	s.text.WriteByte('?')
	s.args = append(s.args, v)
	return s
}

// Append adds a part of a statement that was made apart.
func (s *SQL) Append(part *SQL) *SQL {
	s.text.WriteString(part.text.String())
	s.args = append(s.args, part.args...)
	return s
}

// Integer adds an expression over integers such that a result that is not one (it overflowed) fails the statement.
func (s *SQL) Integer(expression func(*SQL)) { s.guarded(s.dialect.integerGuard, expression) }

// Divisor adds an expression such that zero fails the statement.
func (s *SQL) Divisor(expression func(*SQL)) { s.guarded(s.dialect.zeroGuard, expression) }

// Real adds an expression such that dividing it keeps the fraction.
func (s *SQL) Real(expression func(*SQL)) {
	s.Add(s.dialect.real[0])
	expression(s)
	s.Add(s.dialect.real[1])
}

// ModDivisor is Divisor for a remainder.
func (s *SQL) ModDivisor(expression func(*SQL)) { s.guarded(s.dialect.modGuard, expression) }

func (s *SQL) guarded(guard [3]Fragment, expression func(*SQL)) {
	if guard[0] == "" {
		expression(s)
		return
	}
	s.Add(guard[0])
	expression(s)
	s.Add(guard[1])
	expression(s)
	s.Add(guard[2])
}

// Statement returns what was made.
func (s *SQL) Statement() Statement { return Statement{Text: s.text.String(), Args: s.args} }

// maxName is the longest name in bytes that every supported database keeps whole: PostgreSQL cuts longer ones off
// without an error (https://www.postgresql.org/docs/current/sql-syntax-lexical.html).
const maxName = 63

// CheckName returns an error unless name can be the name of a column: letters, digits, _ and $, not beginning with a
// digit or $, at most 63 bytes.
func CheckName(name string) error {
	if name == "" {
		return fmt.Errorf("a name is empty")
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("name %q is not valid UTF-8", name)
	}
	if len(name) > maxName {
		return fmt.Errorf("name %q has %d bytes: at most %d are kept by every database", name, len(name), maxName)
	}
	for i, r := range name {
		if r == '_' || unicode.IsLetter(r) || i > 0 && (r == '$' || unicode.IsDigit(r)) {
			continue
		}
		return fmt.Errorf("name %q has %q at byte %d: a name is letters, digits, _ and $, and begins with a letter or _", name, r, i)
	}
	return nil
}

// CheckTable returns an error unless name can be the name of a table: a name, or a schema's name, a dot and a name.
func CheckTable(name string) error {
	parts := strings.Split(name, ".")
	if len(parts) > 2 {
		return fmt.Errorf("table name %q has more than a schema and a table", name)
	}
	for _, part := range parts {
		if err := CheckName(part); err != nil {
			return fmt.Errorf("table name %q: %w", name, err)
		}
	}
	return nil
}
