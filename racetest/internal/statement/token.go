// Package statement reads as much of a SQL text as it takes to say what the statement may touch, and to show it with the
// values in it. It knows the spellings of SQLite, PostgreSQL and MariaDB. What it does not know, it takes for a write.
package statement

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

type kind int

const (
	word        kind = iota // a keyword, or a name that is not quoted
	quoted                  // a name or a string in any kind of quotes
	placeholder             // ?, ?1, $1, :name, @name
	sign                    // any other character
	blank                   // white space and comments
)

type token struct {
	kind kind
	text string
}

// is tells whether it is this keyword, in capitals.
func (t token) is(keyword string) bool { return t.kind == word && strings.EqualFold(t.text, keyword) }

// scan cuts a text into tokens that together are the text.
func scan(text string) (tokens []token) {
	for len(text) > 0 {
		k, n := first(text)
		tokens = append(tokens, token{k, text[:n]})
		text = text[n:]
	}
	return tokens
}

// first returns the kind and the length of the first token of a text that is not empty.
func first(text string) (kind, int) {
	switch c := text[0]; {
	case strings.HasPrefix(text, "--"):
		return blank, lineEnd(text)
	case strings.HasPrefix(text, "/*"):
		return blank, after(text, "*/", 2)
	case c == '\'' || c == '"' || c == '`':
		return quoted, quote(text)
	case c == '?':
		return placeholder, 1 + digits(text[1:])
	case c == '$':
		return dollar(text)
	case (c == ':' || c == '@') && len(text) > 1 && letter(text[1:]) > 0:
		return placeholder, 1 + name(text[1:])
	case strings.HasPrefix(text, "::"), strings.HasPrefix(text, ":="):
		return sign, 2
	}
	if n := spaces(text); n > 0 {
		return blank, n
	}
	if n := name(text); n > 0 {
		return word, n
	}
	_, n := utf8.DecodeRuneInString(text)
	return sign, n
}

func lineEnd(text string) int {
	if i := strings.IndexByte(text, '\n'); i >= 0 {
		return i
	}
	return len(text)
}

// after returns where a text ends that ends with this mark, looked for from a place on.
func after(text, mark string, from int) int {
	if i := strings.Index(text[from:], mark); i >= 0 {
		return from + i + len(mark)
	}
	return len(text)
}

// quote returns the length of what is quoted. A doubled quote, and a quote after a backslash, do not end it; that the latter
// is not so everywhere costs at worst a value that is not shown in its place.
func quote(text string) int {
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && text[0] == '\'' && i+1 < len(text) && text[i+1] == '\'' && strings.IndexByte(text[i+2:], '\'') >= 0:
			i++
		case text[i] != text[0]:
		case i+1 < len(text) && text[i+1] == text[0]:
			i++
		default:
			return i + 1
		}
	}
	return len(text)
}

// dollar is for $1 and for $tag$ ... $tag$.
func dollar(text string) (kind, int) {
	if n := digits(text[1:]); n > 0 {
		return placeholder, 1 + n
	}
	if end := 1 + name(text[1:]); end < len(text) && text[end] == '$' {
		return quoted, after(text, text[:end+1], end+1)
	}
	if n := name(text[1:]); n > 0 {
		return placeholder, 1 + n
	}
	return sign, 1
}

func digits(text string) (n int) {
	for n < len(text) && '0' <= text[n] && text[n] <= '9' {
		n++
	}
	return n
}

func spaces(text string) int {
	return len(text) - len(strings.TrimLeftFunc(text, unicode.IsSpace))
}

// letter returns the length of the first character, if a name can begin with it.
func letter(text string) int {
	r, n := utf8.DecodeRuneInString(text)
	if r == '_' || unicode.IsLetter(r) {
		return n
	}
	return 0
}

// name returns the length of the name or number that a text begins with.
func name(text string) (n int) {
	for n < len(text) {
		r, size := utf8.DecodeRuneInString(text[n:])
		if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			break
		}
		n += size
	}
	return n
}
