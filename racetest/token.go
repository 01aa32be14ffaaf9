package racetest

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/raceproof/raceproof/racetest/internal/search"
)

// unfit tells whether a character cannot be in the name of an actor: a token is made of names.
func unfit(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '-' && r != '_'
}

// shortest returns for each name the shortest beginning that none of the others has.
func shortest(names []string) []string {
	short := make([]string, len(names))
	for i, name := range names {
		short[i] = name
		for n := range name { // where characters begin
			if n > 0 && alone(name[:n], i, names) {
				short[i] = name[:n]
				break
			}
		}
	}
	return short
}

func alone(beginning string, i int, names []string) bool {
	for j, other := range names {
		if j != i && strings.HasPrefix(other, beginning) {
			return false
		}
	}
	return true
}

// token returns what the decisions can be made again from.
func (e *environment) token(decisions []search.Decision) string {
	words := make([]string, len(decisions))
	for i, d := range decisions {
		words[i] = e.tokens[d.Chosen]
	}
	return strings.Join(words, " ")
}

// A misfit is the error of a token that does not fit.
type misfit struct{ error }

// replay returns a chooser that follows a token, and when that is at its end goes on without a switch that is not needed.
// Afterwards, rest is the error of a token that goes on when all have ended.
func (e *environment) replay(token string) (choose search.Chooser, rest func() error, err error) {
	var path []int
	for _, word := range strings.Fields(token) {
		i := indexOf(word, e.tokens, e.names)
		if i < 0 {
			return nil, nil, fmt.Errorf("the token of Replay(%q): %q is none of the actors %s", token, word, strings.Join(e.names, ", "))
		}
		path = append(path, i)
	}
	step := 0
	rest = func() error {
		if step < len(path) {
			return fmt.Errorf("the token of Replay(%q) does not fit: after choice %d all have ended", token, step)
		}
		return nil
	}
	return func(d search.Decision) (int, error) {
		if d.Last < 0 {
			step = 0 // the schedule is tried again
		}
		if step >= len(path) {
			return search.Calmly(d), nil
		}
		want := path[step]
		if step++; d.Enabled[want] == nil {
			return 0, &misfit{fmt.Errorf("the token of Replay(%q) does not fit: at choice %d %s cannot go on; it has ended, or waits", token, step, e.names[want])}
		}
		return want, nil
	}, rest, nil
}

// indexOf finds an actor by its token, or by its name.
func indexOf(word string, lists ...[]string) int {
	for _, list := range lists {
		for i, s := range list {
			if s == word {
				return i
			}
		}
	}
	return -1
}
