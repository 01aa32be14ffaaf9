package conformance

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/raceproof/raceproof"
)

// untouched is account 1 as it was made.
var untouched = Account{ID: 1}

// usable returns an error unless account 1 can be changed again right away.
func (s *subject) usable(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	before, err := s.account(1)
	if err != nil {
		return err
	}
	after, err := s.Add(s.db).Update(ctx, 1, 1)
	if err != nil {
		return fmt.Errorf("the next update: %w", err)
	}
	if after.Balance != before.Balance+1 {
		return fmt.Errorf("the next update made %d of %d", after.Balance, before.Balance)
	}
	return nil
}

// errEnded is the cause of the contexts that the checks end.
var errEnded = errors.New("the caller has gone")

func endedByCause(err error) error {
	if !errors.Is(err, context.Canceled) || !errors.Is(err, errEnded) {
		return fmt.Errorf("the error is %v, want the context's error and its cause", err)
	}
	return nil
}

func endedContext(ctx context.Context, s *subject) error {
	ended, cancel := context.WithCancelCause(ctx)
	cancel(errEnded)
	_, err := s.Add(s.db).Update(ended, 1, 1)
	if err := endedByCause(err); err != nil {
		return err
	}
	if err := s.is(untouched); err != nil {
		return err
	}
	return s.usable(ctx)
}

// endedWhileWaiting ends the context of an update that waits for a row that somebody else has changed and not committed.
func endedWhileWaiting(ctx context.Context, s *subject) error {
	held, done, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		result <- s.db.Transact(ctx, func(tx context.Context) error {
			_, err := s.db.Ext(tx).ExecContext(tx, `UPDATE accounts SET balance = 100 WHERE id = 1`)
			close(held)
			<-done
			return errors.Join(err, errEnded)
		})
	}()
	<-held
	short, cancel := context.WithTimeoutCause(ctx, 30*time.Millisecond, errEnded)
	defer cancel()
	start := time.Now()
	_, err := s.Add(s.db).Update(short, 1, 1)
	waited := time.Since(start)
	close(done)
	if rolledBack := <-result; !errors.Is(rolledBack, errEnded) {
		return rolledBack
	}
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errEnded) {
		return fmt.Errorf("the error is %v, want the context's error and its cause", err)
	}
	if waited > 2*time.Second {
		return fmt.Errorf("the update returned %v after it was called, its context ended after 30ms", waited)
	}
	if err := s.is(untouched); err != nil {
		return err
	}
	return s.usable(ctx)
}

func endedInFunction(ctx context.Context, s *subject) error {
	ended, cancel := context.WithCancelCause(ctx)
	_, err := s.Func(s.db).Update(ended, 1, func(_ context.Context, a *Account) error {
		a.Balance = 100
		cancel(errEnded)
		return nil
	})
	if err := endedByCause(err); err != nil {
		return err
	}
	if err := s.is(untouched); err != nil {
		return err
	}
	return s.usable(ctx)
}

func failingFunction(ctx context.Context, s *subject) error {
	own := errors.New("the function's own error")
	a, err := s.Func(s.db).Update(ctx, 1, func(_ context.Context, a *Account) error {
		a.Balance, a.Note = 100, "changed"
		return own
	})
	if err != own || a != (Account{}) {
		return fmt.Errorf("the result is %+v and the error %v, want none and the function's own", a, err)
	}
	if err := s.is(untouched); err != nil {
		return err
	}
	return s.usable(ctx)
}

func panicking(ctx context.Context, s *subject) error {
	recovered := func() (value any) {
		defer func() { value = recover() }()
		_, err := s.Func(s.db).Update(ctx, 1, func(_ context.Context, a *Account) error {
			a.Balance = 100
			panic("at the disco")
		})
		return err
	}()
	if recovered != "at the disco" {
		return fmt.Errorf("the panic came out as %v", recovered)
	}
	if err := s.is(untouched); err != nil {
		return err
	}
	return s.usable(ctx)
}

func exiting(ctx context.Context, s *subject) error {
	returned := false
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.Func(s.db).Update(ctx, 1, func(_ context.Context, a *Account) error {
			a.Balance = 100
			runtime.Goexit()
			return nil
		})
		returned = true
	}()
	<-done
	if returned {
		return errors.New("Update returned although its goroutine has ended")
	}
	if err := s.is(untouched); err != nil {
		return err
	}
	return s.usable(ctx)
}

func noChange(ctx context.Context, s *subject) error {
	a, err := s.Func(s.db).Update(ctx, 1, func(context.Context, *Account) error { return nil })
	want := untouched
	if s.Raises {
		want.Version++
	}
	if err != nil || a != want {
		return fmt.Errorf("the result is %+v and the error %v, want the row as it is", a, err)
	}
	return s.is(want)
}

