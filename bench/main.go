// Command bench times updates of single rows through this library, through database/sql, through sqlx and through GORM,
// in turns, and prints the results as Markdown. It exits with status 1 if a contender did not do its job. README.md
// says what is measured and how.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "`number` of rounds; every contender runs once in each")
	d := flag.Duration("time", 400*time.Millisecond, "how long a contender runs in one round")
	write := flag.Bool("write", false, "also replace the results in bench/README.md")
	flag.Parse()
	if err := run(*rounds, *d, *write); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(rounds int, d time.Duration, write bool) (err error) {
	if rounds < 1 || d <= 0 {
		return errors.New("there must be a round, and it must take time")
	}
	readme := ""
	if write {
		if readme, err = findReadme(); err != nil { // before the minutes of measuring
			return err
		}
	}
	races, err := measureAll(rounds, d)
	if err != nil {
		return err
	}
	var results strings.Builder
	report(&results, findEnvironment(), races, rounds, d)
	fmt.Print(results.String())
	if write {
		return rewrite(readme, results.String())
	}
	return nil
}

// measureAll runs all rounds. A round goes through all settings, so that what slows the machine down for a while does
// so for one round of many settings and not for all rounds of one.
func measureAll(rounds int, d time.Duration) (races []*race, err error) {
	dir, err := os.MkdirTemp("", "raceproof-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	races, err = prepare(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closeAll(races)) }()
	for number := range rounds {
		for _, r := range races {
			if err := r.round(number, d); err != nil {
				return nil, err
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d is over\n", number+1, rounds)
	}
	return races, nil
}
