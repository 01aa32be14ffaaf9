package atomic_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
)

// Seats are sold as long as there are any, in one statement.
func ExampleChange_If() {
	folder, _ := os.MkdirTemp("", "atomic")
	defer os.RemoveAll(folder)
	pool := sqlx.MustConnect("sqlite3", "file:"+filepath.Join(folder, "shows.db")+"?_journal_mode=WAL")
	defer pool.Close()
	pool.MustExec(`CREATE TABLE shows (id INTEGER PRIMARY KEY, seats INTEGER NOT NULL, sold INTEGER NOT NULL);
		INSERT INTO shows VALUES (1, 5, 0)`)
	type show struct {
		ID    int64 `db:"id"`
		Seats int64 `db:"seats"`
		Sold  int64 `db:"sold"`
	}
	db, _ := raceproof.New(pool)
	shows := atomic.New(db, raceproof.MustTable[show]("shows"), nil)

	left := atomic.F("seats").Sub(atomic.F("sold"))
	sell := func(n int) atomic.Change {
		return atomic.Set("sold", atomic.F("sold").Add(n)).If(left.Ge(n))
	}
	fmt.Println(shows.Update(context.Background(), 1, sell(4)))
	_, err := shows.Update(context.Background(), 1, sell(4))
	fmt.Println(errors.Is(err, raceproof.ErrConditionFailed))
	// Output:
	// {1 5 4} <nil>
	// true
}
