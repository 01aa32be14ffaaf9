// Package once does work exactly once, however often it is asked for, and also if the answer to its COMMIT is lost. It is
// the server's side of a button that is clicked twice, and of a client that tries again because it heard nothing.
//
// The caller's key for the work is inserted into a table in the same transaction as the work itself, and what the work
// returned is stored with it. Whoever comes with the same key gets that, instead of doing the work again; who comes while
// it is done waits. The table has a unique index on the key, and that is what decides: also in the case of a COMMIT whose
// answer was lost. A SELECT could say "no such key" while that COMMIT is still on its way; an INSERT of the same key waits
// for it, and then either the key is there, or it never will be by that COMMIT.
//
// [Do] is for work of any kind, [Wrap] for updaters. The table is made by [CreateTable], or by your own migrations from
// [Schema], and keys that nobody will ask for again are taken out of it by [Expire].
//
// On a Galera cluster COMMIT on one node refuses a key that another node has committed, and the work is then done again,
// which finds the key. See raceproof.WithoutPreparing for what else such a cluster needs.
package once

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/session"
)

// The outcomes that a caller may want to tell apart with errors.Is, besides those of package raceproof.
var (
	// ErrKeyReused: the key was used before, for work with another payload. Nothing was done.
	ErrKeyReused = errors.New("once: the key was used for something else")

	// ErrKey: the key is empty, or longer than 255 bytes. Nothing was done.
	ErrKey = errors.New("once: the key must have 1 to 255 bytes")
)

// MaxKey is how many bytes a key may have.
const MaxKey = 255

// An Option tells Do more about the work.
type Option func(*options)

type options struct {
	payload  any
	payloads bool
	doubt    *row.Doubt
}

// Payload is what the key stands for, such as the body of a request. Its JSON is hashed and stored with the key, and a
// later call with the same key and another payload is refused with ErrKeyReused, instead of being given the result of work
// that it did not ask for. No payload is a payload of its own. A []byte is compared byte by byte; what JSON does not see, such
// as fields that are not exported or the spaces in a json.RawMessage, is not compared.
func Payload(payload any) Option {
	return func(o *options) { o.payload, o.payloads = payload, true }
}

// Do calls f in a transaction of db in which the key is inserted first, stores what f returns, and commits; or, if the key
// is there, returns what was stored with it, and does not call f. Keys are compared byte for byte, and belong to the whole
// database (or schema): put the kind of work, and who the client is, in front of a key that a client has chosen, or one could
// be given another's result; and see for yourself that the client's own part is not empty.
//
// The result is stored as JSON, and what comes back from that is what Do returns, to the first caller as to all others: so
// R should be made for JSON. Of calls at the same time with one key one calls f; the others wait, and get its result, or,
// if it fails, another one of them calls f; who waits has a connection meanwhile. An error of f takes back everything, the key
// too, and is not stored. What all are to be told about a failure that is final belongs into R; as that is no error, whatever
// f has done before it is committed, so let f refuse first, or do the rest in a nested Transact.
//
// f is called again if the database refuses the transaction, as [raceproof.DB.Transact] does. If the answer to COMMIT is
// lost, Do inserts the key again, on another connection, as long as the context lasts: then either the result is there, or f
// is called again, in place of the one that was lost. In no case does the work of more than one call of f stay. Functions
// given to DB.AfterCommit are dropped with the COMMIT whose answer was lost, and when the result is found: Do can return no
// error, and they were not called. What must be sent belongs into a table, in the same transaction.
//
// Called inside a transaction of db, Do is part of it: key, work and result are committed or rolled back with the rest,
// also if that fails later for other reasons. Then it is the outermost Transact whose answer can be lost, and calling that
// again, with the same key, is what resolves it.
//
// The errors are f's own, as it is; those of raceproof.DB.Transact; ErrKey and ErrKeyReused; that of the encoding of the
// payload or of R; a stored result that is none for R. If the other caller with the key was not through in time, it is the
// context's error, and raceproof.ErrLocked where the server has said so (MariaDB does not before whole seconds are over). An
// error means that nothing of the work was done by this call, though earlier ones with the key may have done it, unless it
// wraps raceproof.ErrCommitUnknown, which then comes with the reason why that could not be resolved, most often the
// context's end: call Do again with the same key and it will be. As always, a statement of f's that commits what was done
// before it (on MariaDB and MySQL whatever changes a table's definition does) leaves f's work half done, and here the key
// without a result.
func Do[R any](ctx context.Context, db *raceproof.DB, key string, f func(context.Context) (R, error), opts ...Option) (result R, err error) {
	var o options
	for _, option := range opts {
		option(&o)
	}
	if f == nil {
		return result, errors.New("once: the function is nil")
	}
	var none R
	w := &work{db: db, key: key}
	w.f = func(ctx context.Context) ([]byte, error) {
		r, err := f(ctx)
		if err != nil {
			return nil, err
		}
		var stored []byte
		if stored, result, err = encode(r); err != nil {
			return nil, fmt.Errorf("once: key %q: the result cannot be stored: %w", key, err)
		}
		return stored, nil
	}
	w.found = func(stored []byte) error {
		result = none
		if err := json.Unmarshal(stored, &result); err != nil {
			return fmt.Errorf("what is stored is no %T: %w", none, err)
		}
		return nil
	}
	if err = w.check(o); err == nil {
		err = w.do(ctx)
	}
	if err != nil {
		return none, err
	}
	return result, nil
}

