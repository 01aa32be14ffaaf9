// Student is a small service that keeps records of which a request changes some fields, once wrongly and once rightly.
// The naive way reads the record, puts the request's fields into it, and writes all of it back, so that it also writes
// fields that the request did not name, with what they were when it read them: two requests for different fields undo
// each other. The right way uses an updater of package raceproof, which writes the changed columns only, and only if
// nobody has changed the record since it was read:
//
//	PATCH /students/{id}        changes the fields that the request carries: name, address, gpa
//	POST  /students/{id}        the same, for HTML forms
//	PATCH /naive/students/{id}  the same, wrong on purpose
//	GET   /students/{id}
//
// The fields come as a JSON object or as a form. The service listens on loopback only. Without -db the records live in
// a temporary file and are gone when it ends.
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
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/raceproof/raceproof"
)

const (
	// patience is how long a request may wait for a lock before it is told to come back later. The context of a request
	// ends by itself only when the client goes away, so that without a limit requests would queue up behind a lock that
	// somebody forgot.
	patience = 3 * time.Second

	// farewell is how long requests that are being served may take when the service ends.
	farewell = 10 * time.Second
)

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "the address to listen on")
	path := flag.String("db", "", "the SQLite file (default: a temporary one, removed at the end)")
	pattern := flag.String("pattern", "optimistic", "what protects the records: "+patterns)
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, *addr, *path, *pattern, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run serves until the context ends.
func run(ctx context.Context, addr, path, pattern string, out io.Writer) (err error) {
	if path == "" {
		folder, err := os.MkdirTemp("", "raceproof-student-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		path = filepath.Join(folder, "student.db")
	}
	pool, err := open(ctx, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	db, err := raceproof.New(pool)
	if err != nil {
		return err
	}
	defer db.Close() // before the pool
	handler, err := newHandler(db, pool, pattern, patience)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, `listening on http://%[1]s, try:
  curl -X PATCH -H 'Content-Type: application/json' -d '{"address": "10 Downing Street"}' http://%[1]s/students/1
  curl -d gpa=380 http://%[1]s/students/1
`, listener.Addr())
	return serve(ctx, listener, handler)
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
