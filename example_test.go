package raceproof_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
)

// The first program, as the README shows it; TestReadme compares the two.
func Example() {
	folder, _ := os.MkdirTemp("", "first")
	defer os.RemoveAll(folder)
	dsn := "file:" + filepath.Join(folder, "game.db") + "?_journal_mode=WAL"

	type Player struct {
		ID      int64 `db:"id"`      // the key, unless a tag says otherwise: `db:"player_no,key"`
		Score   int64 `db:"score"`   // what many callers change at once
		Version int64 `db:"version"` // the version column; `db:"rev,version"` would name another
	}
	pool := sqlx.MustConnect("sqlite3", dsn)
	pool.MustExec(`CREATE TABLE players (id INTEGER PRIMARY KEY, score INTEGER NOT NULL, version INTEGER NOT NULL);
		INSERT INTO players VALUES (7, 0, 0)`)
	db, err := raceproof.New(pool)
	if err != nil {
		panic(err)
	}
	byLock := lock.New(db, raceproof.MustTable[Player]("players"), nil)
	player, err := byLock.Update(context.Background(), 7, func(ctx context.Context, p *Player) error {
		p.Score += 10 // any Go code: nobody else can change the row before this is committed
		return nil
	})
	fmt.Println(player, err)
	// Output: {7 10 1} <nil>
}

type Points int64

// The service depends on an Updater, and the pattern is chosen where it is wired up.
func ExampleBind() {
	folder, _ := os.MkdirTemp("", "bind")
	defer os.RemoveAll(folder)
	pool := sqlx.MustConnect("sqlite3", "file:"+filepath.Join(folder, "game.db")+"?_journal_mode=WAL")
	defer pool.Close()
	pool.MustExec(playersSchema)
	pool.MustExec(ada)
	db, _ := raceproof.New(pool)

	compute := func(points Points) raceproof.Func[Player] {
		return func(_ context.Context, p *Player) error {
			p.Score += int64(points)
			return nil
		}
	}
	express := func(points Points) atomic.Change {
		return atomic.Set("score", atomic.F("score").Add(points))
	}
	for _, award := range []raceproof.Updater[Player, Points]{
		raceproof.Bind(lock.New(db, players, nil), compute),
		raceproof.Bind(optimistic.New(db, players, nil), compute),
		raceproof.Bind(atomic.New(db, players, nil), express),
	} {
		fmt.Println(award.Update(context.Background(), 7, 10))
	}
	// Output:
	// {7 Ada 10 1} <nil>
	// {7 Ada 20 2} <nil>
	// {7 Ada 30 3} <nil>
}

func ExampleDB_Transact() {
	folder, _ := os.MkdirTemp("", "transact")
	defer os.RemoveAll(folder)
	pool := sqlx.MustConnect("sqlite3", "file:"+filepath.Join(folder, "game.db")+"?_journal_mode=WAL")
	defer pool.Close()
	pool.MustExec(playersSchema)
	pool.MustExec(`INSERT INTO players VALUES (7, 'Ada', 5, 0), (8, 'Bob', 5, 0)`)
	db, _ := raceproof.New(pool)
	inSQL := atomic.New(db, players, nil)
	score := atomic.F("score")

	// Take 10 from one and give it to the other, or neither.
	err := db.Transact(context.Background(), func(ctx context.Context) error {
		if _, err := inSQL.Update(ctx, 8, atomic.Set("score", score.Add(10))); err != nil {
			return err
		}
		_, err := inSQL.Update(ctx, 7, atomic.Set("score", score.Sub(10)).If(score.Ge(10)))
		return err
	})
	fmt.Println(err)
	bob, _ := inSQL.Update(context.Background(), 8, atomic.Set("score", score))
	fmt.Println(bob.Score)
	// Output:
	// raceproof: update players with key 7: raceproof: condition failed
	// 5
}
