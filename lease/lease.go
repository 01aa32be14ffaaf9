// Package lease has leases: a name that one process at a time holds, for as long as it renews it. It is for work that only
// one of many processes is to do, and that outlives a transaction: the leader of a service, a job that runs nightly. A
// [Semaphore] lets n of them hold the name.
//
// A lease ends by itself when its holder crashes, is cut off or is stopped: it was seized for a time, the TTL, and is renewed
// every third of that. Only the database's clock is stored and compared, so the clocks of processes need not agree.
//
// # What proves that it is held
//
// Two things do, and they are not the same. [Lease.Context] is cancelled as soon as this process cannot be sure any more
// that it holds the lease: another can be holding it from then on. It goes by the process's own monotonic clock, counted
// from before the last renewal was sent, and a little less than the TTL. But nobody can look at a clock and write to a
// database in one step: a process can be stopped in between, for longer than the TTL. On most systems the monotonic clock even
// stands still while the machine is suspended, and a machine that is woken up then believes that it holds the lease.
//
// So work that must not be done by two, and is done in the same database, belongs into a transaction that calls
// [Lease.Fence]: from there to its COMMIT nobody can take the lease over, and if somebody has, it cannot be committed. For
// work that is done elsewhere there is the [Lease.Token], a number that is higher for each holder than for all before:
// whoever is written to can refuse a lower one than it has seen. It rises as long as the database loses no commit that it
// has answered: one that does not sync, or one that is replaced by a copy that lags behind, can give a number twice. The
// fence knows the holders apart even then.
//
// # Connections
//
// A renewal needs a connection of the pool, every third of the TTL. It waits for one in line with everybody else, so a pool
// that is used up for longer than the TTL loses the lease, and with a pool of one connection every transaction of that length
// does. Leave it one.
//
// # Clocks
//
// If the database's clock is set forward, leases end early by it; the fence still tells the truth. If it is set back, those
// that hold go on, and who waits in [Acquire] takes one over that nobody has renewed for a TTL, as it has seen itself.
//
// # Databases
//
// On SQLite a transaction holds the write lock of the whole database, and renewals wait for it: keep transactions much
// shorter than the TTL there. MariaDB must be 10.6 or newer, MySQL 8, which have SKIP LOCKED. On a Galera cluster the
// writes of two nodes are compared when they are committed, and one of the two refused. A server of MariaDB or MySQL with
// binlog_format=STATEMENT refuses all of this, because it is done at READ COMMITTED. If one pool's connections go to
// several nodes, set wsrep_sync_wait to 7, or else a node that lags behind can say that a new lease is lost.
//
// A process that is stopped or cut off, and not killed, in the middle of an acquisition, or of a transaction with a fence, keeps what it
// has locked: nobody else gets the name until it goes on, or until the server gives its connection up. To bound that set
// idle_in_transaction_session_timeout on PostgreSQL, idle_write_transaction_timeout on MariaDB. On SQLite a process that is
// stopped while it writes stops all who write.
package lease

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/raceproof/raceproof"
)

// MinTTL and MaxTTL bound for how long a lease can be held without a renewal.
const (
	MinTTL     = 100 * time.Millisecond
	MaxTTL     = 30 * 24 * time.Hour
	defaultTTL = 15 * time.Second
)

// MaxName is how many bytes a name, and what is shown of a holder, may have.
const MaxName = 255

// Options are how a lease is held. The zero value of each field stands for its default; nil is the same as the zero value.
type Options struct {
	// TTL is for how long the lease is held without a renewal, from MinTTL to MaxTTL, by default 15 seconds. It is how long
	// others wait for one whose holder has crashed. Fractions of a microsecond are dropped.
	TTL time.Duration

	// Holder is shown to others in a HeldError, at most 255 bytes. The default is the name of the host, a slash and the number
	// of the process. Nothing else depends on it: two can be called the same.
	Holder string

	// Manual: nothing is renewed in the background, the caller calls Renew.
	Manual bool
}

