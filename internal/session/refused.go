package session

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/raceproof/raceproof/internal/dialect"
)

// A Refused is the error of a transaction that was rolled back on account of somebody else's, and could succeed if the
// whole of it were run again. Class is Conflict or Busy. It says nothing besides; whoever decides whether to run it
// again takes it off.
type Refused struct {
	Err   error
	Class dialect.Class
}

// Error implements error.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap returns the error without the verdict.
func (r *Refused) Unwrap() error { return r.Err }

// notedAtMost bounds the refusals that a transaction remembers: few survive one.
const notedAtMost = 1000

// note remembers an error of the database if it is a refusal on account of somebody else's, and whether the whole
// transaction is doomed by it. A lock that was not free dooms nothing: it can be one that the function has not wanted to
// wait for, and what it makes of that is its own affair. It returns the error by which the refusal will be known again.
func (t *transaction) note(err error, doomed bool) error {
	if err != nil && t.refuses(err) && reflect.TypeOf(err).Kind() != reflect.Pointer {
		err = &refusal{err} // a driver's error that is a value is the same as another of its code
	}
	t.noteAsIs(err, doomed)
	return err
}

// noteAsIs is note for an error that the caller has got already.
func (t *transaction) noteAsIs(err error, doomed bool) {
	if !t.refuses(err) {
		return
	}
	t.addRefusal(err)
	if doomed && t.doom == nil && t.conn.pool.dialect.Classify(err) == dialect.Conflict {
		t.doom = err
	}
}

func (t *transaction) refuses(err error) bool {
	class := t.conn.pool.dialect.Classify(err)
	return class == dialect.Conflict || class == dialect.Busy
}

// A refusal is an error with an identity.
type refusal struct{ error }

// Unwrap returns the error.
func (r *refusal) Unwrap() error { return r.error }

func (t *transaction) addRefusal(err error) {
	if len(t.noted) == notedAtMost {
		t.noted = t.noted[1:]
	}
	t.noted = append(t.noted, err)
	if p := t.top.inPart(); p != nil {
		p.barred = true // in a transaction of its own it would have been waited for longer, or made again
	}
}

// Refuse remembers that something was refused in the transaction because somebody else has changed what it has read: if
// its function returns the error, the whole of it can be run again.
func (t *Tx) Refuse(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addRefusal(err)
}

// learn takes over what rows have ended with that a caller was given: only he has been told so far.
func (t *Tx) learn(closed []lentRows) {
	c := t.conn
	d := c.pool.dialect
	lost := false
	for _, r := range closed {
		r.watchdog.stop()
		if r.err == nil {
			continue
		}
		err := r.err()
		if err == nil {
			continue
		}
		if !d.FromServer(err) {
			lost = true
			continue
		}
		ends := d.EndsTransaction(err)
		if ends && t.over == nil {
			t.over = fmt.Errorf("%w: the database has ended it: %w", ErrFinished, err)
		}
		if d.ErrorsAbort && t.aborted == nil {
			t.aborted = err
		}
		t.noteAsIs(err, ends || d.ErrorsAbort && t.outer == nil)
	}
	if lost && len(t.open) == 0 && !c.answers() {
		c.broken, c.dead = true, true // a COMMIT on it would be taken for one whose answer is lost
	}
}

// suspect looks into a refusal that a function has returned and that was not seen here: it can have come with a row that a
// QueryRowx has yielded, or from elsewhere, such as another database. In the first case the transaction is gone, or
// aborted. It is not looked into if a statement of the function's can have committed it.
func (t *Tx) suspect(ctx context.Context, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.conn
	d := c.pool.dialect
	known := slices.ContainsFunc(t.noted, func(noted error) bool { return wraps(err, noted) })
	if !t.unheard || t.strange || known || t.over != nil || c.broken || !t.refuses(err) {
		return
	}
	t.closeRows(ctx)
	gone := false
	if d.ErrorsAbort {
		probe := c.upkeep(ctx, d.Probe)
		gone = probe != nil && d.FromServer(probe) && !d.Outside(probe)
	} else {
		t.look(ctx, nil)
		gone = t.over != nil
	}
	if gone {
		t.noteAsIs(err, t.outer == nil || t.over != nil)
	}
}

// refusal marks the error that the whole transaction ended with if it is one of those that were noted, or the consequence
// of one: then whatever the function made of it cannot be its last word. Errors from elsewhere, such as another
// database's, are none, whatever their codes. What is unknown somewhere must not be done again.
func (t *Tx) refusal(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	d := t.conn.pool.dialect
	switch {
	case err == nil || errors.Is(err, ErrCommitUnknown):
		return err
	case t.doom != nil:
		if !wraps(err, t.doom) {
			err = fmt.Errorf("%w (because of: %w)", err, t.doom)
		}
		return &Refused{err, dialect.Conflict}
	}
	if t.failed != nil && !wraps(err, t.failed) {
		err = fmt.Errorf("%w (because of: %w)", err, t.failed)
	}
	var busy error
	for _, noted := range t.noted {
		if !wraps(err, noted) {
			continue
		}
		if d.Classify(noted) != dialect.Busy {
			return &Refused{err, dialect.Conflict} // a compared version has no code
		}
		busy = &Refused{err, dialect.Busy}
	}
	if busy != nil {
		return busy
	}
	return err
}

// wraps tells whether an error is in another one. Unlike errors.Is it does not ask them: a driver's errors can say that they
// are the same as any of their number.
func wraps(err, target error) bool {
	if err == nil {
		return false
	}
	if reflect.ValueOf(err).Comparable() && err == target {
		return true
	}
	switch err := err.(type) {
	case interface{ Unwrap() error }:
		return wraps(err.Unwrap(), target)
	case interface{ Unwrap() []error }:
		return slices.ContainsFunc(err.Unwrap(), func(err error) bool { return wraps(err, target) })
	}
	return false
}
