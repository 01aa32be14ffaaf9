package raceproof

import (
	"database/sql"
	"errors"

	"github.com/raceproof/raceproof/internal/session"
)

// The outcomes that a caller may want to tell apart with errors.Is. All of them but ErrCommitUnknown mean that nothing was
// changed.
var (
	// ErrNotFound: no row has the key. It matches sql.ErrNoRows too.
	ErrNotFound error = notFound{}

	// ErrConflict: each time it was tried, somebody else changed the row between the read and the write, or the database
	// refused the transaction because of another: a serialization failure, a deadlock, a certification conflict. How often
	// it was tried is in the [RetryError]. The update can be asked for again. If the context ended the attempts, the error is
	// the context's as well: ask first for the one that matters more.
	ErrConflict = errors.New("raceproof: conflict with another update")

	// ErrConditionFailed: the row is there, but the condition of a guarded update does not hold for it.
	ErrConditionFailed = errors.New("raceproof: condition failed")

	// ErrLocked: somebody else held a lock until the time to wait for it was over. The update can be asked for again.
	ErrLocked = session.ErrLocked

	// ErrOutOfRange: the database cannot represent the new value: an integer overflow, a division by zero, a value
	// beyond a limit. The same update would fail again.
	ErrOutOfRange = errors.New("raceproof: value out of range")

	// ErrFinished: the context's transaction is over, because its function has returned, or because the database has
	// ended it before its time.
	ErrFinished = session.ErrFinished

	// ErrCommitUnknown: the answer to the COMMIT, or to a write that is a transaction of its own, was lost: the connection
	// broke, or the context ended and the database did not answer soon after. The change may have been made, or be made
	// yet. It is never tried again by itself; package once finds out, or read the row. It is the only
	// error that does not mean that nothing was changed.
	ErrCommitUnknown = session.ErrCommitUnknown

	// ErrClosed: the DB was closed, or the updater, of package serial.
	ErrClosed = session.ErrClosed

	// ErrNoTransaction: what was asked for has a meaning only inside a transaction of the DB, and the context carries none.
	ErrNoTransaction = errors.New("raceproof: the context carries no transaction of the DB")

	// ErrOverloaded: more callers wait in this process, for one row or for an updater of package serial, than are allowed to. The
	// update can be asked for again.
	ErrOverloaded = session.ErrOverloaded

	// ErrLeaseLost: the lease is not held any more, or it cannot be proved that it is. See package lease.
	ErrLeaseLost = errors.New("raceproof: the lease is lost")
)

type notFound struct{}

func (notFound) Error() string        { return "raceproof: no row has the key" }
func (notFound) Is(target error) bool { return target == sql.ErrNoRows }
