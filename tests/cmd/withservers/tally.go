package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// A tally is a file to which test binaries add how many cases they ran on which database.
type tally struct{ file *os.File }

func newTally() (*tally, error) {
	file, err := os.CreateTemp("", "raceproof-tally-")
	return &tally{file}, err
}

// print adds the reports up, database by database, in the order in which they come, and removes the file.
func (t *tally) print(w io.Writer) error {
	defer func() {
		_ = t.file.Close()
		_ = os.Remove(t.file.Name())
	}()
	text, err := io.ReadAll(t.file)
	if err != nil {
		return err
	}
	var names []string
	cases, absent := map[string]int{}, map[string]string{}
	for line := range strings.Lines(string(text)) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if _, known := cases[name]; !known {
			names = append(names, name)
			cases[name] = 0
		}
		var n int
		if _, err := fmt.Sscanf(rest, "%d test cases", &n); err != nil {
			absent[name] = strings.TrimSpace(rest)
		}
		cases[name] += n
	}
	for _, name := range names {
		if why, is := absent[name]; is {
			_, err = fmt.Fprintf(w, "%-14s %s\n", name, why)
		} else {
			_, err = fmt.Fprintf(w, "%-14s %6d test cases\n", name, cases[name])
		}
		if err != nil {
			return err
		}
	}
	return nil
}
