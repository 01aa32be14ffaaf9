package main

import (
	"fmt"
	"os"
	"strings"
)

// What stands between these two lines of README.md is written by this program.
const (
	beginResults = "<!-- results: written by go run ./bench -write -->"
	endResults   = "<!-- end of results -->"
)

// findReadme returns the path of bench/README.md, from the root of the repository or from bench itself.
func findReadme() (string, error) {
	for _, path := range []string{"bench/README.md", "README.md"} {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if _, err := replaceResults(string(text), ""); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("found no README.md with the line %s: run this in the root of the repository or in bench", beginResults)
}

// rewrite replaces the results in the file.
func rewrite(path, results string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	replaced, err := replaceResults(string(text), results)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(replaced), 0o644)
}

func replaceResults(text, results string) (string, error) {
	before, rest, begins := strings.Cut(text, beginResults)
	_, after, ends := strings.Cut(rest, endResults)
	if !begins || !ends {
		return "", fmt.Errorf("there must be the lines %s and %s", beginResults, endResults)
	}
	return before + beginResults + "\n\n" + strings.TrimSpace(results) + "\n\n" + endResults + after, nil
}
