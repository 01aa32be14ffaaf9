// Command bench times updates of single rows through this library, through database/sql, sqlx, pgx, bun and GORM, in
// turns, on SQLite, PostgreSQL and MariaDB, and prints the results as Markdown. It exits with status 1 if a contender
// did not do its job. README.md says what is measured and how.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/raceproof/raceproof/internal/servers"
)

// options are what the flags say.
type options struct {
	rounds    int
	time      time.Duration
	databases string
	require   bool
	write     bool
}

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 12, "`number` of rounds; in each every contender has its turns in every setting")
	flag.DurationVar(&o.time, "time", 50*time.Millisecond, "how long a contender runs in one round of a setting")
	flag.StringVar(&o.databases, "databases", "sqlite,postgres,mariadb", "the `names` of those to measure on")
	flag.BoolVar(&o.require, "require", false, "fail if one of the databases is absent, instead of going on without it")
	flag.BoolVar(&o.write, "write", false, "also replace the results in bench/README.md; requires all databases")
	flag.Parse()
	if err := measure(o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func measure(o options) (err error) {
	if o.rounds < 1 || o.time <= 0 {
		return errors.New("there must be a round, and it must take time")
	}
	chosen, err := choice(o.databases)
	if err != nil {
		return err
	}
	readme := ""
	if o.write { // looked at before the minutes of measuring
		if len(chosen) < len(databases) {
			return errors.New("-write replaces the results of all databases: measure on all of them")
		}
		if readme, err = findReadme(); err != nil {
			return err
		}
	}
	hosts, err := find(chosen, o.require || o.write)
	defer func() { err = errors.Join(err, closeHosts(hosts)) }()
	if err != nil {
		return err
	}
	races, err := measureAll(hosts, o.rounds, o.time)
	if err != nil {
		return err
	}
	var results strings.Builder
	report(&results, findEnvironment(hosts), hosts, races, o.rounds, o.time)
	fmt.Print(results.String())
	if o.write {
		return rewrite(readme, results.String())
	}
	return nil
}

// choice returns the databases that are named.
func choice(names string) (chosen []database, err error) {
	for name := range strings.SplitSeq(names, ",") {
		d := database(strings.TrimSpace(name))
		if !slices.Contains(databases, d) || slices.Contains(chosen, d) {
			return nil, fmt.Errorf("%q: name some of %v, each once", names, databases)
		}
		chosen = append(chosen, d)
	}
	return chosen, nil
}

// find finds the databases to measure on. Without one that is absent it goes on, unless all are required.
func find(chosen []database, require bool) (hosts []*host, err error) {
	for _, d := range chosen {
		h, err := newHost(d)
		switch {
		case err == nil:
			hosts = append(hosts, h)
		case errors.Is(err, servers.ErrAbsent) && !require:
			fmt.Fprintf(os.Stderr, "NOT MEASURED on %s: %v\n", d.title(), err)
		default:
			return hosts, fmt.Errorf("%s: %w", d.title(), err)
		}
	}
	if len(hosts) == 0 {
		err = errors.New("there is no database to measure on")
	}
	return hosts, err
}

func closeHosts(hosts []*host) (err error) {
	for _, h := range hosts {
		err = errors.Join(err, h.close())
	}
	return err
}

// measureAll runs all rounds. A round goes through all settings, so that what slows the machine down for a while does
// so for one round of many settings and not for all rounds of one.
func measureAll(hosts []*host, rounds int, d time.Duration) (races []*race, err error) {
	defer func() { err = errors.Join(err, closeAll(races)) }()
	for _, h := range hosts {
		fmt.Fprintf(os.Stderr, "%s: making the contenders ready\n", h.database.title())
		more, err := prepare(h)
		if err != nil {
			return races, fmt.Errorf("%s: %w", h.database.title(), err)
		}
		races = append(races, more...)
	}
	for number := range rounds {
		for _, r := range races {
			if err := r.round(number, d); err != nil {
				return races, err
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d is over\n", number+1, rounds)
	}
	return races, nil
}
