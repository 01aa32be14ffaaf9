package lock_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
)

type account struct {
	ID      int64 `db:"id"`
	Balance int64 `db:"balance"`
}

// What the function does through its context is part of the update: here money is moved, or it is not.
func ExampleUpdater_Update() {
	folder, _ := os.MkdirTemp("", "lock")
	defer os.RemoveAll(folder)
	pool := sqlx.MustConnect("sqlite3", "file:"+filepath.Join(folder, "bank.db")+"?_journal_mode=WAL")
	defer pool.Close()
	pool.MustExec(`CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL);
		INSERT INTO accounts VALUES (1, 100), (2, 0)`)
	db, _ := raceproof.New(pool)
	accounts := lock.New(db, raceproof.MustTable[account]("accounts"), nil)

	errTooLittle := errors.New("there is too little in the account")
	move := func(amount int64) error {
		_, err := accounts.Update(context.Background(), 2, func(ctx context.Context, to *account) error {
			to.Balance += amount
			_, err := accounts.Update(ctx, 1, func(_ context.Context, from *account) error {
				if from.Balance < amount {
					return errTooLittle
				}
				from.Balance -= amount
				return nil
			})
			return err
		})
		return err
	}
	fmt.Println(move(70))
	fmt.Println(move(70))
	var all []account
	_ = pool.Select(&all, `SELECT * FROM accounts`)
	fmt.Println(all)
	// Output:
	// <nil>
	// there is too little in the account
	// [{1 30} {2 70}]
}
