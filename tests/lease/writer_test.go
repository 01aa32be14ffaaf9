package lease_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lease"
)

// stoppedTTL is that of the writers.
const stoppedTTL = 150 * time.Millisecond

// A writer acquires a lease, and writes the protected row as long as it believes that it holds it. It prints
//
//	got T             it holds the lease, and T is its token
//	stopping T        it stops itself now
//	looked T E C F    asked to "look T": how Err of the context, its cause and the fence answer: true is that it is lost
//	lost T E          it has noticed that it is lost, with what error
type writer struct {
	db     *raceproof.DB
	name   string
	fenced bool
	wire   *wire

	mu     sync.Mutex
	leases map[int64]*lease.Lease
	halt   bool // to stop between the next look at the lease and the write
	first  bool // to have the fence first in the transaction, when nothing of it is in the way of others yet
}

func (w *writer) hold() {
	ctx := context.Background()
	l, err := lease.Acquire(ctx, w.db, "job", &lease.Options{TTL: stoppedTTL, Holder: w.name})
	if errors.Is(err, raceproof.ErrLeaseLost) || errors.Is(err, raceproof.ErrLocked) {
		return // it was stopped meanwhile, or somebody else who has SQLite's lock
	}
	check(err)
	w.mu.Lock()
	if w.leases == nil {
		w.leases = map[int64]*lease.Lease{}
	}
	w.leases[l.Token()] = l
	w.mu.Unlock()
	fmt.Println("got", l.Token())
	for err = l.Context().Err(); err == nil; err = l.Context().Err() {
		if w.halts() {
			w.stop(l)
		}
		// Its context is not the lease's, so that nothing but the fence keeps a late write out.
		err := w.db.Transact(ctx, func(ctx context.Context) error { return w.write(ctx, l) })
		if err != nil && !errors.Is(err, raceproof.ErrLeaseLost) && !errors.Is(err, raceproof.ErrLocked) {
			panic(err)
		}
		time.Sleep(time.Millisecond) // leaves the processor to others
	}
	_ = l.Release(ctx)
	fmt.Println("lost", l.Token(), context.Cause(l.Context()))
}

// write notes the write and its token, in the order of the commits, because each has the one row until it is committed.
func (w *writer) write(ctx context.Context, l *lease.Lease) error {
	w.mu.Lock()
	first := w.first
	w.mu.Unlock()
	if w.fenced && first {
		_ = l.Fence(ctx)
	}
	for _, statement := range []string{
		fmt.Sprintf(`UPDATE protected SET seq = seq + 1, token = %d, who = '%s' WHERE id = 1`, l.Token(), w.name),
		`INSERT INTO written (seq, token, who) SELECT seq, token, who FROM protected WHERE id = 1`,
	} {
		if _, err := w.db.Ext(ctx).ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	if w.fenced && !first {
		_ = l.Fence(ctx)
	}
	return nil
}

func (w *writer) halts() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	halt := w.halt
	w.halt = false
	return halt
}

// stop stops this process until somebody else continues it.
func (w *writer) stop(l *lease.Lease) {
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, syscall.SIGCONT)
	defer signal.Stop(continued)
	fmt.Println("stopping", l.Token())
	check(syscall.Kill(os.Getpid(), syscall.SIGSTOP))
	<-continued // other threads can be the first to stop
	w.mu.Lock()
	w.first = false
	w.mu.Unlock()
}

// listen does what it is told: "look T", "halt look" before the next write, "halt fence" before the fence is sent, or not to
// halt after all.
func (w *writer) listen() {
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var token int64
		if _, err := fmt.Sscanf(lines.Text(), "look %d", &token); err == nil {
			w.look(token)
			continue
		}
		w.mu.Lock()
		switch lines.Text() {
		case "halt look":
			w.halt = true
		case "halt fence":
			w.first = true
			w.wire.on("SET uses = uses + 1 WHERE", func() { w.stop(w.last()) })
		case "halt nowhere":
			w.halt, w.first = false, false
			w.wire.on("", nil)
		default:
			panic(lines.Text())
		}
		w.mu.Unlock()
	}
	os.Exit(0)
}

func (w *writer) last() *lease.Lease {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := int64(0)
	for token := range w.leases {
		last = max(last, token)
	}
	return w.leases[last]
}

func (w *writer) look(token int64) {
	w.mu.Lock()
	l := w.leases[token]
	w.mu.Unlock()
	err := l.Context().Err() != nil
	cause := errors.Is(context.Cause(l.Context()), raceproof.ErrLeaseLost)
	fence := raceproof.ErrLocked
	for errors.Is(fence, raceproof.ErrLocked) { // SQLite's own waiting has no order, so that one can wait in vain
		fence = w.db.Transact(context.Background(), l.Fence)
	}
	fmt.Println("looked", token, err, cause, errors.Is(fence, raceproof.ErrLeaseLost))
}