// filled returns the options with defaults in the place of zeros.
func (o *Options) filled() (Options, error) {
	var filled Options
	if o != nil {
		filled = *o
	}
	if filled.TTL == 0 {
		filled.TTL = defaultTTL
	}
	if filled.TTL < MinTTL || filled.TTL > MaxTTL {
		return filled, fmt.Errorf("the TTL is %v: it must be at least %v and at most %v", filled.TTL, MinTTL, MaxTTL)
	}
	filled.TTL = filled.TTL.Truncate(time.Microsecond) // as the database keeps it
	if filled.Holder == "" {
		filled.Holder = process()
	}
	if len(filled.Holder) > MaxName {
		return filled, fmt.Errorf("the holder has %d bytes: at most %d are shown", len(filled.Holder), MaxName)
	}
	return filled, nil
}

// process names this process to people.
func process() string {
	host, err := os.Hostname()
	if err != nil || len(host) > 200 {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// margin is by how much less than the TTL a holder counts on, and by how much more one who waits: for clocks that do not
// run alike, and for a database that reads its own to the millisecond.
func margin(ttl time.Duration) time.Duration { return ttl/100 + time.Millisecond }

// ErrReleased: the lease was released by its own holder. It is what Renew, Fence and Release return from then on, and the
// cause of the end of its Context.
var ErrReleased = errors.New("lease: it was released")

// A HeldError reports that as many as may hold a name do. It wraps raceproof.ErrLocked.
type HeldError struct {
	Name   string
	Holder string        // of the one whose time is over first, or of one whose transaction with a fence is not over yet
	Left   time.Duration // until then, if it is not renewed; 0 if it is over
}

// Error tells the name, its holder, and for how long.
func (e *HeldError) Error() string {
	return fmt.Sprintf("lease: %q is held by %q for another %v", e.Name, e.Holder, e.Left)
}

// Unwrap returns raceproof.ErrLocked.
func (e *HeldError) Unwrap() error { return raceproof.ErrLocked }

// Acquire waits until the name is free, or its holder has not renewed it for its TTL, and seizes it. Names have 1 to 255
// bytes and are compared byte for byte; they belong to the whole database (or schema). The tables that [CreateTable] makes
// must be there. A lease is a [Semaphore] with one place.
//
// While it waits it holds nothing: it looks every quarter of a second at the latest. Of the callers of one name in this process
// one does, and they are served in the order in which they came; when this process releases the name the next is served at once.
// Between processes there is no order.
//
// The lease lasts longer than ctx, whose values its Context has: it is held until it is released or lost, so release it.
//
// If ctx ends the error wraps raceproof.ErrLocked, the *[HeldError] that was met last if there was one, and the context's error
// and cause. Inside a transaction of db it is raceproof.ErrNested, because nothing would be held before the COMMIT. An error that
// wraps raceproof.ErrLeaseLost is of a database that took longer than the TTL. Other errors are those of the database. An
// error means that the caller does not hold the name; if it wraps raceproof.ErrCommitUnknown, because the answer to a COMMIT was
// lost and nobody could be asked until ctx ended, nobody else may be able to hold it until the TTL is over.
func Acquire(ctx context.Context, db *raceproof.DB, name string, o *Options) (*Lease, error) {
	s, err := NewSemaphore(db, name, 1, o)
	if err != nil {
		return nil, err
	}
	return s.Acquire(ctx)
}

// TryAcquire is Acquire, but does not wait for a holder: if the name is held the error is a *[HeldError]. It waits for a
// connection, and for others that are about to seize the name.
func TryAcquire(ctx context.Context, db *raceproof.DB, name string, o *Options) (*Lease, error) {
	s, err := NewSemaphore(db, name, 1, o)
	if err != nil {
		return nil, err
	}
	return s.TryAcquire(ctx)
}
