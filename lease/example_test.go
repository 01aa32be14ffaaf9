package lease_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lease"
)

// shop is a database in a folder that is removed at the end.
func shop() (pool *sqlx.DB, db *raceproof.DB, end func()) {
	folder, _ := os.MkdirTemp("", "lease")
	pool = sqlx.MustConnect("sqlite3", "file:"+filepath.Join(folder, "shop.db")+"?_journal_mode=WAL")
	pool.MustExec(`CREATE TABLE invoices (id INTEGER PRIMARY KEY, sent INTEGER NOT NULL); INSERT INTO invoices VALUES (1, 0), (2, 0)`)
	db, _ = raceproof.New(pool)
	_ = lease.CreateTable(context.Background(), db)
	return pool, db, func() {
		db.Close()
		_ = pool.Close()
		_ = os.RemoveAll(folder)
	}
}

// One process sends the invoices. If it is stopped for so long that another one does, it commits nothing any more.
func ExampleAcquire() {
	pool, db, end := shop()
	defer end()
	l, err := lease.Acquire(context.Background(), db, "send invoices", &lease.Options{Holder: "ada"})
	if err != nil {
		panic(err)
	}
	var ids []int64
	_ = pool.Select(&ids, `SELECT id FROM invoices WHERE sent = 0`)
	for _, id := range ids {
		err := db.Transact(l.Context(), func(ctx context.Context) error {
			if _, err := db.Ext(ctx).ExecContext(ctx, `UPDATE invoices SET sent = 1 WHERE id = ?`, id); err != nil {
				return err
			}
			return l.Fence(ctx) // last, so that it is held for a short time
		})
		fmt.Println("invoice", id, err)
	}

	_, err = lease.TryAcquire(context.Background(), db, "send invoices", nil)
	var held *lease.HeldError
	fmt.Println(errors.As(err, &held), held.Holder, errors.Is(err, raceproof.ErrLocked))
	fmt.Println(l.Release(context.Background()))
	fmt.Println(context.Cause(l.Context()))
	// Output:
	// invoice 1 <nil>
	// invoice 2 <nil>
	// true ada true
	// <nil>
	// lease: it was released
}

// At most two processes at once make reports, however many there are.
func ExampleSemaphore() {
	_, db, end := shop()
	defer end()
	reports, err := lease.NewSemaphore(db, "reports", 2, &lease.Options{Holder: "ada"})
	if err != nil {
		panic(err)
	}
	for range 3 {
		l, err := reports.TryAcquire(context.Background())
		if errors.Is(err, raceproof.ErrLocked) {
			fmt.Println("two are made already")
			continue
		}
		defer l.Release(context.Background())
		fmt.Println("holder", l.Token())
	}
	// Output:
	// holder 1
	// holder 2
	// two are made already
}
