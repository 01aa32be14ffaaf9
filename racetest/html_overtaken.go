package racetest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// pageTables returns the tables that a statement names: those it reads, if it is a query, and that which it writes.
func pageTables(statement string) (reads []string, writes string) {
	name := func(match []string) string {
		parts := strings.Split(match[1], ".")
		return strings.ToLower(strings.Trim(parts[len(parts)-1], "\"`[]"))
	}
	if m := pageWrites.FindStringSubmatch(statement); m != nil {
		return nil, name(m)
	}
	if pageSelect.MatchString(statement) {
		for _, m := range pageReads.FindAllStringSubmatch(pageLiteral.ReplaceAllString(statement, "''"), -1) {
			reads = append(reads, name(m))
		}
	}
	return reads, ""
}

// A pageWrite is a statement that wrote a table, and was not rolled back.
type pageWrite struct {
	step, done int // their numbers
	effect     int // the step with which it was committed, or itself
	actor      string
	table      string
}

// overtaken returns notes for the steps of a broken invariant: an actor reads a table and later writes it, and the write
// of another took effect between. It goes by the tables that are named, since it cannot know the rows; so the notes say
// what happened when, and not that it is the fault.
func (p page) overtaken() map[int][]string {
	notes := map[int][]string{}
	if p.Kind != Invariant {
		return notes
	}
	reads, writes := p.access()
	for _, w := range writes {
		read := p.readBefore(w, reads)
		if read == 0 {
			continue
		}
		for _, o := range writes {
			if o.actor == w.actor || o.table != w.table || o.effect <= p.done(read-1) || o.done >= w.done {
				continue
			}
			table, other, actor := pageName(w.table), pageName(o.actor), pageName(w.actor)
			notes[read-1] = append(notes[read-1], fmt.Sprintf("Overtaken: after this read, %s's write of %s (step %d) took effect; "+
				"then %s wrote it too (step %d)", other, table, o.step, actor, w.step))
			notes[w.step-1] = append(notes[w.step-1], fmt.Sprintf("Last read %s in step %d, before %s's write (step %d) took effect",
				table, read, other, o.step))
			break
		}
	}
	return notes
}

// access returns the tables that each step has read, and the writes.
func (p page) access() (reads [][]string, writes []pageWrite) {
	bands := map[string][]pageSpan{}
	for _, actor := range p.Actors {
		bands[actor] = p.bands(actor)
	}
	for i, s := range p.Steps {
		read, table := pageTables(s.Statement)
		if s.Failed {
			read, table = nil, ""
		}
		reads = append(reads, read)
		done := p.done(i)
		w := pageWrite{step: i + 1, done: done, effect: done, actor: s.Actor, table: table}
		for _, b := range bands[s.Actor] {
			if b.From <= i+2 && i+2 < b.To {
				w.effect = b.To - 2
				if b.Class != "commit" {
					w.effect = 0
				}
			}
		}
		if table != "" && w.effect > 0 {
			writes = append(writes, w)
		}
	}
	return reads, writes
}

// readBefore returns the number of the step in which the writer last read the table before it wrote it, or 0.
func (p page) readBefore(w pageWrite, reads [][]string) int {
	for i := w.step - 2; i >= 0; i-- {
		if p.Steps[i].Actor == w.actor && slices.Contains(reads[i], w.table) {
			return i + 1
		}
	}
	return 0
}

var (
	pageTokens  = regexp.MustCompile("(?s)'(?:[^']|'')*'?|\"[^\"]*\"?|`[^`]*`?|--[^\n]*|/\\*.*?(?:\\*/|$)|[\\pL_][\\pL\\pN_$]*")
	pageKeyword = regexp.MustCompile(`(?i)^(?:all|and|any|as|asc|begin|between|by|case|commit|conflict|create|cross|delete|desc|` +
		`distinct|do|drop|else|end|except|exists|false|for|from|full|group|having|ignore|in|inner|insert|intersect|into|is|` +
		`isolation|join|key|left|level|like|limit|lock|locked|mode|not|nothing|nowait|null|of|offset|on|or|order|outer|over|` +
		`partition|replace|returning|right|rollback|savepoint|select|set|share|skip|start|table|then|to|transaction|true|` +
		`truncate|union|update|using|values|when|where|with)$`)
)
