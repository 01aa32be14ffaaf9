package main

import (
	"context"
	"errors"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
)

// table is made when the program starts and dropped when it ends, so it has a name that no service uses.
const table = "raceproof_transfer"

// An Account is a row of it.
type Account struct {
	ID      int64 `db:"id"`
	Balance int64 `db:"balance"`
	Version int64 `db:"version"`
}

var accounts = raceproof.MustTable[Account](table)

// A transfer is what somebody has asked for.
type transfer struct{ from, to, amount int64 }

var errTooLittle = errors.New("there is too little in the account")

// pay makes the transfer between the two rows. It can rely on what it reads, because both are locked when it is called.
func (t transfer) pay(from, to *Account) error {
	if from.Balance < t.amount {
		return errTooLittle // and neither row is changed
	}
	from.Balance -= t.amount
	to.Balance += t.amount
	return nil
}

// A way makes a transfer, and tells how many attempts that took: how often its function was called.
type way func(ctx context.Context, accounts *lock.Updater[Account], t transfer) (attempts int64, err error)

var ways = []struct {
	name string
	way  way
}{{"UpdateMany", together}, {"nested", nested}}

// together is how to do it. UpdateMany locks the two rows in one order, whichever of them pays, so that one transfer never
// has a row that another waits for while it waits for that one's row itself. The function gets the rows in the order of
// the keys as they are given here.
func together(ctx context.Context, accounts *lock.Updater[Account], t transfer) (attempts int64, err error) {
	_, err = accounts.UpdateMany(ctx, []any{t.from, t.to}, func(_ context.Context, rows []*Account) error {
		attempts++
		return t.pay(rows[0], rows[1])
	})
	return attempts, err
}

// nested locks who pays, and then who is paid. It is right, but two transfers between the same accounts, one each way, can
// each have the row that the other needs: a deadlock. The database refuses one of them, which is then made again from its
// start, so the money is safe; what it costs is time, on PostgreSQL a second until the deadlock is found. SQLite has one
// lock for all rows, and so no deadlocks.
func nested(ctx context.Context, accounts *lock.Updater[Account], t transfer) (attempts int64, err error) {
	_, err = accounts.Update(ctx, t.from, func(ctx context.Context, from *Account) error {
		attempts++
		_, err := accounts.Update(ctx, t.to, func(_ context.Context, to *Account) error { // by this ctx in the same transaction
			return t.pay(from, to)
		})
		return err
	})
	return attempts, err
}
