package statement

import (
	"database/sql/driver"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// longest is how much of a value is shown.
const longest = 60

// WithValues returns the statement on one line, with the values in the place of their placeholders. Values whose place is
// not found follow in brackets.
func WithValues(text string, args []driver.NamedValue) string {
	var b strings.Builder
	used, next, space := make([]bool, len(args)), 0, false
	for _, t := range scan(text) {
		if t.kind == blank {
			space = true
			continue
		}
		if space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		space = false
		if t.kind == placeholder {
			if i := place(t.text, args, &next); i >= 0 {
				used[i] = true
				t.text = Literal(args[i].Value)
			}
		}
		b.WriteString(t.text)
	}
	s := strings.TrimRight(b.String(), " ;")
	var left []string
	for i, a := range args {
		if !used[i] {
			left = append(left, Literal(a.Value))
		}
	}
	if left != nil {
		s += " [" + strings.Join(left, ", ") + "]"
	}
	return s
}

// Masked returns the text without values in it that need not repeat: bytes that are written out, as X'00ff', a random key for
// example; and numbers that a SET sets, as the time that is left until a deadline.
func Masked(text string) string {
	var b strings.Builder
	var before token
	begins, sets := true, false // a statement, and one that is a SET
	for _, t := range scan(text) {
		switch {
		case before.kind == word && before.text == "X" && t.kind == quoted && t.text[0] == '\'':
			b.WriteString("''")
		case sets && t.kind == word && digits(t.text) == len(t.text):
			b.WriteByte('0')
		default:
			b.WriteString(t.text)
		}
		if before = t; t.kind != blank {
			sets = !begins && sets || begins && t.is("SET")
			begins = t.text == ";"
		}
	}
	return b.String()
}

// place returns which value belongs to a placeholder, or -1. A bare question mark takes the one after the last.
func place(text string, args []driver.NamedValue, next *int) int {
	if text == "?" {
		*next++
		return valid(*next-1, args)
	}
	if n, err := strconv.Atoi(text[1:]); err == nil {
		*next = n
		return valid(n-1, args)
	}
	for i, a := range args {
		if a.Name != "" && a.Name == text[1:] {
			return i
		}
	}
	return -1
}

func valid(i int, args []driver.NamedValue) int {
	if i < 0 || i >= len(args) {
		return -1
	}
	return i
}

// Literal returns a value as it would be written in SQL, as far as it is short and can be read.
func Literal(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return "'" + strings.ReplaceAll(short(v), "'", "''") + "'"
	case []byte:
		if readable(v) {
			return Literal(string(v))
		}
		return "x'" + short(hex.EncodeToString(v)) + "'"
	case time.Time:
		return "'" + v.Format("2006-01-02 15:04:05.999999") + "'"
	}
	return short(fmt.Sprint(v))
}

func readable(b []byte) bool {
	if !utf8.Valid(b) {
		return false
	}
	for _, r := range string(b) {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return false
		}
	}
	return true
}

func short(s string) string {
	if utf8.RuneCountInString(s) <= longest {
		return s
	}
	return string([]rune(s)[:longest-1]) + "…"
}
