package dialect

import (
	"fmt"
	"strconv"
	"strings"
	"time"
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

	// Locks: it may have to wait for a lock.
	Locks bool

	// Limited: its caller has said for how long, so that a refusal is the answer, and nothing to be tried again. AtMost is how
	// long, where that is said apart from the text, and not 0; Unwaited, where that is said, is not at all.
	Limited  bool
	AtMost   time.Duration
	Unwaited bool
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
	s.text.WriteByte(parameter)
	s.args = append(s.args, v)
	return s
}

// Own adds a value of this module's own, an int64 or a []byte: bound, or written out where prepared statements cannot be
// relied on. Neither form of a literal can contain anything but digits.
func (s *SQL) Own(v any) *SQL {
	switch v := v.(type) {
	case int64:
		if !s.dialect.WritesOut {
			return s.Integer(v)
		}
		s.text.WriteString(strconv.FormatInt(v, 10))
	case []byte:
		if !s.dialect.WritesOut {
			return s.Value(v)
		}
		fmt.Fprintf(&s.text, "X'%x'", v)
	default:
		panic(fmt.Sprintf("dialect: a value of this module's own is of type %T", v))
	}
	return s
}

// Integer binds an integer, or NULL, as a 64-bit one. Where parameters have the types of what they stand beside, it would
// otherwise be refused by the driver if it does not fit that, or be taken for text.
func (s *SQL) Integer(v any) *SQL { return s.cast(v, "bigint") }

// Float binds a number with a fraction as one, where it would otherwise be taken for an integer.
func (s *SQL) Float(v any) *SQL { return s.cast(v, "double precision") }

func (s *SQL) cast(v any, as Fragment) *SQL {
	if !s.dialect.numbered {
		return s.Value(v)
	}
	return s.Add("CAST(").Value(v).Add(" AS ").Add(as).Add(")")
}

// parameter stands for a parameter while the statement is made. No name and no fragment contains it.
const parameter = '?'

// Append adds a part of a statement that was made apart.
func (s *SQL) Append(part *SQL) *SQL {
	s.text.WriteString(part.text.String())
	s.args = append(s.args, part.args...)
	return s
}

// UnlessThere adds the end of an INSERT that does nothing if there is a row with the key.
func (s *SQL) UnlessThere(key []string) *SQL {
	s.Add(s.dialect.unlessThere[0])
	if s.dialect.SkipsAny {
		return s.Name(key[0]).Add(" = ").Name(key[0])
	}
	for i, column := range key {
		if i > 0 {
			s.Add(", ")
		}
		s.Name(column)
	}
	return s.Add(s.dialect.unlessThere[1])
}

// UseIndex adds, behind a table's name, which index is to be used. An empty name adds nothing.
func (s *SQL) UseIndex(name string) *SQL {
	if name == "" {
		return s
	}
	return s.Add(s.dialect.useIndex[0]).quoted(name).Add(s.dialect.useIndex[1])
}

// WithinIntegers adds an expression over integers such that a result that is not one (it overflowed) fails the statement.
func (s *SQL) WithinIntegers(expression func(*SQL)) { s.guarded(s.dialect.integerGuard, expression) }

// Divisor adds an expression such that zero fails the statement.
func (s *SQL) Divisor(expression func(*SQL)) { s.guarded(s.dialect.zeroGuard, expression) }

// Whole adds an operand of a division such that the quotient is one of integers.
func (s *SQL) Whole(expression func(*SQL)) {
	s.Add(s.dialect.whole[0])
	expression(s)
	s.Add(s.dialect.whole[1])
}

// Exact binds a number with a fraction that stands beside a number which may be exact, such as a column of decimals, and so
// must not be made inexact.
func (s *SQL) Exact(f float64) *SQL {
	text := strconv.FormatFloat(f, 'f', -1, 64)
	if !s.dialect.fractions || !s.decimal(text) {
		return s.Float(f)
	}
	return s
}

// Fraction binds a number with a fraction for a column to take: where a parameter would have the column's type, a driver
// could make something else of it before the database sees it.
func (s *SQL) Fraction(f float64) *SQL {
	if !s.dialect.numbered {
		return s.Value(f)
	}
	return s.Exact(f)
}

// Decimal binds the text of a number as an exact number; other texts it binds as they are.
func (s *SQL) Decimal(text string) *SQL {
	if s.dialect.decimal[0] == "" || !s.decimal(text) {
		return s.Value(text)
	}
	return s
}

// maxDecimals is how many decimals, and about how many digits before them, every database's exact numbers can have.
const maxDecimals = 30

// decimal binds a text as an exact number if it is one.
func (s *SQL) decimal(text string) bool {
	whole, decimals, _ := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	digits := func(t string) bool { return strings.Trim(t, "0123456789") == "" && len(t) <= maxDecimals }
	if whole == "" || !digits(whole) || !digits(decimals) {
		return false
	}
	after := s.dialect.decimal[1]
	if strings.Contains(after, "%d") {
		after = fmt.Sprintf(after, len(decimals))
	}
	s.text.WriteString(s.dialect.decimal[0])
	s.Value(text)
	s.text.WriteString(after)
	return true
}

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

// WaitAtMost adds to a condition that the statement waits for a lock for at most limit; 0 is as long as the connection is
// set to. It adds nothing where that is said otherwise.
func (s *SQL) WaitAtMost(limit time.Duration) *SQL {
	if limit == 0 || s.dialect.waiting[0] == "" {
		return s
	}
	return s.Add(s.dialect.waiting[0]).Value(strconv.FormatInt(milliseconds(limit), 10)).Add(s.dialect.waiting[1])
}

// Args returns the values that are bound so far.
func (s *SQL) Args() []any { return s.args }

// Statement returns what was made.
func (s *SQL) Statement() Statement {
	text := s.text.String()
	if s.dialect.numbered {
		text = withNumbers(text)
	}
	return Statement{Text: text, Args: s.args}
}

// withNumbers returns the text with $1, $2 and so on in the place of its parameters.
func withNumbers(text string) string {
	var b strings.Builder
	b.Grow(len(text) + 8)
	for n := 1; ; n++ {
		before, after, found := strings.Cut(text, string(parameter))
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
		text = after
	}
}

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
