package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/session"
)

// MaxPlaces is how many may hold a name at the most: each who looks for a place reads them all.
const MaxPlaces = 1000

// A Semaphore is a name that a number of holders may hold. It is safe for concurrent use.
type Semaphore struct{ named }

// named is what a semaphore, each of its leases, and who wants one have in common. It never changes.
type named struct {
	texts
	db      *raceproof.DB
	name    string
	n       int
	options Options
	clock   clock
}

// NewSemaphore returns a semaphore that at most n hold, from 1 to MaxPlaces. Nothing is sent to the database: an error is one
// of the arguments.
//
// It is fewer than n others that hold the name when it is acquired, whoever they are and whatever number they were given: a
// lease is a semaphore of one, and its name the same name. So n can be changed while it is held. If it is lowered those that
// hold go on, and nobody is let in until there are fewer than the new n; while some processes still have the higher n they
// go on by that.
func NewSemaphore(db *raceproof.DB, name string, n int, o *Options) (*Semaphore, error) {
	options, err := o.filled()
	switch {
	case db == nil:
		err = errors.New("the DB is nil")
	case len(name) == 0 || len(name) > MaxName:
		err = fmt.Errorf("the name has %d bytes: it must have 1 to %d", len(name), MaxName)
	case n < 1 || n > MaxPlaces:
		err = fmt.Errorf("%q is to have %d places: it must be 1 to %d", name, n, MaxPlaces)
	}
	if err != nil {
		return nil, fmt.Errorf("lease: %w", err)
	}
	return &Semaphore{named{texts{db.Pool().Dialect(), []byte(name)}, db, name, n, options, monotonic{}}}, nil
}

// Acquire waits until fewer than n hold the name, and becomes one of them. It is otherwise as the function [Acquire].
func (s *Semaphore) Acquire(ctx context.Context) (*Lease, error) {
	c, err := s.newClaim(ctx)
	if err != nil {
		return nil, err
	}
	return c.wait(ctx)
}

// TryAcquire becomes one of the holders if fewer than n hold the name. It is otherwise as the function [TryAcquire].
func (s *Semaphore) TryAcquire(ctx context.Context) (*Lease, error) {
	c, err := s.newClaim(ctx)
	if err != nil {
		return nil, err
	}
	return c.try(ctx)
}

func (s *named) pool() *session.Pool { return s.db.Pool() }

// outside returns an error if the context carries a transaction of the DB: what is done in one is not done before its COMMIT.
func (s *named) outside(ctx context.Context, what string) error {
	if s.pool().InTransaction(ctx) {
		return s.about(fmt.Errorf("%w: %s", raceproof.ErrNested, what))
	}
	return nil
}

// about says which name an error is about.
func (s *named) about(err error) error { return fmt.Errorf("lease: %q: %w", s.name, err) }

// transact makes a transaction in which as little is locked as can be.
func (s *named) transact(ctx context.Context, f func(context.Context, *session.Tx) error) error {
	return s.db.Transact(ctx, func(ctx context.Context) error { return f(ctx, s.pool().Current(ctx)) },
		raceproof.Isolation(s.dialect.Upkeep))
}

// change sends a statement that is a transaction of its own, again as long as the database refuses it on account of others,
// and returns how many rows it has changed. A process can so not be stopped between it and its COMMIT, with the row locked for
// as long as the server believes in the connection. An answer, and a connection once it is its turn to have one, is waited
// for for limit at the most. If an answer is lost the statement is sent again, as it does the same again, and doubt tells so.
func (s *named) change(ctx context.Context, limit time.Duration, statement func() dialect.Statement) (n int64, doubt bool, err error) {
	err = s.pool().Attempts(session.DefaultPolicy).Do(ctx, func() (session.Verdict, error) {
		err := s.pool().Write(session.Within(ctx, limit), true, func(q session.Querier) (err error) {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			n, err = q.Change(ctx, statement())
			return err
		})
		if unknown := errors.Is(err, raceproof.ErrCommitUnknown); unknown || s.dialect.Classify(err) == dialect.Conflict {
			doubt = doubt || unknown
			return session.Again, err
		}
		return session.Lateness(ctx, err), err
	}, giveUp)
	return n, doubt, err
}

func giveUp(attempts int, last, ended error) error {
	return &raceproof.RetryError{Attempts: attempts, Last: last, Ended: ended}
}

// resolveAtMost bounds the attempts to ask a database if the context does not.
const resolveAtMost = 64

// resolve calls f, and again as long as it is not known what has become of a COMMIT of its: f begins with a write of a row
// that it wrote then, so that it waits for such a COMMIT, and finds what that has done.
func (s *named) resolve(ctx context.Context, f func() error) error {
	var pending error
	attempts := 0
	giveUp := func(_ int, last, ended error) error { return giveUp(attempts, last, ended) }
	return s.pool().Attempts(session.DefaultPolicy).Do(ctx, func() (session.Verdict, error) {
		attempts++
		err := f()
		var held *HeldError
		switch {
		case errors.Is(err, raceproof.ErrCommitUnknown):
			pending = err
			return session.Again, err
		case err == nil || pending == nil || errors.As(err, &held):
			return session.Final, err
		}
		// The database cannot be asked, because it is being started again for example.
		err = fmt.Errorf("%w; and then: %w", pending, err)
		if errors.Is(err, raceproof.ErrClosed) || s.pool().Closed() || ctx.Done() == nil && attempts >= resolveAtMost {
			return session.Final, giveUp(0, err, nil)
		}
		return session.Wait, err
	}, giveUp)
}
