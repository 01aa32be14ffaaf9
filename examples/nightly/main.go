// Nightly adds the night's interest to 20 accounts, one after another, and never twice, however many of it are started: one
// holds a lease and works, the others wait. If that one crashes another goes on where it was, after the -ttl. If it is only
// stopped, for so long that another has taken over, it goes on believing that it is the one, and the database does not.
//
// Start it three times on one database, and kill the one that works (kill -9), or stop it (kill -STOP), and continue it
// (kill -CONT) when another works:
//
//	go run ./examples/nightly -dsn 'file:nightly.db?_journal_mode=WAL'
//	go run ./examples/nightly -driver pgx -dsn 'postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable'
//	go run ./examples/nightly -driver mysql -dsn 'root@tcp(127.0.0.1:3306)/test'
//
// It makes the tables nightly_accounts, nightly_progress, raceproof_lease and raceproof_fence, if they are not there, and
// leaves them. Drop nightly_accounts and nightly_progress for another night.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	_ "github.com/go-sql-driver/mysql" // the drivers that -driver can name
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lease"
)

const accounts = 20

// The one who runs the job makes the tables: PostgreSQL refuses some of those who do at once.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS nightly_accounts (id BIGINT NOT NULL PRIMARY KEY, balance BIGINT NOT NULL)`,
	`CREATE TABLE IF NOT EXISTS nightly_progress (id BIGINT NOT NULL PRIMARY KEY, done BIGINT NOT NULL)`,
}

type settings struct {
	driver, dsn string
	ttl, work   time.Duration
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "nightly:", err)
		os.Exit(1)
	}
}

func parse(args []string, stderr io.Writer) (s settings, err error) {
	flags := flag.NewFlagSet("nightly", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.driver, "driver", "sqlite3", "the database/sql driver: sqlite3, pgx or mysql")
	flags.StringVar(&s.dsn, "dsn", "", "the data source name")
	flags.DurationVar(&s.ttl, "ttl", 3*time.Second, "how long the others wait for one that has crashed")
	flags.DurationVar(&s.work, "work", time.Second, "how long the work on an account takes")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	if flags.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if s.dsn == "" {
		return s, errors.New("it needs a -dsn: those that are started must meet somewhere")
	}
	return s, nil
}

// run is main with its surroundings as arguments.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s, err := parse(args, stderr)
	if err != nil {
		return err
	}
	pool, err := sqlx.ConnectContext(ctx, s.driver, s.dsn)
	if err != nil {
		return err
	}
	defer func() { _ = pool.Close() }()
	db, err := raceproof.New(pool)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := lease.CreateTable(ctx, db); err != nil {
		return err
	}
	j := &job{db, pool, s, stdout}
	for {
		again, err := j.take(ctx)
		if !again {
			return err
		}
	}
}

// A job is the night's work, which one of many processes does.
type job struct {
	db   *raceproof.DB
	pool *sqlx.DB
	settings
	out io.Writer
}

func (j *job) say(format string, args ...any) {
	_, _ = fmt.Fprintf(j.out, "%d "+format+"\n", append([]any{os.Getpid()}, args...)...)
}

// take waits until it is this process's turn, and works until there is nothing to do, or it has lost the lease: then it can
// wait for it again.
func (j *job) take(ctx context.Context) (again bool, err error) {
	j.say("waits")
	l, err := lease.Acquire(ctx, j.db, "nightly", &lease.Options{TTL: j.ttl})
	if err != nil {
		return errors.Is(err, raceproof.ErrLeaseLost), err // it was stopped for too long while it acquired
	}
	defer func() { _ = l.Release(context.WithoutCancel(ctx)) }()
	j.say("runs the job, with token %d", l.Token())
	for _, statement := range schema {
		if _, err := j.pool.ExecContext(ctx, statement); err != nil {
			return false, err
		}
	}
	for ctx.Err() == nil {
		n, err := j.next(ctx, l)
		switch {
		case errors.Is(err, raceproof.ErrLeaseLost):
			j.say("is not the one any more: %v", err)
			return true, nil
		case err != nil:
			return false, err
		case n > accounts:
			j.say("finds nothing to do")
			return false, nil
		}
	}
	return false, context.Cause(ctx)
}

// next does the next account, and returns its number.
func (j *job) next(ctx context.Context, l *lease.Lease) (n int64, err error) {
	if n, err = j.done(ctx, l); err != nil || n >= accounts {
		return n + 1, err
	}
	n++
	j.say("works on account %d", n)
	time.Sleep(j.work) // whatever takes long is done in no transaction; look at l.Context() in what takes very long
	err = j.db.Transact(ctx, func(ctx context.Context) error {
		for _, statement := range []string{
			`UPDATE nightly_accounts SET balance = balance + balance / 100 WHERE id = ?`,
			`UPDATE nightly_progress SET done = ? WHERE id = 1`,
		} {
			if _, err := j.db.Ext(ctx).ExecContext(ctx, j.pool.Rebind(statement), n); err != nil {
				return err
			}
		}
		return l.Fence(ctx) // unless this process holds the lease nothing of the above is committed
	})
	if err != nil {
		j.say("cannot commit account %d", n)
		return n, err
	}
	j.say("has done account %d", n)
	return n, nil
}

// done returns the number of the last account that was done. Who runs the job first makes the rows.
func (j *job) done(ctx context.Context, l *lease.Lease) (n int64, err error) {
	err = j.db.Transact(ctx, func(ctx context.Context) error {
		err := sqlx.GetContext(ctx, j.db.Ext(ctx), &n, `SELECT done FROM nightly_progress WHERE id = 1`)
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		rows := []string{`INSERT INTO nightly_progress (id, done) VALUES (1, 0)`}
		for id := range accounts {
			rows = append(rows, fmt.Sprintf(`INSERT INTO nightly_accounts (id, balance) VALUES (%d, 10000)`, id+1))
		}
		for _, statement := range rows {
			if _, err := j.db.Ext(ctx).ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return l.Fence(ctx)
	})
	return n, err
}
