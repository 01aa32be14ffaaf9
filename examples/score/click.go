package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/serial"
)

// A Player is a row of the table players. The fields id and version are the key and the version by their names.
type Player struct {
	ID      int64  `db:"id" json:"id"`
	Name    string `db:"name" json:"name"`
	Score   int64  `db:"score" json:"score"`
	Version int64  `db:"version" json:"version"`
}

var players = raceproof.MustTable[Player]("players")

// A click is what a user does to a player's score. It says nothing of how that is written.
type click struct {
	weight int64
}

// award adds the click's points to the score. It only computes, on what it is given, so that the optimistic pattern can
// run it again when the player has changed meanwhile.
func (c click) award(_ context.Context, p *Player) error {
	gain := c.weight * points(p.Score)
	if p.Score > math.MaxInt64-gain {
		return fmt.Errorf("the score of player %d: %w", p.ID, raceproof.ErrOutOfRange)
	}
	p.Score += gain
	return nil
}

// points is how much a click is worth at a score, at least 1. It replaces a number by the sum of the squares of its
// digits until that is 1 or 4, which it always comes to, and counts the steps; the 1 of a happy number is worth more.
// How often the loop runs depends on the score, so no expression of a SET clause can say it.
func points(score int64) int64 {
	n, gain := uint64(score)+1, int64(1)
	for n != 1 && n != 4 {
		sum := uint64(0)
		for ; n > 0; n /= 10 {
			sum += (n % 10) * (n % 10)
		}
		n = sum
		gain++
	}
	if n == 1 {
		gain += 10
	}
	return gain
}

// bonus is what a click of weight 1 earns by the atomic pattern.
const bonus = 5

// inGo is the change for the patterns that compute in Go.
func inGo(c click) raceproof.Func[Player] { return c.award }

// inSQL is the change for the pattern that computes in the database. It cannot express points, and does not pretend to:
// it awards a fixed bonus instead. That is safe because the one statement that it becomes both reads and writes the
// score, under SQLite's write lock.
func inSQL(c click) atomic.Change {
	return atomic.Set("score", atomic.F("score").Add(c.weight*bonus))
}

// An updater counts a click, by whichever pattern.
type updater = raceproof.Updater[Player, click]

// newUpdaters returns an updater of every pattern by its name. Bind gives them one type, so that the handler of all
// is the same.
func newUpdaters(db *raceproof.DB, pool *sqlx.DB) (map[string]updater, error) {
	locking := lock.New(db, players, nil)
	checking := optimistic.New(db, players, nil)
	computing := atomic.New(db, players, nil)
	queueing := serial.Wrap(locking) // clicks that wait are counted together, in one transaction
	if err := errors.Join(locking.Err(), checking.Err(), computing.Err(), queueing.Err()); err != nil {
		return nil, err
	}
	return map[string]updater{
		"naive":      raceproof.Bind(&naive{pool: pool}, inGo),
		"lock":       raceproof.Bind(locking, inGo),
		"optimistic": raceproof.Bind(checking, inGo),
		"atomic":     raceproof.Bind(computing, inSQL),
		"serial":     raceproof.Bind(queueing, inGo),
	}, nil
}
