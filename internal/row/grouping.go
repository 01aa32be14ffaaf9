package row

import (
	"context"
	"reflect"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
)

// A Grouping says how updates of one updater can be made together, in one transaction. Updaters give it to package serial.
// Whatever else is in it, an update can also be made by the updater itself, with a context that carries the transaction.
type Grouping[T, C any] struct {
	Table *Table[T] // nil: only the updater itself makes updates

	// Locks are those of the rows; nil: they are compared when they are written.
	Locks *Locks

	// Func makes of a change the function that it is, or Evaluate applies it to the struct if Go can. Size is about how many bytes a
	// change takes; nil: it cannot be known.
	Func     func(C) raceproof.Func[T]
	Evaluate func(c C, row reflect.Value, integer func(column int) bool) (applied, refused bool)
	Size     func(C) int

	// Once returns the context with which an update can be made any number of times, and is made once, that which its hooks
	// are called with, and what is in doubt of it. nil: it cannot.
	Once func(context.Context) (update, hooks context.Context, doubt *Doubt)
}

// A Doubt is of an update that may have been made: Err says why that is not known, and is nil as soon as it is.
type Doubt struct{ Err error }

// Locks are how the rows of a group are locked, such that callers of one do not wait for long because somebody holds another.
type Locks struct {
	plain    *Lock
	limited  *Lock // waits for GroupPatience, where a server cannot be told that for the whole transaction
	skipping *Lock // leaves out rows that somebody holds; nil: that cannot be had
}

// GroupPatience is how long a group waits for a lock where that cannot be said in milliseconds. It is the least that SELECT
// ... FOR UPDATE WAIT can count.
const GroupPatience = time.Second

// NewLocks returns them for an updater that locks rows as it is told.
func (t *Table[T]) NewLocks(l dialect.Locking) (_ *Locks, err error) {
	locks := &Locks{}
	if locks.plain, err = t.NewLock(l); err != nil {
		return nil, err
	}
	limited, skipping := l, l
	limited.AtMost, skipping.SkipLocked = GroupPatience, true
	if locks.limited = locks.plain; t.Pool.Dialect().LimitsSelects() {
		locks.limited, err = t.NewLock(limited)
	}
	if err == nil && t.Pool.Dialect().CheckLocking(skipping) == nil {
		locks.skipping, err = t.NewLock(skipping)
	}
	return locks, err
}

// Skips tells whether rows that somebody holds can be left out.
func (l *Locks) Skips() bool { return l.skipping != nil }
