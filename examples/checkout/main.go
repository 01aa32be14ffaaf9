// Checkout is a small shop that charges an account exactly once for an order, also if the buyer clicks twice, if the
// client hears nothing and sends the request again, and if the connection to the database breaks at COMMIT. The client
// puts a key of its own choice on every order, and the same key on every attempt at it; the service does the work by
// package once:
//
//	POST /accounts/{id}/orders    {"item": "teapot", "price": 1200}   charges the account and records the order
//	POST /accounts/{id}/deposits  {"amount": 3000}                    adds money
//	GET  /accounts/{id}
//
// Both POSTs need the header Idempotency-Key. Accounts 1 and 2 begin with 5000 cents. Try the following, twice:
//
//	curl -i -H 'Idempotency-Key: tea-1' -d '{"item": "teapot", "price": 1200}' http://127.0.0.1:8080/accounts/1/orders
//
// The second answer is the first one, order number and all, and the account is charged once. A refusal is an answer too:
// an order that was too expensive stays refused under its key when money has come in since. What to make of the statuses:
//
//	201, 402, 404   final, and stored with the order's key: who sends it again gets the same answer
//	400, 413, 422   the request is wrong, or the key was used for another one: nothing was done by it
//	503             not known, or not done yet: send the same request with the same key again
//
// It runs on SQLite, in a temporary file unless there is a -dsn, or on a server. There it makes the tables
// checkout_accounts, checkout_orders and raceproof_once, if they are not there, and leaves them:
//
//	go run ./examples/checkout
//	go run ./examples/checkout -driver pgx -dsn 'postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable'
//	go run ./examples/checkout -driver mysql -dsn 'root@tcp(127.0.0.1:3306)/test'
//
// Keys are kept for a day (-keep); after that the same key is a new order. It listens on loopback only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	// patience is how long a request may take before it is told to come back later. The context of a request ends by
	// itself only when the client goes away, so that without a limit requests would queue up behind a lock that somebody
	// forgot. It is also how long package once may try to find out what became of a COMMIT.
	patience = 3 * time.Second

	// farewell is how long requests that are being served may take when the service ends.
	farewell = 10 * time.Second
)

type settings struct {
	addr, driver, dsn string
	keep, sweep       time.Duration
}

func main() {
	s, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		log.Fatal(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, s, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func parse(args []string, stderr io.Writer) (s settings, err error) {
	flags := flag.NewFlagSet("checkout", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&s.addr, "addr", "127.0.0.1:8080", "the address to listen on")
	flags.StringVar(&s.driver, "driver", "sqlite3", "the database/sql driver: sqlite3, pgx or mysql")
	flags.StringVar(&s.dsn, "dsn", "", "the data source name; empty: a new SQLite file, removed at the end")
	flags.DurationVar(&s.keep, "keep", 24*time.Hour, "how long keys are remembered: longer than any client tries again")
	flags.DurationVar(&s.sweep, "sweep", 10*time.Minute, "how often older keys are deleted")
	if err := flags.Parse(args); err != nil {
		return s, err
	}
	switch {
	case flags.NArg() > 0:
		return s, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case s.keep <= 0 || s.sweep <= 0:
		return s, errors.New("-keep and -sweep must be positive")
	case s.driver != "sqlite3" && s.dsn == "":
		return s, fmt.Errorf("-driver %s needs a -dsn", s.driver)
	}
	return s, nil
}

// run serves until the context ends.
func run(ctx context.Context, s settings, out io.Writer) (err error) {
	if s.dsn == "" {
		folder, err := os.MkdirTemp("", "raceproof-checkout-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		file := &url.URL{Path: filepath.Join(folder, "checkout.db")}
		s.dsn = "file:" + file.EscapedPath() + "?_journal_mode=WAL&_synchronous=NORMAL&_stmt_cache_size=64"
	}
	st, err := open(ctx, s.driver, s.dsn)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	service, err := newService(st, patience, func(r receipt) { log.Printf("mail to the owner of account %d: %+v", r.Account, r) })
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.addr)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, `listening on http://%[1]s, try twice:
  curl -i -H 'Idempotency-Key: tea-1' -d '{"item": "teapot", "price": 1200}' http://%[1]s/accounts/1/orders
and then:
  curl http://%[1]s/accounts/1
`, listener.Addr())
	defer sweeping(ctx, st, s)()
	return serve(ctx, listener, service.routes())
}

// sweeping deletes old keys now and then. The function that it returns ends that, and must be called before the database
// is closed.
func sweeping(ctx context.Context, st *store, s settings) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	ticker := time.NewTicker(s.sweep)
	var sweeper sync.WaitGroup
	sweeper.Go(func() { st.forget(ctx, s.keep, ticker.C) })
	return func() {
		cancel()
		ticker.Stop()
		sweeper.Wait()
	}
}

func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	return server.Shutdown(ctx)
}
