package row

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/session"
)

// A Policy says how often an update is attempted that meets conflicts, and how long it pauses between two attempts: a
// random time up to MinPause, which doubles with each further conflict up to MaxPause.
type Policy struct {
	MaxAttempts        int
	MinPause, MaxPause time.Duration
}

// DefaultPolicy gives up after about three seconds of conflicts.
var DefaultPolicy = Policy{MaxAttempts: 64, MinPause: time.Millisecond, MaxPause: 100 * time.Millisecond}

// Attempt calls f until it meets no conflict, as often as the policy allows. f is a transaction of its own, or several,
// and has left nothing behind if it fails; it holds neither a lock nor a connection while Attempt pauses. What was
// refused because of a lock is attempted for as long as the context lasts, if that can end, and else not again: then
// the connection's own limit is over. Within a caller's transaction f is called once: what conflicts there can only be
// mended by running the whole of it again.
func (t *Table[T]) Attempt(ctx context.Context, p Policy, f func() error) error {
	if t.Pool.InTransaction(ctx) {
		p.MaxAttempts = 1
	}
	pause := p.MinPause
	conflicts := 0
	var last error // of the attempts before
	for {
		err := f()
		conflict, locked := t.isConflict(err), t.isLocked(err)
		switch {
		case conflict:
			conflicts++
			if conflicts == p.MaxAttempts {
				return &raceproof.RetryError{Attempts: conflicts, Last: err}
			}
		case locked && ctx.Done() != nil && !t.Pool.InTransaction(ctx):
		case locked && session.About(ctx):
			<-ctx.Done() // the limit that is over was the context's
			return fmt.Errorf("%w: %w: %w", raceproof.ErrLocked, session.Ended(ctx), err)
		default:
			if conflicts > 0 && err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				err = &raceproof.RetryError{Attempts: conflicts + 1, Last: last, Ended: err}
			}
			return err
		}
		if ended := session.Sleep(ctx, session.Jitter(pause)); ended != nil {
			if conflicts > 0 {
				return &raceproof.RetryError{Attempts: conflicts, Last: err, Ended: ended}
			}
			return fmt.Errorf("%w: %w", ended, err)
		}
		last, pause = err, min(2*pause, p.MaxPause)
	}
}

// isConflict tells whether an attempt failed because somebody else changed the row, or because the database refused it
// on account of somebody else's, and could succeed if made again. The error of a caller's function is none, whatever it
// wraps.
func (t *Table[T]) isConflict(err error) bool {
	if err == nil || own(err) || errors.Is(err, raceproof.ErrCommitUnknown) || errors.Is(err, ErrSelf) {
		return false
	}
	return errors.Is(err, ErrStale) || t.Pool.Dialect().Classify(err) == dialect.Conflict
}

// isLocked tells whether the database has given up waiting for a lock.
func (t *Table[T]) isLocked(err error) bool {
	return err != nil && !own(err) && !errors.Is(err, raceproof.ErrLocked) && t.Pool.Dialect().Classify(err) == dialect.Busy
}

func own(err error) bool {
	var f *FuncError
	return errors.As(err, &f)
}
