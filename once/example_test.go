package once_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/once"
)

type account struct {
	ID      int64 `db:"id"`
	Balance int64 `db:"balance"`
}

// bank is a database in a folder that is removed at the end.
func bank() (db *raceproof.DB, end func()) {
	folder, _ := os.MkdirTemp("", "once")
	pool := sqlx.MustConnect("sqlite3", "file:"+filepath.Join(folder, "bank.db")+"?_journal_mode=WAL")
	pool.MustExec(`CREATE TABLE accounts (id INTEGER PRIMARY KEY, balance INTEGER NOT NULL); INSERT INTO accounts VALUES (1, 100)`)
	db, _ = raceproof.New(pool)
	_ = once.CreateTable(context.Background(), db)
	return db, func() {
		db.Close()
		_ = pool.Close()
		_ = os.RemoveAll(folder)
	}
}

// A client sends its order a second time, because it has heard nothing of the first.
func ExampleDo() {
	db, end := bank()
	defer end()
	accounts := atomic.New(db, raceproof.MustTable[account]("accounts"), nil)
	type order struct{ Price int64 }
	type receipt struct{ Left int64 }
	charge := func(ctx context.Context, key string, o order) (receipt, error) {
		return once.Do(ctx, db, "order/"+key, func(ctx context.Context) (receipt, error) {
			balance := atomic.F("balance")
			a, err := accounts.Update(ctx, 1, atomic.Set("balance", balance.Sub(o.Price)).If(balance.Ge(o.Price)))
			return receipt{a.Balance}, err
		}, once.Payload(o))
	}
	for range 2 {
		fmt.Println(charge(context.Background(), "4711", order{30}))
	}
	_, err := charge(context.Background(), "4711", order{20})
	fmt.Println(err)
	// Output:
	// {70} <nil>
	// {70} <nil>
	// once: key "order/4711": once: the key was used for something else
}

func ExampleWrap() {
	db, end := bank()
	defer end()
	deposit := once.Wrap(raceproof.Bind(atomic.New(db, raceproof.MustTable[account]("accounts"), nil), func(amount int64) atomic.Change {
		return atomic.Set("balance", atomic.F("balance").Add(amount))
	}))
	ctx := once.WithKey(context.Background(), "deposit/4712")
	for range 2 {
		fmt.Println(deposit.Update(ctx, 1, 50))
	}
	// Output:
	// {1 150} <nil>
	// {1 150} <nil>
}
