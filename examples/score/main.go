// Score is a small service that counts a player's clicks, once wrongly and three times rightly. A click's worth is a
// long calculation on the player's score: the score is read, computed on and written back. If two clicks of one
// player do that at the same time, the naive way loses one of them, without an error. The other routes do the same
// with an updater of package raceproof, and lose none:
//
//	POST /players/{id}/score/naive       reads, computes, writes: wrong on purpose
//	POST /players/{id}/score/lock        holds the lock from the read to the commit
//	POST /players/{id}/score/optimistic  writes only if the player is still the one that was read
//	POST /players/{id}/score/atomic      has the database compute: a fixed bonus, as that is all SQL can say here
//	GET  /players/{id}
//
// It listens on loopback only. Without -db the players live in a temporary file and are gone when it ends.
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
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, *addr, *path, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// run serves until the context ends.
func run(ctx context.Context, addr, path string, out io.Writer) (err error) {
	if path == "" {
		folder, err := os.MkdirTemp("", "raceproof-score-")
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(folder) }()
		path = filepath.Join(folder, "score.db")
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
	handler, err := newHandler(db, pool, patience)
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, `listening on http://%[1]s, try:
  curl -X POST http://%[1]s/players/1/score/lock
  curl http://%[1]s/players/1
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
