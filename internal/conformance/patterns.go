package conformance

import (
	"context"
	"errors"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/serial"
)

// Patterns are the patterns of this module.
func Patterns() []Pattern {
	first := &lock.Options{UpdateFirst: true}
	writesFirst := ofFunc("lock, update first",
		func(db *raceproof.DB) raceproof.Updater[Account, raceproof.Func[Account]] {
			return lock.New(db, Accounts, first)
		},
		func(db *raceproof.DB) raceproof.Updater[Seat, raceproof.Func[Seat]] {
			return lock.New(db, Seats, first)
		},
		nil)
	writesFirst.Raises = true
	patient := &optimistic.Options{Retry: raceproof.RetryPolicy{MaxAttempts: 10000, Budget: 1000}}
	return []Pattern{
		ofFunc("lock",
			func(db *raceproof.DB) raceproof.Updater[Account, raceproof.Func[Account]] {
				return lock.New(db, Accounts, nil)
			},
			func(db *raceproof.DB) raceproof.Updater[Seat, raceproof.Func[Seat]] { return lock.New(db, Seats, nil) },
			nil),
		writesFirst,
		ofFunc("optimistic",
			func(db *raceproof.DB) raceproof.Updater[Account, raceproof.Func[Account]] {
				return optimistic.New(db, Accounts, patient)
			},
			func(db *raceproof.DB) raceproof.Updater[Seat, raceproof.Func[Seat]] {
				return optimistic.New(db, Seats, patient)
			},
			func(db *raceproof.DB) raceproof.Updater[Account, raceproof.Func[Account]] {
				return optimistic.New(db, Accounts, &optimistic.Options{Retry: raceproof.RetryPolicy{MaxAttempts: 1}})
			}),
		inSQL,
		served("serial lock",
			func(db *raceproof.DB) raceproof.Updater[Account, raceproof.Func[Account]] {
				return lock.New(db, Accounts, nil)
			},
			func(db *raceproof.DB) raceproof.Updater[Seat, raceproof.Func[Seat]] { return lock.New(db, Seats, nil) },
			nil),
		served("serial optimistic",
			func(db *raceproof.DB) raceproof.Updater[Account, raceproof.Func[Account]] {
				return optimistic.New(db, Accounts, patient)
			},
			func(db *raceproof.DB) raceproof.Updater[Seat, raceproof.Func[Seat]] {
				return optimistic.New(db, Seats, patient)
			},
			func(db *raceproof.DB) raceproof.Updater[Account, raceproof.Func[Account]] {
				return optimistic.New(db, Accounts, &optimistic.Options{Retry: raceproof.RetryPolicy{MaxAttempts: 1}})
			}),
		ofChange("serial atomic",
			func(db *raceproof.DB) raceproof.Updater[Account, atomic.Change] {
				return serial.Wrap(atomic.New(db, Accounts, nil))
			},
			func(db *raceproof.DB) raceproof.Updater[Seat, atomic.Change] {
				return serial.Wrap(atomic.New(db, Seats, nil))
			}),
	}
}

// served binds updaters that take Go functions, and serve their callers in groups.
func served(name string, accounts accountFuncs, seats seatFuncs, once accountFuncs) Pattern {
	wrapped := func(u accountFuncs) accountFuncs {
		if u == nil {
			return nil
		}
		return func(db *raceproof.DB) raceproof.Updater[Account, raceproof.Func[Account]] { return serial.Wrap(u(db)) }
	}
	return ofFunc(name, wrapped(accounts),
		func(db *raceproof.DB) raceproof.Updater[Seat, raceproof.Func[Seat]] { return serial.Wrap(seats(db)) },
		wrapped(once))
}

type (
	accountFuncs = func(*raceproof.DB) raceproof.Updater[Account, raceproof.Func[Account]]
	seatFuncs    = func(*raceproof.DB) raceproof.Updater[Seat, raceproof.Func[Seat]]
)

var errOverdrawn = errors.New("the balance would be negative")

// ofFunc binds updaters that take Go functions.
func ofFunc(name string, accounts accountFuncs, seats seatFuncs, once accountFuncs) Pattern {
	return Pattern{
		Name: name,
		Add: func(db *raceproof.DB) raceproof.Updater[Account, int64] {
			return raceproof.Bind(accounts(db), func(n int64) raceproof.Func[Account] {
				return func(_ context.Context, a *Account) error { a.Balance += n; return nil }
			})
		},
		Withdraw: func(db *raceproof.DB) raceproof.Updater[Account, int64] {
			return raceproof.Bind(accounts(db), func(n int64) raceproof.Func[Account] {
				return func(_ context.Context, a *Account) error {
					if a.Balance < n {
						return errOverdrawn
					}
					a.Balance -= n
					return nil
				}
			})
		},
		Refused: errOverdrawn,
		Book: func(db *raceproof.DB) raceproof.Updater[Seat, *string] {
			return raceproof.Bind(seats(db), func(passenger *string) raceproof.Func[Seat] {
				return func(_ context.Context, s *Seat) error { s.Passenger = passenger; return nil }
			})
		},
		Func: accounts,
		Once: once,
	}
}

var inSQL = ofChange("atomic",
	func(db *raceproof.DB) raceproof.Updater[Account, atomic.Change] { return atomic.New(db, Accounts, nil) },
	func(db *raceproof.DB) raceproof.Updater[Seat, atomic.Change] { return atomic.New(db, Seats, nil) })

// ofChange binds updaters that take expressions.
func ofChange(name string, accounts func(*raceproof.DB) raceproof.Updater[Account, atomic.Change],
	seats func(*raceproof.DB) raceproof.Updater[Seat, atomic.Change]) Pattern {
	return Pattern{
		Name: name,
		Add: func(db *raceproof.DB) raceproof.Updater[Account, int64] {
			return raceproof.Bind(accounts(db), func(n int64) atomic.Change {
				return atomic.Set("balance", atomic.F("balance").Add(n))
			})
		},
		Withdraw: func(db *raceproof.DB) raceproof.Updater[Account, int64] {
			return raceproof.Bind(accounts(db), func(n int64) atomic.Change {
				return atomic.Set("balance", atomic.F("balance").Sub(n)).If(atomic.F("balance").Ge(n))
			})
		},
		Refused: raceproof.ErrConditionFailed,
		Book: func(db *raceproof.DB) raceproof.Updater[Seat, *string] {
			return raceproof.Bind(seats(db), func(passenger *string) atomic.Change {
				return atomic.Set("passenger", passenger)
			})
		},
	}
}
