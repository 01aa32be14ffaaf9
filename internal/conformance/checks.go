package conformance

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"

	"github.com/raceproof/raceproof"
)

// A check is one promise of the contract.
type check struct {
	name    string
	applies func(Pattern) bool
	run     func(context.Context, *subject) error

	// joins: the naive updater that must fail it takes part in transactions, but has no savepoints.
	joins bool
}

func always(Pattern) bool          { return true }
func withFunc(p Pattern) bool      { return p.Func != nil }
func withConflicts(p Pattern) bool { return p.Once != nil }
func funcInLock(p Pattern) bool    { return p.Func != nil && p.Once == nil }

var checks = []check{
	{name: "no update is lost", applies: always, run: noneLost},
	{name: "every caller gets a result of its own", applies: always, run: distinctResults},
	{name: "the result is the row after the change", applies: always, run: resultIsRow},
	{name: "other columns survive", applies: always, run: otherColumnsSurvive},
	{name: "a missing row is not found", applies: always, run: notFound},
	{name: "a failed guard is told apart", applies: always, run: guardFailed},
	{name: "a conflict is told apart", applies: withConflicts, run: conflictTold},
	{name: "bad keys are refused", applies: always, run: badKeys},
	{name: "keys of several columns, NULL and columns left out", applies: always, run: compositeKeys},
	{name: "an ended context changes nothing", applies: always, run: endedContext},
	{name: "a context that ends while it waits", applies: always, run: endedWhileWaiting},
	{name: "a context that ends in the function", applies: withFunc, run: endedInFunction},
	{name: "a failing function changes nothing", applies: withFunc, run: failingFunction},
	{name: "a panic changes nothing and goes on", applies: withFunc, run: panicking},
	{name: "Goexit changes nothing and releases", applies: withFunc, run: exiting},
	{name: "no change, no statement", applies: withFunc, run: noChange},
	{name: "the key and the version are not the function's", applies: withFunc, run: keptColumns},
	{name: "a nil function is refused", applies: withFunc, run: nilFunction},
	{name: "statements in the function are part of the update", applies: funcInLock, run: functionInTransaction},
	{name: "an update is part of the context's transaction", applies: always, run: joinsTransaction},
	{name: "a failed update leaves the rest of the transaction", applies: always, run: savepoint},
	{name: "a failed update takes back what its function did", applies: funcInLock, run: functionInSavepoint, joins: true},
}

// The size of the load: enough for an unprotected updater to lose, not so much that a test is slow.
const (
	workers = 8
	updates = 40
)

// load has all workers add 1 to account 1, and returns what they were told.
func load(ctx context.Context, u raceproof.Updater[Account, int64]) ([]Account, error) {
	var wg sync.WaitGroup
	results := make([][]Account, workers)
	errs := make([]error, workers)
	for w := range workers {
		wg.Go(func() {
			for range updates {
				a, err := u.Update(ctx, 1, 1)
				if err != nil {
					errs[w] = err
					return
				}
				results[w] = append(results[w], a)
			}
		})
	}
	wg.Wait()
	var all []Account
	for _, r := range results {
		all = append(all, r...)
	}
	return all, errors.Join(errs...)
}

func noneLost(ctx context.Context, s *subject) error {
	if _, err := load(ctx, s.Add(s.db)); err != nil {
		return err
	}
	return s.is(Account{ID: 1, Balance: workers * updates, Version: workers * updates})
}

func distinctResults(ctx context.Context, s *subject) error {
	results, err := load(ctx, s.Add(s.db))
	if err != nil {
		return err
	}
	seen := map[int64]bool{}
	for _, a := range results {
		if seen[a.Balance] {
			return fmt.Errorf("two callers were told that the balance is %d", a.Balance)
		}
		seen[a.Balance] = true
	}
	return nil
}

func resultIsRow(ctx context.Context, s *subject) error {
	a, err := s.Add(s.db).Update(ctx, int64(1), 5)
	if err != nil {
		return err
	}
	if want := (Account{ID: 1, Balance: 5, Version: 1}); a != want {
		return fmt.Errorf("the result is %+v, want %+v", a, want)
	}
	return s.is(a)
}

// otherColumnsSurvive has somebody else, who knows no versions, change another column all the time.
func otherColumnsSurvive(ctx context.Context, s *subject) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	written := make(chan error, 1)
	go func() { written <- s.writeNotes(ctx, stop) }()
	_, err := load(ctx, s.Add(s.db))
	close(stop)
	return errors.Join(err, <-written)
}

// writeNotes writes one note after the other, until it is stopped. It is the only writer of notes, so it must find
// each as it wrote it. Where the database refuses a note, because of the updates that it meets, it writes the next one.
func (s *subject) writeNotes(ctx context.Context, stop <-chan struct{}) error {
	written := 0
	for i := 0; ; i++ {
		select {
		case <-stop:
			if written > 0 {
				return nil
			}
		default:
		}
		note, got := fmt.Sprint("note ", i), ""
		_, err := s.pool.ExecContext(ctx, s.pool.Rebind(`UPDATE accounts SET note = ? WHERE id = 1`), note)
		if err != nil && ctx.Err() == nil {
			continue
		}
		if err != nil {
			return err
		}
		written++
		if err := s.pool.GetContext(ctx, &got, `SELECT note FROM accounts WHERE id = 1`); err != nil {
			return err
		}
		if got != note {
			return fmt.Errorf("the note is %q, its only writer wrote %q", got, note)
		}
	}
}

