package once_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// child is the process that is killed: it makes the updates whose numbers it reads, prints the number of each that it
// begins, and the number and the score of each that it has made.
func child() {
	pool := sqlx.MustOpen(databases.Named(os.Getenv(childDriver)).Driver, os.Getenv(childDSN))
	db, err := raceproof.New(pool)
	if err != nil {
		panic(err)
	}
	var wrapped []*once.Updater[world.Player, world.Change]
	for _, p := range new(world.World).PatternsOf(db) {
		wrapped = append(wrapped, once.Wrap(p.Updater))
	}
	numbers := make(chan int)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range numbers {
				fmt.Println(i)
				u := wrapped[i/hot%len(wrapped)]
				row, err := u.Update(once.WithKey(context.Background(), string(keyOf(i))), int64(100+i%hot), world.Award(1))
				if err != nil {
					panic(err)
				}
				fmt.Println(i, row.Score)
			}
		})
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		i, err := strconv.Atoi(lines.Text())
		if err != nil {
			panic(err)
		}
		numbers <- i
	}
	close(numbers)
	wg.Wait()
}
