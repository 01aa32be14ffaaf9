package hermitage_test

import (
	"fmt"
	"slices"
	"strings"
)

// A scenario is what some transactions do, one step after the other, and what came of it at each level.
//
// Its script is a table. The first column has the steps: a session, and BEGIN (at the level), COMMIT, ROLLBACK or a
// statement. Each other column has what came of them at the levels that its head names; a line with one such column is
// the same at all of them, and one with none is "ok". What can come of a step:
//
//	ok           it has begun, committed or rolled back
//	1=10 2=20    the rows that a query has found, as id=value; "none" is no row
//	wrote 2      that many rows were inserted, updated or deleted
//	40001, 1213  it was refused: the SQLSTATE of PostgreSQL, or the error number of MariaDB
//	waits, ...   it waited for a lock, until a later step set it free; then came what follows
//	late, ...    its session still waited when its turn came, so it was sent after that
//	-            it was not sent, because its session's transaction had been refused
type scenario struct {
	name     string
	about    string
	script   string
	happened func(*history) bool // the anomaly, by what the transactions saw and left behind
}

// A step is one line of a script.
type step struct {
	at      int // its place in the script
	session string
	what    string            // BEGIN, COMMIT, ROLLBACK or a statement
	wants   map[string]string // what should come of it, by the level's short name
}

func (s step) String() string { return s.session + " " + s.what }

// steps reads the script.
func (s scenario) steps() ([]step, error) {
	var heads [][]string
	var all []step
	for line := range strings.Lines(strings.TrimSpace(s.script)) {
		cells := strings.Split(line, "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if heads == nil {
			for _, head := range cells[1:] {
				heads = append(heads, strings.Fields(head))
			}
			if err := complete(heads); err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			continue
		}
		if len(cells) == 1 {
			cells = append(cells, "ok")
		}
		if len(cells) != 2 && len(cells) != 1+len(heads) {
			return nil, fmt.Errorf("%s: %q has %d columns, its head has %d", s.name, line, len(cells), 1+len(heads))
		}
		st := step{at: len(all) + 1, wants: map[string]string{}}
		st.session, st.what, _ = strings.Cut(cells[0], " ")
		for i, head := range heads {
			for _, level := range head {
				st.wants[level] = cells[min(i+1, len(cells)-1)]
			}
		}
		all = append(all, st)
	}
	return all, nil
}

// complete returns an error unless the heads name every level once.
func complete(heads [][]string) error {
	named, want := slices.Sorted(slices.Values(slices.Concat(heads...))), []string{}
	for _, l := range levels {
		want = append(want, l.short)
	}
	if slices.Sort(want); !slices.Equal(named, want) {
		return fmt.Errorf("the columns are for %v, want %v", named, want)
	}
	return nil
}

// A grid is a Markdown table: its cells by the names of their row and column. The name of a row is its first two cells.
type grid map[[3]string]string

// readGrid reads a grid.
func readGrid(table string) (grid, error) {
	g := grid{}
	var heads []string
	for line := range strings.Lines(strings.TrimSpace(table)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case heads == nil:
			heads = cells
		case len(cells) != len(heads):
			return nil, fmt.Errorf("%q has %d columns, the head has %d", line, len(cells), len(heads))
		case strings.Trim(cells[0], ":-") == "":
			// the line below the heads
		default:
			for i := 2; i < len(cells); i++ {
				g[[3]string{cells[0], cells[1], heads[i]}] = cells[i]
			}
		}
	}
	return g, nil
}

// String writes the grid, with the levels and the scenarios in their order.
func (g grid) String() string {
	lines := [][]string{{"server", "level"}, {":-", ":-"}}
	for _, s := range scenarios {
		lines[0], lines[1] = append(lines[0], s.name), append(lines[1], ":-:")
	}
	for _, l := range levels {
		line := []string{l.server, l.name}
		for _, s := range scenarios {
			line = append(line, g[[3]string{l.server, l.name, s.name}])
		}
		lines = append(lines, line)
	}
	var b strings.Builder
	for _, line := range lines {
		for i, cell := range line {
			width := 0
			for _, other := range lines {
				width = max(width, len([]rune(other[i])))
			}
			fmt.Fprintf(&b, "| %-*s ", width, cell)
		}
		b.WriteString("|\n")
	}
	return b.String()
}
