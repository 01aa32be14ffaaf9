// Package serial serves hot rows: it wraps an updater so that the callers of this process queue, and whatever waits is
// done in one transaction, with one COMMIT, across rows. The more callers there are the more each COMMIT does, so that a row
// which a thousand callers want at once is changed many times as often as when each of them locks it for himself:
//
//	hot := serial.Wrap(byLock)
//	p, err := hot.Update(ctx, 7, change)
//
// The wrapped updater is an updater again, with the same contract: each caller gets the row as it is after his own change,
// and his own error, as if all of them had run one after the other. A caller who finds nobody ahead of him runs his update
// himself, as without the wrap.
//
// # What a group is
//
// The rows of all who wait are locked, and read once. Then the callers' functions run, one at a time, in the order in which
// they came, each on its caller's own goroutine and with its caller's context, on the row as those before have left it.
// Where nobody can tell the difference the row is then written once; its version rises by as many as have changed it. That is
// so for columns of integers (and, on PostgreSQL and SQLite, some others) in tables without triggers, CHECK constraints,
// generated columns and the like, which would have had a say in between; changes of other columns or tables are written
// one by one, in the same transaction. What is on the table the database is asked once a second. Whoever reads what was
// changed from a log of it, as replicas do, sees what is written once as one change. Changes of package atomic are computed in Go where integers are all they need, and else
// by the database, one by one. Updaters of package optimistic hold nothing while the functions run: the rows are read,
// and written if they are still the same.
//
// The locks and versions in the database are those of the updater that is wrapped, so other processes, and updaters that
// are not wrapped, are kept from nothing but what those keep them from, and lose nothing.
//
// # When something goes wrong
//
// A function that fails, panics or ends its goroutine takes back what it has done, and the others go on. Errors are told when
// what they were based on is committed. If anything else goes wrong with a group, nothing of it was applied: its callers'
// functions are called again, in smaller steps, and at last each caller runs his update himself; so functions can run more than
// once, as those of package lock can. Only if the answer to a group's COMMIT is lost are all who would have been told of no error told
// raceproof.ErrCommitUnknown. Wrap an updater of package once for that to be resolved.
//
// Functions that are given to DB.AfterCommit and DB.AfterRollback are called on their caller's goroutine when his update is over,
// those of rounds that were given up too. A statement of a function's that could commit by itself, because it is not plainly one that
// reads or writes rows, is refused in a group, with an error that is told to nobody else: the function is called again, in a
// transaction of its own. So is one that takes longer than a second. What a function sets for its transaction by a SELECT, with
// PostgreSQL's set_config for example, holds for the functions behind it too.
//
// A slow function keeps all others waiting, those of other rows too: keep functions short, or wrap only what serves hot
// rows.
package serial

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/row"
)

// An Updater serves the callers of another updater in groups. It is safe for concurrent use.
type Updater[T, C any] struct {
	updater  raceproof.Updater[T, C]
	db       *raceproof.DB
	table    string
	grouping *row.Grouping[T, C]
	limits   limits
	queue    queue[T, C]
	met      time.Time // when somebody else had changed a row; for the goroutine that serves
	err      error
}

var _ raceproof.Updater[struct{}, int] = (*Updater[struct{}, int])(nil)

// grouped is what an updater must have to be served in groups.
type grouped[T, C any] interface {
	DB() *raceproof.DB
	Table() string
	Err() error
	Grouping() (*row.Grouping[T, C], error)
}

// Wrap returns an updater that does what u does for one caller at a time, and for many at once if they wait. u is an updater of
// package lock, atomic or optimistic, or one that package once has made of it; wrap before you Bind. Wrap an updater once and
// use it everywhere: those of two Wraps do not wait together.
//
// What is wrong with the arguments is reported by Err, and by every Update: a nil updater, one that is wrapped already, one with
// mistakes of its own, a limit that is not positive; and raceproof.ErrUnsupported for an updater of package lock with NoWait, SkipLocked,
// WaitAtMost or UpdateFirst, which callers who share a lock could not be given.
func Wrap[T, C any](u raceproof.Updater[T, C], opts ...Option) *Updater[T, C] {
	w := &Updater[T, C]{updater: u, limits: defaults}
	w.queue.overtaken = w.overtake
	for _, option := range opts {
		option(&w.limits)
	}
	if err := w.wrap(); err != nil {
		w.err = fmt.Errorf("serial: Wrap: %w", err)
	}
	return w
}

