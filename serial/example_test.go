package serial_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/serial"
)

type event struct {
	ID      int64 `db:"id"`
	Tickets int64 `db:"tickets"`
	Version int64 `db:"version"`
}

// A thousand people want one of the last hundred tickets at once.
func ExampleWrap() {
	folder, _ := os.MkdirTemp("", "serial")
	defer func() { _ = os.RemoveAll(folder) }()
	pool := sqlx.MustConnect("sqlite3", "file:"+filepath.Join(folder, "tickets.db")+"?_journal_mode=WAL")
	defer func() { _ = pool.Close() }()
	pool.MustExec(`CREATE TABLE events (id INTEGER PRIMARY KEY, tickets INTEGER NOT NULL, version INTEGER NOT NULL);
		INSERT INTO events VALUES (7, 100, 1)`)
	db, _ := raceproof.New(pool)
	defer db.Close()

	events := serial.Wrap(lock.New(db, raceproof.MustTable[event]("events"), nil))
	errSoldOut := errors.New("sold out")
	var people sync.WaitGroup
	var mu sync.Mutex
	sold, refused := map[int64]bool{}, 0
	for range 1000 {
		people.Go(func() {
			e, err := events.Update(context.Background(), 7, func(_ context.Context, e *event) error {
				if e.Tickets == 0 {
					return errSoldOut
				}
				e.Tickets--
				return nil
			})
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, errSoldOut) {
				refused++
			} else if err == nil {
				sold[e.Tickets] = true // the row as it was after this very sale
			}
		})
	}
	people.Wait()
	fmt.Println(len(sold), "sold,", refused, "refused; in fewer transactions than people:", events.Stats().Groups < 1000)

	err := events.Close(context.Background()) // serves who still waits, and refuses who comes
	fmt.Println(err)
	_, err = events.Update(context.Background(), 7, nil)
	fmt.Println(errors.Is(err, raceproof.ErrClosed))
	// Output:
	// 100 sold, 900 refused; in fewer transactions than people: true
	// <nil>
	// true
}