// only returns an error unless err is want, and none of the other outcomes.
func only(err, want error) error {
	if !errors.Is(err, want) {
		return fmt.Errorf("the error is %v, want one that is %q", err, want)
	}
	for _, other := range []error{raceproof.ErrNotFound, raceproof.ErrConflict, raceproof.ErrConditionFailed,
		raceproof.ErrLocked, raceproof.ErrOutOfRange, raceproof.ErrFinished} {
		if other != want && errors.Is(err, other) {
			return fmt.Errorf("the error is %v, which is %q, and also %q", err, want, other)
		}
	}
	return nil
}

func notFound(ctx context.Context, s *subject) error {
	a, err := s.Add(s.db).Update(ctx, 99, 1)
	if a != (Account{}) {
		return fmt.Errorf("with the error came the row %+v", a)
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("the error is %v, want one that is sql.ErrNoRows", err)
	}
	return only(err, raceproof.ErrNotFound)
}

func guardFailed(ctx context.Context, s *subject) error {
	if _, err := s.Add(s.db).Update(ctx, 1, 10); err != nil {
		return err
	}
	u := s.Withdraw(s.db)
	if _, err := u.Update(ctx, 1, 11); only(err, s.Refused) != nil {
		return only(err, s.Refused)
	}
	if _, err := u.Update(ctx, 99, 1); only(err, raceproof.ErrNotFound) != nil {
		return only(err, raceproof.ErrNotFound)
	}
	if err := s.is(Account{ID: 1, Balance: 10, Version: 1}); err != nil {
		return err
	}
	if _, err := u.Update(ctx, 1, 10); err != nil {
		return err
	}
	return s.is(Account{ID: 1, Balance: 0, Version: 2})
}

// conflictTold has somebody else change the row between the read and the write.
func conflictTold(ctx context.Context, s *subject) error {
	_, err := s.Once(s.db).Update(ctx, 1, func(ctx context.Context, a *Account) error {
		_, err := s.pool.ExecContext(ctx, `UPDATE accounts SET balance = balance + 100, version = version + 1 WHERE id = 1`)
		a.Balance++
		return err
	})
	if err := only(err, raceproof.ErrConflict); err != nil {
		return err
	}
	var given *raceproof.RetryError
	if !errors.As(err, &given) || given.Attempts != 1 || !errors.Is(given.Last, raceproof.ErrConflict) {
		return fmt.Errorf("the error does not tell that there was 1 attempt, and its cause: %#v", given)
	}
	return s.is(Account{ID: 1, Balance: 100, Version: 1})
}

func badKeys(ctx context.Context, s *subject) error {
	u := s.Add(s.db)
	var null *int64
	for _, key := range []any{nil, null, sql.NullInt64{}, raceproof.Key{}, raceproof.Key{1, 2}, raceproof.Key{nil},
		"1", []int{1}, struct{}{}, uint64(1 << 63)} {
		if a, err := u.Update(ctx, key, 1); err == nil || errors.Is(err, raceproof.ErrNotFound) {
			return fmt.Errorf("key %#v: the result is %+v and the error %v, want one that says what is wrong", key, a, err)
		}
	}
	if _, err := u.Update(ctx, raceproof.Key{1}, 1); err != nil {
		return fmt.Errorf("a Key of one value: %w", err)
	}
	return s.is(Account{ID: 1, Balance: 1, Version: 1})
}

func compositeKeys(ctx context.Context, s *subject) error {
	u := s.Book(s.db)
	name := "Ada"
	for _, passenger := range []*string{&name, nil, &name} {
		seat, err := u.Update(ctx, raceproof.Key{"LH400", "12A"}, passenger)
		if err != nil {
			return err
		}
		if seat.Place != (Place{"LH400", "12A"}) || (seat.Passenger == nil) != (passenger == nil) ||
			passenger != nil && *seat.Passenger != name {
			return fmt.Errorf("the result is %+v", seat)
		}
	}
	if _, err := u.Update(ctx, raceproof.Key{"LH400"}, nil); err == nil || errors.Is(err, raceproof.ErrNotFound) {
		return fmt.Errorf("half a key: the error is %v", err)
	}
	var rest []string
	err := s.pool.SelectContext(ctx, &rest, `SELECT remark FROM seats
		WHERE passenger IS NULL AND version = 0 OR flight = 'LH400' AND seat_number = '12A' AND passenger = 'Ada' AND version = 3
		ORDER BY flight, seat_number`)
	if err == nil && fmt.Sprint(rest) != "[window aisle window]" {
		err = fmt.Errorf("the columns that are not mapped, of the rows that are as they should be: %v", rest)
	}
	return err
}