// encode returns the JSON that a result is stored as, and what will be read from it.
func encode[R any](r R) (stored []byte, back R, err error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false) // which would change what is JSON already
	if err = encoder.Encode(r); err == nil {
		stored = bytes.TrimSuffix(text.Bytes(), []byte("\n"))
		err = json.Unmarshal(stored, &back)
	}
	return stored, back, err
}

// work is one call of Do.
type work struct {
	db          *raceproof.DB
	key         string
	fingerprint []byte
	f           func(context.Context) (stored []byte, err error)
	found       func(stored []byte) error

	attempts int
	pending  *row.Doubt // ErrCommitUnknown of an attempt of which it is not known yet what has become of it
	failed   bool       // the last attempt's error is f's
	answer   *answer    // what was found with the key, which nothing that happens later makes untrue
}

// An answer is what a call comes to whose key was there.
type answer struct{ err error }

func (w *work) check(o options) error {
	if w.db == nil {
		return errors.New("once: the DB is nil")
	}
	if len(w.key) == 0 || len(w.key) > MaxKey {
		return fmt.Errorf("%w: it has %d", ErrKey, len(w.key))
	}
	if w.pending = o.doubt; w.pending == nil {
		w.pending = &row.Doubt{}
	}
	w.fingerprint = []byte{}
	if o.payloads {
		payload, err := json.Marshal(o.payload)
		if err != nil {
			return fmt.Errorf("once: the payload: %w", err)
		}
		sum := sha256.Sum256(payload)
		w.fingerprint = sum[:]
	}
	return nil
}

// do makes attempts until it is known what the last has come to.
func (w *work) do(ctx context.Context) error {
	if w.db.Pool().InTransaction(ctx) {
		return w.attempt(ctx)
	}
	return w.db.Pool().Attempts(session.DefaultPolicy).Do(ctx, func() (session.Verdict, error) {
		err := w.attempt(ctx)
		switch {
		case w.answer != nil:
			return session.Final, w.answer.err
		case err == nil || w.failed:
			return session.Final, err
		case errors.Is(err, raceproof.ErrCommitUnknown):
			w.pending.Err = err
			return session.Again, err
		case w.pending.Err == nil:
			return session.Final, err
		}
		// The database cannot be asked, because it is being started again for example.
		err = fmt.Errorf("%w; and then: %w", w.pending.Err, err)
		if errors.Is(err, raceproof.ErrClosed) || w.db.Pool().Closed() || ctx.Done() == nil && w.attempts >= resolveAtMost {
			return session.Final, w.giveUp(0, err, nil)
		}
		return session.Wait, err
	}, w.giveUp)
}

