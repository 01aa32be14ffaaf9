package lock

import (
	"context"
	"errors"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/session"
)

// Upsert locks the row with the key, or creates it if it is not there, and then does what Update does with change: so create
// says what a row is before its first change. It is given a row in which only the key is set (unless that is of a type with a
// conversion of its own, when create sets it), and must leave that as it is; all columns of T are inserted. change is called in
// either case, once, with the row as it is in the database.
//
// However many callers come at once, one of them creates the row, and none fails or is made again for that: the row is
// inserted first and only then looked for. On MariaDB and MySQL to lock a missing row would lock the gap that it is to be
// inserted into, for all who look, and then they would wait for each other. create can have been called though somebody
// else's row is what was found, so it should only compute.
//
// Within a transaction on MariaDB and MySQL the row is not looked for first, since that would lock the gap to the end of it:
// create is called though the row is there, and what it makes must be such that it could be inserted; and if the DSN says
// clientFoundRows=true, UPDATE triggers of the row that is there are called though nothing in it has changed yet.
//
// What is said of Update holds here too, but for raceproof.ErrNotFound. The key must be unique, as an index says. If it is
// another unique column that the new row shares with one, the error is the database's, and nothing is changed.
func (u *Updater[T]) Upsert(ctx context.Context, key any, create, change raceproof.Func[T]) (T, error) {
	var none T
	if u.err != nil {
		return none, u.err
	}
	r, err := u.upsert(ctx, key, create, change)
	if err != nil {
		return none, u.table.Wrap(key, err)
	}
	return r.Value, nil
}

func (u *Updater[T]) upsert(ctx context.Context, key any, create, change raceproof.Func[T]) (r *row.Row[T], err error) {
	if create == nil {
		return nil, errNoFunc
	}
	// To look first, in a transaction of its own, is right nearly always, and the cheapest then. Within a caller's the gap that
	// this would lock stays locked.
	if !u.table.Pool.InTransaction(ctx) || !u.table.Pool.Dialect().GapsLocked {
		r, err = u.update(ctx, key, change)
		if !errors.Is(err, raceproof.ErrNotFound) || row.Own(err) {
			return r, err
		}
	}
	if change == nil {
		return nil, errNoFunc
	}
	k, err := u.table.NewKey(key)
	if err != nil {
		return nil, err
	}
	if u.lock.None {
		// An INSERT has no NOWAIT, so that it needs a limit.
		limited := dialect.Locking{Wait: dialect.Wait{AtMost: time.Second}}
		if err := u.table.VerifyFor(ctx, limited); err != nil {
			return nil, err
		}
	}
	err = u.locked(ctx, []row.Key{k}, func(ctx context.Context, tx *session.Tx, l *row.Lock) error {
		if r, err = u.table.LockOrCreate(ctx, tx, k, l, create); err != nil {
			return err
		}
		return u.change(ctx, tx, r, change)
	})
	return r, err
}
