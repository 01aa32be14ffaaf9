package racetest

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// pageFoldSQL splits a statement into keywords and what is between, and folds it if it is long.
func pageFoldSQL(statement string) pageFold {
	f := pageFoldText(statement)
	text, from := f.Full[0].Text, 0
	f.Full = nil
	for _, at := range pageTokens.FindAllStringIndex(text, -1) {
		if pageKeyword.MatchString(text[at[0]:at[1]]) {
			f.Full = append(f.Full, pagePiece{Text: text[from:at[0]]}, pagePiece{Text: text[at[0]:at[1]], Keyword: true})
			from = at[1]
		}
	}
	f.Full = append(f.Full, pagePiece{Text: text[from:]})
	return f
}

// pageFoldText folds a text that is long, or has many lines.
func pageFoldText(text string) pageFold {
	text = pageClean(text)
	if text == "" {
		text = "(empty)"
	}
	f := pageFold{Full: []pagePiece{{Text: text}}}
	begin := text
	if lines := strings.SplitAfterN(text, "\n", 9); len(lines) > 8 {
		begin = strings.TrimSpace(strings.Join(lines[:4], "")) + " …"
	}
	if len([]rune(begin)) > 280 {
		begin = pageBegin(begin, 160)
	}
	if begin != text {
		f.Begin = begin
	}
	return f
}

// pageBegin returns the beginning of a text, of n characters at the most.
func pageBegin(text string, n int) string {
	if len(text) <= n {
		return text
	}
	r := []rune(text)
	if len(r) <= n {
		return text
	}
	return strings.TrimSpace(string(r[:n-1])) + "…"
}

func pageName(name string) string {
	if strings.TrimSpace(name) == "" {
		return "(no name)"
	}
	name = pageClean(name)
	if strings.ContainsFunc(name, func(r rune) bool {
		return unicode.In(r, unicode.Hebrew, unicode.Arabic, unicode.Syriac, unicode.Thaana, unicode.Nko)
	}) {
		return "\u2068" + name + "\u2069" // isolated, so that it does not turn the sentence around
	}
	return name
}

// pageClean makes visible what a browser would drop or obey: control characters, and those that are invisible or change the
// direction of the text after them. (Escaping is the template's work.) The two joiners stay: scripts need them to be read.
func pageClean(text string) string {
	var b strings.Builder
	for _, r := range strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\r\n", "\n") {
		switch {
		case r == '\n' || r == '\t' || r == '\u200c' || r == '\u200d':
			b.WriteRune(r)
		case r < ' ':
			b.WriteRune('\u2400' + r)
		case r == 0x7f:
			b.WriteRune('\u2421')
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Noncharacter_Code_Point):
			fmt.Fprintf(&b, "[%U]", r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// pageDuration rounds to what is worth reading.
func pageDuration(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(100 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}
