package row

import (
	"context"
	"errors"
	"fmt"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/session"
)

// Attempt calls f until it meets no conflict, as often as the policy of the attempts allows. f is a transaction of its own,
// or several, and has left nothing behind if it fails; it holds neither a lock nor a connection while Attempt pauses. What
// was refused because of a lock is attempted for as long as the context lasts, if that can end, and else not again: then
// the connection's own limit is over. Within a caller's transaction f is called once: what conflicts there can only be
// mended by running the whole of it again.
func (t *Table[T]) Attempt(ctx context.Context, a *session.Attempts, f func() error) error {
	if tx := t.Pool.Current(ctx); tx != nil {
		return t.inside(ctx, tx, f())
	}
	return a.Do(ctx, func() (session.Verdict, error) {
		err := f()
		class := t.class(err)
		if r, ok := err.(*session.Refused); ok {
			class, err = r.Class, r.Err
		}
		switch {
		case class == dialect.Conflict:
			return session.Again, err
		case class == dialect.Busy && ctx.Done() != nil && Own(err):
			return session.Again, err // the function may not have wanted to wait
		case class == dialect.Busy && ctx.Done() != nil:
			return session.Wait, err
		case Own(err):
			return session.Final, err
		}
		return session.Lateness(ctx, err), err
	}, giveUp)
}

// inside returns what an attempt within a caller's transaction has come to.
func (t *Table[T]) inside(ctx context.Context, tx *session.Tx, err error) error {
	switch class := t.class(err); {
	case class == dialect.Conflict:
		err = giveUp(1, err, nil)
		tx.Refuse(err)
	case class == dialect.Busy && session.About(ctx):
		<-ctx.Done() // the limit that is over was the context's
		return fmt.Errorf("%w: %w: %w", raceproof.ErrLocked, session.Ended(ctx), err)
	}
	return err
}

// class tells whether an attempt failed because somebody else changed the row, or because the database refused it on
// account of somebody else's: that is a Conflict, or Busy if the database has given up waiting for a lock. The error of a
// caller's function is neither, whatever it wraps.
func (t *Table[T]) class(err error) dialect.Class {
	switch {
	case err == nil || Own(err) || errors.Is(err, raceproof.ErrCommitUnknown) || errors.Is(err, ErrSelf):
		return dialect.Other
	case errors.Is(err, ErrStale):
		return dialect.Conflict
	}
	class := t.Pool.Dialect().Classify(err)
	if class == dialect.Busy && errors.Is(err, raceproof.ErrLocked) {
		return dialect.Other // it was waited for
	}
	return class
}

// Own tells whether an error is that of a caller's function.
func Own(err error) bool {
	var f *FuncError
	return errors.As(err, &f)
}

func giveUp(attempts int, last, ended error) error {
	return &raceproof.RetryError{Attempts: attempts, Last: last, Ended: ended}
}