func keptColumns(ctx context.Context, s *subject) error {
	for _, f := range []raceproof.Func[Account]{
		func(_ context.Context, a *Account) error { a.ID, a.Balance = 2, 100; return nil },
		func(_ context.Context, a *Account) error { a.Version, a.Balance = 7, 100; return nil },
	} {
		if a, err := s.Func(s.db).Update(ctx, 1, f); err == nil {
			return fmt.Errorf("the result is %+v, want an error", a)
		}
	}
	return s.is(untouched)
}

func nilFunction(ctx context.Context, s *subject) error {
	if a, err := s.Func(s.db).Update(ctx, 1, nil); err == nil {
		return fmt.Errorf("the result is %+v, want an error", a)
	}
	return s.is(untouched)
}

// functionInTransaction: what the function does through its context, by updaters and by statements of its own, is
// taken back with the update.
func functionInTransaction(ctx context.Context, s *subject) error {
	own := errors.New("the function's own error")
	change := func(end error) raceproof.Func[Account] {
		return func(ctx context.Context, a *Account) error {
			a.Balance++
			if _, err := s.Add(s.db).Update(ctx, 2, 1); err != nil {
				return err
			}
			_, err := s.db.Ext(ctx).ExecContext(ctx, `UPDATE accounts SET note = 'seen' WHERE id = 2`)
			return errors.Join(err, end)
		}
	}
	if _, err := s.Func(s.db).Update(ctx, 1, change(own)); !errors.Is(err, own) {
		return fmt.Errorf("the error is %v, want the function's own", err)
	}
	if err := errors.Join(s.is(untouched), s.is(Account{ID: 2})); err != nil {
		return err
	}
	if _, err := s.Func(s.db).Update(ctx, 1, change(nil)); err != nil {
		return err
	}
	return errors.Join(s.is(Account{ID: 1, Balance: 1, Version: 1}), s.is(Account{ID: 2, Balance: 1, Note: "seen", Version: 1}))
}

func joinsTransaction(ctx context.Context, s *subject) error {
	own := errors.New("the transaction's own error")
	u := s.Add(s.db)
	var escaped context.Context
	err := s.db.Transact(ctx, func(ctx context.Context) error {
		escaped = ctx
		for range 2 {
			if _, err := u.Update(ctx, 1, 1); err != nil {
				return err
			}
		}
		if _, err := u.Update(ctx, 2, 1); err != nil {
			return err
		}
		return own
	})
	if err != own {
		return fmt.Errorf("the error is %v, want the transaction's own", err)
	}
	if err := errors.Join(s.is(untouched), s.is(Account{ID: 2})); err != nil {
		return err
	}
	if _, err := u.Update(escaped, 1, 1); !errors.Is(err, raceproof.ErrFinished) {
		return fmt.Errorf("an update in a transaction that is over: the error is %v", err)
	}
	return errors.Join(s.is(untouched), s.usable(ctx))
}

func savepoint(ctx context.Context, s *subject) error {
	u := s.Add(s.db)
	err := s.db.Transact(ctx, func(ctx context.Context) error {
		if _, err := u.Update(ctx, 1, 1); err != nil {
			return err
		}
		if _, err := u.Update(ctx, 99, 1); !errors.Is(err, raceproof.ErrNotFound) {
			return fmt.Errorf("the error is %v, want that of a missing row", err)
		}
		own := errors.New("the inner one's own error")
		if err := s.db.Transact(ctx, func(ctx context.Context) error {
			if _, err := u.Update(ctx, 2, 1); err != nil {
				return err
			}
			return own
		}); err != own {
			return fmt.Errorf("the error is %v, want the inner transaction's own", err)
		}
		_, err := u.Update(ctx, 1, 1)
		return err
	})
	return errors.Join(err, s.is(Account{ID: 1, Balance: 2, Version: 2}), s.is(Account{ID: 2}))
}

// functionInSavepoint: an update in a transaction that fails, and whose error is swallowed, leaves nothing of what its
// function did.
func functionInSavepoint(ctx context.Context, s *subject) error {
	own := errors.New("the function's own error")
	err := s.db.Transact(ctx, func(ctx context.Context) error {
		if _, err := s.Add(s.db).Update(ctx, 1, 1); err != nil {
			return err
		}
		_, err := s.Func(s.db).Update(ctx, 1, func(ctx context.Context, a *Account) error {
			_, err := s.Add(s.db).Update(ctx, 2, 1)
			return errors.Join(err, own)
		})
		if !errors.Is(err, own) {
			return fmt.Errorf("the error is %v, want the function's own", err)
		}
		return nil
	})
	return errors.Join(err, s.is(Account{ID: 1, Balance: 1, Version: 1}), s.is(Account{ID: 2}))
}
