// Transfer moves money both ways between a few accounts, from many goroutines at once: by lock.UpdateMany, which locks both
// rows in one order, and for comparison by one lock.Update inside another, which has deadlocks.
//
//	go run ./examples/transfer
//	go run ./examples/transfer -driver pgx -dsn 'postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable'
//	go run ./examples/transfer -driver mysql -dsn 'root@tcp(127.0.0.1:3306)/test'
//
// Whatever happens, the sum of all balances stays what it was, and none falls below 0. The exit status is 1 if that was not
// so, or if the program could not run. The transfers themselves are in transfer.go.
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
	driver, dsn                  string
	accounts, workers, transfers int
	limit                        time.Duration
}

var errWrong = errors.New("the accounts are wrong")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "transfer:", err)
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
		folder, err := os.MkdirTemp("", "transfer")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		s.dsn = "file:" + filepath.Join(folder, "bank.db") + "?_journal_mode=WAL&_synchronous=NORMAL&_stmt_cache_size=64"
	}
	b, err := open(ctx, s.driver, s.dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()

	fmt.Fprintf(stdout, "%d goroutines x %d transfers between %d accounts through %s\n\n", s.workers, s.transfers, s.accounts, s.driver)
	fmt.Fprintln(stdout, "       way     made  refused  sum before  sum after  lowest  further attempts  transfers/s")
	for _, w := range ways {
		r, err := b.load(ctx, s, w.way)
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		fmt.Fprintf(stdout, "%10s  %7d  %7d  %10d  %9d  %6d  %16d  %11.0f\n", w.name, r.made, r.refused,
			r.before, r.after, r.lowest, r.attempts-r.made-r.refused, float64(r.made)/r.took.Seconds())
		if r.after != r.before || r.lowest < 0 {
			return errWrong
		}
	}
	return nil
}

func parse(args []string, stderr io.Writer) (s settings, err error) {
	flags := flag.NewFlagSet("transfer", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.driver, "driver", "sqlite3", "the database/sql driver: sqlite3, pgx or mysql")
	flags.StringVar(&s.dsn, "dsn", "", "the data source name; empty: a new SQLite file, removed at the end")
	flags.IntVar(&s.accounts, "accounts", 4, "accounts that money is moved between: the fewer, the more often transfers meet")
	flags.IntVar(&s.workers, "workers", 32, "goroutines that make transfers at the same time")
	flags.IntVar(&s.transfers, "transfers", 50, "transfers that each of them asks for")
	flags.DurationVar(&s.limit, "limit", 5*time.Second, "when nobody begins another transfer, for each way")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.accounts < 2:
		return s, fmt.Errorf("-accounts is %d: it must be 2 or more", s.accounts)
	case s.workers < 1 || s.transfers < 1:
		return s, errors.New("-workers and -transfers must be 1 or more")
	case s.driver != "sqlite3" && s.dsn == "":
		return s, fmt.Errorf("-driver %s needs a -dsn", s.driver)
	}
	return s, nil
}
