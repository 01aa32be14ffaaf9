package racetest

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/raceproof/raceproof/racetest/internal/statement"
	"github.com/raceproof/raceproof/racetest/internal/tap"
)

// timeline returns the rows of a schedule. What has only set the session, and did, is left out.
func (s *schedule) timeline() (rows []Step) {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := make([]int, len(s.steps)+1) // of the first so many
	for i, st := range s.steps {
		kept[i+1] = kept[i]
		failed := st.err != nil || st.call.Seen.Err() != nil
		if st.info.Does == statement.Settings && st.returned && !failed {
			continue
		}
		kept[i+1]++
		rows = append(rows, Step{
			Actor:     st.actor.name,
			Statement: written(st.call),
			Result:    st.result(),
			Failed:    failed,
			Blocked:   st.blocked,
			WaitsFor:  st.waitsFor,
			Until:     st.until,
			With:      st.with,
			Took:      st.took,
		})
	}
	for i := range rows {
		rows[i].Until = kept[rows[i].Until]
	}
	return rows
}

// written returns a call as it is shown.
func written(call *tap.Call) string { return statement.WithValues(call.SQL, call.Args) }

// result returns what the actor was told.
func (st *step) result() string {
	err := st.err
	if err == nil {
		err = st.call.Seen.Err()
	}
	first, count, query := st.call.Seen.Rows()
	switch {
	case err != nil:
		return "error: " + strings.Join(strings.Fields(err.Error()), " ")
	case !st.returned:
		return ""
	case st.call.Kind != tap.Statement, st.info.Does != statement.Nothing && !st.info.Several && !query:
		return "ok"
	case !query:
		return counted(int(st.call.Seen.Affected()), "row", "rows")
	case count == 0:
		return "no rows"
	case count > len(first):
		return fmt.Sprintf("%s … (%d rows)", strings.Join(first, " "), count)
	}
	return strings.Join(first, " ")
}

// widest is how many characters a column of the text has at the most; what is longer goes on in the next line.
const widest = 60

// oneLine shows what pageClean leaves for a page, and would break a line of text.
var oneLine = strings.NewReplacer("\n", "\u240a", "\t", "\u2409")

// writeTimeline writes one column an actor, one row a step.
func writeTimeline(b *strings.Builder, actors []string, steps []Step) {
	cells := make([][]string, len(steps))
	width := map[string]int{}
	for _, name := range actors {
		width[name] = utf8.RuneCountInString(name)
	}
	for i, step := range steps {
		cells[i] = wrap(oneLine.Replace(pageClean(step.String())), widest)
		for _, line := range cells[i] {
			width[step.Actor] = max(width[step.Actor], utf8.RuneCountInString(line))
		}
	}
	write := func(number string, cell func(actor string) string) {
		line := fmt.Sprintf("%4s  ", number)
		for _, name := range actors {
			text := cell(name)
			line += text + strings.Repeat(" ", width[name]-utf8.RuneCountInString(text)+3)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	write("", func(actor string) string { return actor })
	for i, step := range steps {
		for j, text := range cells[i] {
			number := ""
			if j == 0 {
				number = strconv.Itoa(i + 1)
			}
			write(number, func(actor string) string {
				if actor == step.Actor {
					return text
				}
				return ""
			})
		}
	}
}

// String returns the step as its cell in the timeline says it.
func (s Step) String() string {
	text := s.Statement
	if s.Blocked {
		text += " [waits for " + names(s.WaitsFor)
		if s.Until > 0 {
			text += " until " + strconv.Itoa(s.Until)
		}
		text += "]"
	}
	if s.Result != "" && s.Result != "ok" {
		text += "  → " + s.Result
	}
	return text
}

// wrap cuts a text at spaces into lines that are not longer than the width if that can be.
func wrap(text string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Split(text, " ") {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			lines = append(lines, line)
			line = "  " + word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// String says in a sentence what was explored. Before that it has the timeline if a schedule was replayed, and passed.
func (r Result) String() string { return r.timeline + r.summary() }

func (r Result) summary() string {
	var b strings.Builder
	b.WriteString(counted(r.Schedules, "schedule", "schedules"))
	if r.Random > 0 {
		fmt.Fprintf(&b, ", %d of them at random", r.Random)
	}
	if r.Orders > 0 {
		fmt.Fprintf(&b, ", which stand for about %.0f orders", r.Orders)
	}
	fmt.Fprintf(&b, " of up to %d statements, in %s", r.Longest, r.Elapsed.Round(time.Millisecond))
	fmt.Fprintf(&b, "; a statement waited for a lock in %d, actors waited for each other in %d", r.Blocked, r.Deadlocks)
	if r.Missed > 0 {
		fmt.Fprintf(&b, "; %d were not met again, as the database refused another actor", r.Missed)
	}
	if r.Left > 0 {
		fmt.Fprintf(&b, "; at least %d schedules were not run", r.Left)
	}
	return b.String()
}
