package raceproof

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/session"
)

// Transact calls f in a transaction. Every updater of this DB that is called with f's context takes part in it, and
// [DB.Ext] gives the handle for other statements. If f returns nil and the context has not ended, the transaction is
// committed. If f returns an error, or panics, or ends its goroutine, or if the context has ended, it is rolled back;
// the error is returned as it is.
//
// # The whole of it is made again
//
// If the database refuses the transaction on account of another, f is called again, in a new transaction: after a
// serialization failure, a deadlock or a certification conflict, whether it is a statement or COMMIT that is refused;
// after an update of package optimistic, inside f, that came too late; and, if the context can end, when a lock was not
// free for as long as the connection is set to wait. f must therefore do nothing that its transaction does not take back,
// or leave that to [DB.AfterCommit]. A deadlock and the like of which f's own statements have told doom the transaction also
// if f returns another error, or none. A lock that was not free, one that a statement did not want to wait for (NOWAIT) among
// them, does not, and on PostgreSQL neither does what an updater has met, as each is a level of its own: there return the
// error, or wrap it (%w). If a nested Transact was refused, and its error was handled instead of returned, f
// has not failed and is not called again; nothing is done again inside a transaction. All other errors, and a COMMIT whose
// answer was lost, end the attempts at once. How often is said by [Retry]; by default as in the zero [RetryPolicy].
//
// # Nested
//
// Called with a context that carries a transaction of this DB, Transact is a savepoint of it: an error takes back what
// f did and leaves the rest, which can go on and be committed. While f runs, the context of the function around it can
// send nothing: use the one that the innermost function was given, from one goroutine at a time. Anything else is an error.
//
// On SQLite the transaction takes the write lock when it begins (BEGIN IMMEDIATE), whatever the pool's DSN says, unless it
// is [ReadOnly]. On PostgreSQL its statements, also those of your own, wait for a lock no longer than until the deadline
// that ctx has.
//
// # Errors
//
// An error means that nothing was changed, unless it wraps ErrCommitUnknown, or f itself has committed: on MariaDB and MySQL
// a statement that changes a table's definition does, and what f has done before it stays. It is a *[RetryError] that
// wraps ErrConflict (or ErrLocked, for a lock that was not free in time) if attempts were used up, or were ended by the
// context or by the policy's budget; ErrUnsupported or ErrNested if an option cannot be honoured, before anything was done;
// the context's error and cause, if it has ended.
//
// If the database has given up the whole transaction, because of a deadlock on MariaDB, an interrupted write or a full
// disk on SQLite, a lost connection, or because f has ended it by a statement of its own, every later statement and Transact
// itself return an error that wraps ErrFinished, also if f has swallowed the first. On PostgreSQL any error of a statement
// does that to the level that it was sent at: put what may fail into a Transact of its own. Leave COMMIT and ROLLBACK to
// Transact. If f sets lock_timeout by itself (SET LOCAL), that is lost behind a nested call with an earlier deadline.
func (db *DB) Transact(ctx context.Context, f func(context.Context) error, opts ...TransactOption) error {
	if f == nil {
		return errors.New("raceproof: Transact: the function is nil")
	}
	var o transactOptions
	for _, option := range opts {
		option(&o)
	}
	inside := db.pool.InTransaction(ctx)
	policy, err := session.Policy(o.retry).Filled()
	switch {
	case err != nil:
		return fmt.Errorf("raceproof: Transact: %w", err)
	case inside && o.durable:
		return fmt.Errorf("%w: Durable", ErrNested)
	case inside && o.retries:
		return fmt.Errorf("%w: Retry: only the whole transaction can be made again", ErrNested)
	}
	own := false // the last attempt's error is f's
	once := func() error {
		own = false
		return db.pool.TransactWith(ctx, o.TxOptions, func(ctx context.Context, _ *session.Tx) error {
			err := f(ctx)
			own = err != nil
			return err
		})
	}
	if inside {
		return once()
	}
	attempts := db.attempts
	if o.retries {
		attempts = db.pool.Attempts(policy)
	}
	return attempts.Do(ctx, func() (session.Verdict, error) {
		err := once()
		r, ok := err.(*session.Refused)
		switch {
		case !ok && own:
			return session.Final, err
		case !ok:
			return session.Lateness(ctx, err), err
		case r.Class == dialect.Conflict:
			return session.Again, also(ErrConflict, r.Err)
		case ctx.Done() == nil: // the time to wait is over
			return session.Final, also(ErrLocked, r.Err)
		}
		return session.Again, also(ErrLocked, r.Err)
	}, giveUp)
}

