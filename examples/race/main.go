// Race runs the same load through a naive updater and through raceproof's patterns, and counts what was lost.
//
//	go run ./examples/race
//	go run ./examples/race -driver pgx -dsn 'postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable'
//	go run ./examples/race -driver mysql -dsn 'root@tcp(127.0.0.1:3306)/test'
//
// By default 32 goroutines make 200 updates each of one row of a SQLite file in a temporary folder. The exit status is
// 1 if a pattern other than naive lost an update, and 2 if the program could not run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/mattn/go-sqlite3"
)

type settings struct {
	driver, dsn            string
	workers, updates, keys int
	patterns               []string
	json                   bool
}

var errLost = errors.New("a pattern that must not lose updates lost some")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case errors.Is(err, errLost):
		fmt.Fprintln(os.Stderr, "race:", err)
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "race:", err)
		os.Exit(2)
	}
}

// run is main with its surroundings as arguments.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if s.dsn == "" {
		folder, err := os.MkdirTemp("", "race")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		s.dsn = "file:" + filepath.Join(folder, "race.db") + "?_journal_mode=WAL&_synchronous=NORMAL&_stmt_cache_size=64"
	}
	store, err := open(ctx, s)
	if err != nil {
		return err
	}
	defer store.close()
	var results []result
	for _, name := range s.patterns {
		r, err := store.race(ctx, s, name, newProgress(stderr, name))
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		results = append(results, r)
	}
	if err := report(stdout, s, results); err != nil {
		return err
	}
	return verdict(results)
}

// verdict returns an error if a pattern other than naive did not keep what it was given.
func verdict(results []result) error {
	if slices.ContainsFunc(results, func(r result) bool { return r.Pattern != naive && r.Lost != 0 }) {
		return errLost
	}
	return nil
}

func parse(args []string, stderr io.Writer) (settings, error) {
	var s settings
	var pattern string
	flags := flag.NewFlagSet("race", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.driver, "driver", "sqlite3", "the database/sql driver: sqlite3, pgx or mysql")
	flags.StringVar(&s.dsn, "dsn", "", "the data source name; empty: a new SQLite file, removed at the end")
	flags.IntVar(&s.workers, "workers", 32, "goroutines that update at the same time")
	flags.IntVar(&s.updates, "updates", 200, "updates that each of them makes")
	flags.IntVar(&s.keys, "keys", 1, "rows that the updates are spread over")
	flags.StringVar(&pattern, "pattern", "all", "which to run: all, or some of "+strings.Join(patterns, ",")+", separated by commas")
	flags.BoolVar(&s.json, "json", false, "print JSON instead of a table")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	for name, n := range map[string]int{"workers": s.workers, "updates": s.updates, "keys": s.keys} {
		if n < 1 {
			return s, fmt.Errorf("-%s is %d: it must be 1 or more", name, n)
		}
	}
	if s.driver != "sqlite3" && s.dsn == "" {
		return s, fmt.Errorf("-driver %s needs a -dsn", s.driver)
	}
	s.patterns = patterns
	if pattern != "all" {
		s.patterns = strings.Split(pattern, ",")
	}
	for _, name := range s.patterns {
		if !slices.Contains(patterns, name) {
			return s, fmt.Errorf("unknown pattern %q: there is all, %s", name, strings.Join(patterns, ", "))
		}
	}
	return s, nil
}
