package lock

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/raceproof/raceproof/internal/dialect"
)

// A Strength is what the lock of a row keeps others from, as PostgreSQL has it
// (https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS). The zero value is the weakest lock of the
// database's that keeps others from changing the row: NoKeyUpdate on PostgreSQL, Update on MariaDB and MySQL, and the one
// write lock of SQLite, which has nothing else.
type Strength int

// The strengths, from the weakest. MariaDB and MySQL have Share and Update.
const (
	// KeyShare keeps others from deleting the row and from changing its key, and from nothing else.
	KeyShare = Strength(dialect.KeyShare)
	// Share keeps others from changing or deleting the row; they can share the lock.
	Share = Strength(dialect.Share)
	// NoKeyUpdate keeps others from changing, deleting and locking the row, but for KeyShare, which a row takes that refers to
	// this one by a foreign key.
	NoKeyUpdate = Strength(dialect.NoKeyUpdate)
	// Update keeps others from all of that.
	Update = Strength(dialect.Update)
)

// String returns the name of the strength.
func (s Strength) String() string { return dialect.Strength(s).String() }

// Options are what can be chosen about a lock. The zero value, and a nil *Options, stand for the defaults: the weakest lock
// that keeps others from changing the row, waited for until the context ends. What the database does not have is an error
// that wraps raceproof.ErrUnsupported, before anything is locked; nothing else is done in its place.
type Options struct {
	// NoWait: if somebody else holds a lock of the row that is in the way, the error is raceproof.ErrLocked, at once; also if
	// as many callers of this process as get to the database at a time are at it. On PostgreSQL a lock of the whole table
	// (ALTER TABLE, LOCK TABLE) is waited for all the same.
	NoWait bool

	// SkipLocked: SelectWhere leaves out rows that somebody else has locked. Where it is a key that says which row is wanted,
	// there is nothing to be left out, and the error is raceproof.ErrLocked, as with NoWait. Not on SQLite.
	SkipLocked bool

	// WaitAtMost is how long the lock is waited for, and then the error is raceproof.ErrLocked; 0 is until the context ends.
	// Unlike an end of the context this does not end what the context is for. It is counted for each attempt, if a database
	// refuses one on account of others, and by SelectWhere for each row. On PostgreSQL a lock_timeout that was set in the
	// transaction by hand does not hold beside it, and is lost. On MariaDB, which counts in seconds,
	// it must be whole seconds; there the time that was spent waiting for other callers in this process is taken off, and what
	// is left is rounded up. Not on MySQL. Of NoWait, SkipLocked and WaitAtMost there can be one.
	WaitAtMost time.Duration

	// Strength is that of the lock. An updater needs one that keeps others from changing the row: NoKeyUpdate or Update.
	Strength Strength

	// Of names the tables whose rows are locked: only the table itself can be named, with or without its schema. It is for
	// statements that are looked at by others, and for views, as PostgreSQL has it. Only on PostgreSQL.
	Of []string

	// UpdateFirst: the row is locked by an UPDATE that raises its version, and then read. Choose it on a Galera cluster where
	// several nodes write: SELECT ... FOR UPDATE locks there on one node only, and COMMIT refuses only what was written, so
	// that a row that was locked in order to write others (to count its children and insert one, for example) is not
	// protected unless it is written itself. And choose it where a database has no SELECT ... FOR UPDATE. The table must have a
	// version column. The version rises by one, also if nothing else of the row is changed. UpdateFirst cannot be had
	// with a Strength or Of, and with NoWait or SkipLocked only on SQLite (where it is NoWait alone), as UPDATE waits.
	UpdateFirst bool

	// Limit is how many rows SelectWhere locks at the most; 0 is all of them. Nothing else takes it.
	Limit int

	// MaxWaiting is how many callers of this process may wait for one row behind those whose turn it is; another one is told
	// raceproof.ErrOverloaded. The default is 10,000; it is at most 1,000,000,000.
	MaxWaiting int
}

const (
	defaultWaiting = 10_000
	maxWaiting     = 1_000_000_000
)

// locking checks what can be checked without a database.
func (o *Options) locking(table string) (l dialect.Locking, err error) {
	exclusive := 0
	for _, asked := range []bool{o.NoWait, o.SkipLocked, o.WaitAtMost != 0} {
		if asked {
			exclusive++
		}
	}
	l = dialect.Locking{
		Wait:       dialect.Wait{None: o.NoWait, AtMost: o.WaitAtMost},
		SkipLocked: o.SkipLocked,
		Strength:   dialect.Strength(o.Strength),
		First:      o.UpdateFirst,
	}
	switch {
	case exclusive > 1:
		return l, errors.New("of NoWait, SkipLocked and WaitAtMost there can be only one")
	case o.WaitAtMost < 0:
		return l, fmt.Errorf("WaitAtMost is %v: it must not be negative", o.WaitAtMost)
	case o.Strength < 0 || o.Strength > Update:
		return l, fmt.Errorf("%v: there is KeyShare, Share, NoKeyUpdate and Update", o.Strength)
	case o.UpdateFirst && (o.Strength != 0 || len(o.Of) > 0):
		return l, errors.New("an UpdateFirst has neither Strength nor Of, which are those of a SELECT")
	case o.Limit < 0 || o.Limit > math.MaxInt32:
		return l, fmt.Errorf("the Limit is %d: it must not be negative, nor above %d", o.Limit, math.MaxInt32)
	case o.MaxWaiting < 0 || o.MaxWaiting > maxWaiting:
		return l, fmt.Errorf("MaxWaiting is %d: it must not be negative, nor above %d", o.MaxWaiting, maxWaiting)
	}
	name := table[strings.LastIndex(table, ".")+1:]
	for _, of := range o.Of {
		if of != table && of != name {
			return l, fmt.Errorf("the option Of names %q: only rows of %q are locked", of, table)
		}
		l.Of = name
	}
	return l, nil
}

func (o *Options) waiting() int {
	if o.MaxWaiting == 0 {
		return defaultWaiting
	}
	return o.MaxWaiting
}