// also returns an error that is the outcome too.
func also(outcome, err error) error {
	if errors.Is(err, outcome) {
		return err
	}
	return fmt.Errorf("%w: %w", outcome, err)
}

func giveUp(attempts int, last, ended error) error {
	return &RetryError{Attempts: attempts, Last: last, Ended: ended}
}

// A TransactOption says how a transaction is to be made.
type TransactOption func(*transactOptions)

type transactOptions struct {
	session.TxOptions
	durable bool
	retries bool
	retry   RetryPolicy
}

// Durable says that when Transact has returned nil the work must be committed, and not only be part of a transaction
// around it. Inside one it is an error that wraps ErrNested, and f is not called.
func Durable() TransactOption {
	return func(o *transactOptions) { o.durable = true }
}

// Isolation asks for an isolation level: sql.LevelReadCommitted, sql.LevelRepeatableRead or sql.LevelSerializable, as
// PostgreSQL and MariaDB understand them; SQLite has only sql.LevelSerializable. What the database does not have, and a
// higher level inside a transaction than that was asked to have, is an error that wraps ErrUnsupported, and f is not called.
// Without it, and with sql.LevelDefault, the level is that of the connection.
//
// At REPEATABLE READ PostgreSQL refuses to change what somebody else has changed since, and at SERIALIZABLE both databases
// refuse what could not have happened one after the other, some of it at COMMIT; Transact then calls f again.
func Isolation(level sql.IsolationLevel) TransactOption {
	return func(o *transactOptions) { o.TxOptions.Isolation = level }
}

// ReadOnly says that the transaction only reads: the database refuses writes. On SQLite it then takes no write lock and
// no turn in the queue of writers, and everything that it reads is as it was at its beginning. Inside a transaction that
// is not ReadOnly itself, it is an error that wraps ErrUnsupported, and f is not called.
func ReadOnly() TransactOption {
	return func(o *transactOptions) { o.TxOptions.ReadOnly = true }
}

// Retry says how often, and after which pauses, the transaction is made again if it is refused on account of another.
// Inside a transaction it is an error that wraps ErrNested, and f is not called: only the whole could be made again.
func Retry(policy RetryPolicy) TransactOption {
	return func(o *transactOptions) { o.retries, o.retry = true, policy }
}

// ErrUnsupported: the database cannot do what was asked for, or cannot do it here. Nothing was done in its place.
var ErrUnsupported = session.ErrUnsupported

// ErrNested: an option that only an outermost Transact can honour was given to one inside a transaction. Its function
// was not called.
var ErrNested = errors.New("raceproof: inside another transaction")

// AfterCommit has f called once the COMMIT of the whole transaction that ctx carries is known to have succeeded: with the
// other functions of the transaction, in the order in which they were given, by the goroutine and with the context of the
// outermost Transact (or of the updater that has begun the transaction), after the connection was given back and before
// that returns. In a function given to package optimistic, which is no transaction, that is when its row is written. Without
// either, f is called at once.
//
// f is dropped if the transaction, the attempt, the update or the nested Transact in which it was given is rolled back. It
// is dropped too if the answer to COMMIT is lost (ErrCommitUnknown), and of course if the process ends before its turn: what must
// happen belongs into the transaction, as a row of an outbox for example. A panic of f goes on when the functions behind it
// were called.
//
// The context that f is called with may have ended. The error is not nil only if f is nil or if ctx's transaction is over
// already; it then wraps ErrFinished, and f is not called.
func (db *DB) AfterCommit(ctx context.Context, f func(context.Context)) error {
	return hooked("AfterCommit", db.pool.AfterCommit(ctx, f))
}

// AfterRollback has f called once what was done in the innermost Transact that ctx is inside of is rolled back: of the
// attempt, or of the nested call alone, in the order in which they were given, with the context that this Transact was
// given, and before it returns or makes another attempt. It is for what a transaction does not take back. f is dropped
// when the whole transaction is committed, and when the answer to COMMIT is lost: then it is not known what to do.
// In a function given to package optimistic that is when its row is not written. Without either nothing can be rolled back,
// and f is never called.
//
// What is said of AfterCommit's panics and errors holds here too.
func (db *DB) AfterRollback(ctx context.Context, f func(context.Context)) error {
	return hooked("AfterRollback", db.pool.AfterRollback(ctx, f))
}

func hooked(name string, err error) error {
	if err == nil || errors.Is(err, ErrFinished) {
		return err
	}
	return fmt.Errorf("raceproof: %s: %w", name, err)
}
