// Jobs has a few workers drain a table of jobs, which each take the next ones that nobody else has taken. Each job is done
// exactly once: what it does and the mark that it is done are one transaction. A job that fails stays for another try.
//
//	go run ./examples/jobs
//	go run ./examples/jobs -driver pgx -dsn 'postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable'
//	go run ./examples/jobs -driver mysql -dsn 'root@tcp(127.0.0.1:3306)/test'
//
// The exit status is 1 if a job was not done exactly once, or if the program could not run. The workers are in worker.go.
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
	"syscall"
	"time"

	_ "github.com/go-sql-driver/mysql" // the drivers that -driver can name
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/mattn/go-sqlite3"
)

type settings struct {
	driver, dsn          string
	jobs, workers, batch int
}

var errWrong = errors.New("not every job was done exactly once")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "jobs:", err)
		os.Exit(1)
	}
}

// run is main with its surroundings as arguments.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if s.dsn == "" {
		folder, err := os.MkdirTemp("", "jobs")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		s.dsn = "file:" + filepath.Join(folder, "jobs.db") + "?_journal_mode=WAL&_synchronous=NORMAL&_stmt_cache_size=64"
	}
	q, err := open(ctx, s.driver, s.dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, q.close()) }()
	if err := q.fill(ctx, s.jobs); err != nil {
		return err
	}
	start := time.Now()
	workers, err := q.work(ctx, s, write)
	if err != nil {
		return err
	}
	took := time.Since(start)
	fmt.Fprintf(stdout, "%d jobs, %d at a time, through %s\n\nworker   done   failed\n", s.jobs, s.batch, s.driver)
	for _, w := range workers {
		fmt.Fprintf(stdout, "%6d %6d %8d\n", w.number, w.done, w.failed)
	}
	fmt.Fprintf(stdout, "\n%.0f jobs/s\n", float64(s.jobs)/took.Seconds())
	return q.check(ctx)
}

func parse(args []string, stderr io.Writer) (s settings, err error) {
	flags := flag.NewFlagSet("jobs", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.driver, "driver", "sqlite3", "the database/sql driver: sqlite3, pgx or mysql")
	flags.StringVar(&s.dsn, "dsn", "", "the data source name; empty: a new SQLite file, removed at the end")
	flags.IntVar(&s.jobs, "jobs", 1000, "jobs that are to be done")
	flags.IntVar(&s.workers, "workers", 8, "workers that do them at the same time")
	flags.IntVar(&s.batch, "batch", 5, "jobs that a worker takes at a time")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.jobs < 1 || s.workers < 1 || s.batch < 1:
		return s, errors.New("-jobs, -workers and -batch must be 1 or more")
	case s.driver != "sqlite3" && s.dsn == "":
		return s, fmt.Errorf("-driver %s needs a -dsn", s.driver)
	}
	return s, nil
}