// resolveAtMost bounds the attempts to ask a database if the context does not.
const resolveAtMost = 64

func (w *work) giveUp(_ int, last, ended error) error {
	return fmt.Errorf("once: key %q: %w", w.key, &raceproof.RetryError{Attempts: w.attempts, Last: last, Ended: ended})
}

// attempt is one transaction, or part of the caller's.
func (w *work) attempt(ctx context.Context) error {
	w.attempts++
	w.failed = false
	return w.db.Transact(ctx, func(ctx context.Context) error {
		if w.failed = false; w.answer != nil {
			return w.answer.err // of the attempt before
		}
		tx := w.db.Pool().Current(ctx)
		inserted, err := w.insert(ctx, tx)
		if err != nil {
			return err
		}
		if !inserted {
			return nil
		}
		stored, err := w.f(ctx)
		if err != nil {
			w.failed = true
			return err
		}
		return w.store(ctx, tx, stored)
	})
}

// about says which key an error is about.
func (w *work) about(err error) error { return fmt.Errorf("once: key %q: %w", w.key, err) }

// errHalf: nobody else can see a key without a result.
var errHalf = errors.New("it is the key of the work that this is part of, or of work that has committed before its end by a " +
	"statement that changes a table's definition, in which case only Expire will remove it")

// expiredAtMost bounds how often a key can be there when it is inserted and gone when it is read.
const expiredAtMost = 16

// insert inserts the key, or finds the answer that is stored with it. If it inserts it, no COMMIT that was on its way can come
// any more.
func (w *work) insert(ctx context.Context, tx *session.Tx) (inserted bool, err error) {
	d := tx.Dialect()
	insertion := d.NewSQL().Add("INSERT INTO raceproof_once (id, fingerprint, created) VALUES (").
		Value([]byte(w.key)).Add(", ").Value(w.fingerprint).Add(", ").Add(d.Now).Add(")").Add(d.OrNothing).Statement()
	insertion.Locks = true
	selection := d.NewSQL().Add("SELECT fingerprint, result FROM raceproof_once WHERE id = ").Value([]byte(w.key)).Add(d.Latest).Statement()
	selection.Read, selection.Locks = true, d.Latest != ""
	for range expiredAtMost {
		n, err := tx.Change(ctx, insertion)
		switch {
		case err == nil && n == 1:
			w.pending.Err = nil
			return true, nil
		case err != nil && !d.IsDuplicate(err):
			return false, w.about(err)
		}
		var fingerprint, stored []byte
		found, err := tx.One(ctx, selection, &fingerprint, &stored)
		if err != nil {
			return false, w.about(err)
		}
		switch {
		case !found:
			continue // Expire was faster
		case stored == nil:
			return false, w.about(errHalf)
		case !bytes.Equal(fingerprint, w.fingerprint):
			w.pending.Err, err = nil, ErrKeyReused
		default:
			err = w.found(stored)
		}
		if err != nil {
			err = w.about(err)
		}
		w.answer = &answer{err}
		return false, err
	}
	return false, w.about(errors.New("it is there and gone again and again"))
}

func (w *work) store(ctx context.Context, tx *session.Tx, result []byte) error {
	n, err := tx.Change(ctx, tx.Dialect().NewSQL().Add("UPDATE raceproof_once SET result = ").Value(result).
		Add(" WHERE id = ").Value([]byte(w.key)).Statement())
	if err == nil && n != 1 {
		err = errors.New("the key is gone")
	}
	if err != nil {
		return w.about(fmt.Errorf("store the result: %w", err))
	}
	return nil
}
