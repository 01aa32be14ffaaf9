// Command bench times updates of single rows through this library, through database/sql, sqlx, pgx, bun and GORM, in
// turns, on SQLite, PostgreSQL and MariaDB, and prints the results as Markdown. It exits with status 1 if a contender
// did not do its job. README.md says what is measured and how.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/raceproof/raceproof/internal/servers"
)

// options are what the flags say.
type options struct {
	rounds    int
	time      time.Duration // of a contender with one caller in a round
	turn      time.Duration // with 64 callers
	limit     time.Duration
	crowds    int
	long      bool
	databases string
	parts     string
	require   bool
	write     bool
	curves    string
	profile   string
}

func main() {
	var o options
	flag.BoolVar(&o.long, "long", false, "everything in every round, which takes hours")
	flag.IntVar(&o.rounds, "rounds", 3, "`number` of rounds; in each every contender has its turns in every setting")
	flag.DurationVar(&o.time, "time", 150*time.Millisecond, "how long a contender runs with one caller in one round of a setting")
	flag.DurationVar(&o.turn, "turn", 160*time.Millisecond, "how long 64 callers run; a third of that up to 16, and one and a half of it with 256")
	flag.DurationVar(&o.limit, "limit", 2*time.Second, "when callers of a crowd of 10,000 give up who would have to try again")
	flag.IntVar(&o.crowds, "crowds", 1, "`number` of crowds")
	flag.StringVar(&o.databases, "databases", "sqlite,postgres,mariadb", "the `names` of those to measure on")
	flag.StringVar(&o.parts, "parts", "one,many,crowd", "the `names` of what to measure: one caller, many callers, and crowds, for which many must be measured too")
	flag.BoolVar(&o.require, "require", false, "fail if one of the databases is absent, instead of going on without it")
	flag.BoolVar(&o.write, "write", false, "also replace the results in bench/README.md, and the curves; requires all databases and parts")
	flag.StringVar(&o.curves, "curves", "", "draw the curves into a `folder`")
	flag.StringVar(&o.profile, "cpuprofile", "", "write a CPU profile to a `file`")
	flag.Parse()
	if err := profiled(o.profile, func() error { return measure(o) }); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// profiled calls f, and writes a CPU profile meanwhile if a file is named.
func profiled(name string, f func() error) (err error) {
	if name == "" {
		return f()
	}
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := pprof.StartCPUProfile(file); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return f()
}

func measure(o options) (err error) {
	if o.rounds < 1 || o.crowds < 1 || o.time <= 0 || o.turn <= 0 {
		return errors.New("there must be a round and a crowd, and they must take time")
	}
	chosen, err := choice(o.databases, databases)
	if err != nil {
		return err
	}
	some, err := choice(o.parts, allParts)
	if err != nil {
		return err
	}
	readme := ""
	if o.write { // looked at before the minutes of measuring
		if len(chosen) < len(databases) || len(some) < len(allParts) {
			return errors.New("-write replaces all results: measure all on all databases")
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
	found, err := measureAll(hosts, o, some)
	if err != nil {
		return err
	}
	var text strings.Builder
	found.report(&text)
	fmt.Print(text.String())
	if o.write {
		err = errors.Join(rewrite(readme, text.String()), found.draw(filepath.Dir(readme)))
	}
	if o.curves != "" {
		err = errors.Join(err, found.draw(o.curves))
	}
	return err
}

// choice returns what is named of all that there is.
func choice[T ~string](names string, all []T) (chosen []T, err error) {
	for name := range strings.SplitSeq(names, ",") {
		one := T(strings.TrimSpace(name))
		if !slices.Contains(all, one) || slices.Contains(chosen, one) {
			return nil, fmt.Errorf("%q: name some of %v, each once", names, all)
		}
		chosen = append(chosen, one)
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