func (u *Updater[T, C]) wrap() error {
	if v := reflect.ValueOf(u.updater); u.updater == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return errors.New("the updater is nil")
	}
	if _, already := u.updater.(*Updater[T, C]); already {
		return errors.New("the updater is wrapped already")
	}
	of, ok := u.updater.(grouped[T, C])
	if !ok {
		return fmt.Errorf("%T cannot be served in groups: wrap an updater of package lock, atomic, optimistic or once, before raceproof.Bind", u.updater)
	}
	if err := of.Err(); err != nil {
		return err
	}
	if err := u.limits.check(); err != nil {
		return err
	}
	var err error
	u.db, u.table = of.DB(), of.Table()
	u.grouping, err = of.Grouping()
	return err
}

// Err returns what was wrong with the arguments of Wrap, so that a service can check it where it starts. Nothing but errors
// comes from an updater for which it is not nil.
func (u *Updater[T, C]) Err() error { return u.err }

// DB returns the DB of the updater that is wrapped, or nil if that has mistakes.
func (u *Updater[T, C]) DB() *raceproof.DB { return u.db }

// Table returns the name of the table whose rows the updater changes, or "" if it was made with mistakes.
func (u *Updater[T, C]) Table() string { return u.table }

// Update does what Update of the updater that is wrapped does, alone or together with other callers. Called with a context
// that carries a transaction, or that a function in a group was given, it is that Update itself.
//
// An error that does not wrap raceproof.ErrCommitUnknown means that nothing was changed. The errors are those of the updater
// that is wrapped, and besides: raceproof.ErrOverloaded, if as many callers wait as may, or what they hold takes as many bytes
// as it may; raceproof.ErrClosed, after Close; raceproof.ErrLocked with the context's error and cause, if it ended while the
// caller waited for those before it. If the context ends later, Update returns when it is known what has become of the change,
// which may have been applied; then the error is nil. A group that takes longer than a second after the end of one of its
// callers' contexts is given up, and made again without him; if its COMMIT is under way by then he is told
// raceproof.ErrCommitUnknown, and ten seconds after the end all of it are.
func (u *Updater[T, C]) Update(ctx context.Context, key any, change C) (T, error) {
	var none T
	if u.err != nil {
		return none, u.err
	}
	if u.db.Pool().InTransaction(ctx) || ctx.Value(insideKey[T, C]{u}) != nil {
		if err := u.queue.refuses(); err != nil {
			return none, u.about(key, err)
		}
		return u.updater.Update(ctx, key, change)
	}
	if turn, lone := u.queue.alone(); lone {
		defer u.goOn(turn)
		return u.updater.Update(ctx, key, change)
	}
	c, err := u.enter(ctx, key, change)
	if err != nil {
		return none, u.about(key, err)
	}
	defer u.queue.exit()
	value, err := u.await(c)
	if err != nil && c.doubt != nil && c.doubt.Err != nil && !errors.Is(err, raceproof.ErrCommitUnknown) {
		err = fmt.Errorf("%w; and then: %w", c.doubt.Err, err)
	}
	return value, err
}

// inside is the context of a function that a group waits for, though it is in no transaction: with it updates must not wait for
// the next group.
type inside[T, C any] struct {
	context.Context
	u *Updater[T, C]
}

type insideKey[T, C any] struct{ u *Updater[T, C] }

// Value tells that it is one of the updater's.
func (i inside[T, C]) Value(key any) any {
	if key == (insideKey[T, C]{i.u}) {
		return i
	}
	return i.Context.Value(key)
}

// about says which row an error is about.
func (u *Updater[T, C]) about(key any, err error) error {
	return fmt.Errorf("raceproof: update %s with key %v: %w", u.table, key, err)
}
