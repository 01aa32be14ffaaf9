package main

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
	dbatomic "github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/serial"
)

// table is made when the program starts and dropped when it ends, so it has a name that no service uses.
const table = "raceproof_race"

// A Player is the row that everybody wants to change.
type Player struct {
	ID      int64 `db:"id"`
	Score   int64 `db:"score"`
	Version int64 `db:"version"`
}

var players = raceproof.MustTable[Player](table)

const naive = "naive"

// patterns are run in this order.
var patterns = []string{naive, "lock", "atomic", "optimistic", "serial"}

// A tally counts how often the functions over the row were called: each time beyond the first is a retry.
type tally struct{ calls atomic.Int64 }

// points returns the change for patterns that compute in Go.
func (t *tally) points(n int64) raceproof.Func[Player] {
	return func(_ context.Context, p *Player) error {
		t.calls.Add(1)
		p.Score += n
		return nil
	}
}

// updater returns the updater of a pattern. They differ in how they keep others away; to the load they are one.
func (s *store) updater(pattern string, t *tally) (raceproof.Updater[Player, int64], error) {
	switch pattern {
	case naive:
		return raceproof.Bind(unprotected{s.pool}, t.points), nil
	case "lock":
		return raceproof.Bind(lock.New(s.db, players, nil), t.points), nil
	case "serial": // what package lock does, for all who wait at once
		return raceproof.Bind(serial.Wrap(lock.New(s.db, players, nil)), t.points), nil
	case "optimistic":
		return raceproof.Bind(optimistic.New(s.db, players, nil), t.points), nil
	case "atomic":
		return raceproof.Bind(dbatomic.New(s.db, players, nil), func(n int64) dbatomic.Change {
			t.calls.Add(1)
			return dbatomic.Set("score", dbatomic.F("score").Add(n))
		}), nil
	}
	return nil, fmt.Errorf("unknown pattern %q", pattern)
}

// unprotected is how an update is written before one knows better: read, compute, write. Two that do it at the same
// time read the same score, and the second undoes the first.
type unprotected struct{ pool *sqlx.DB }

func (u unprotected) Update(ctx context.Context, key any, change raceproof.Func[Player]) (Player, error) {
	var p Player
	if err := u.pool.GetContext(ctx, &p, u.pool.Rebind("SELECT id, score, version FROM "+table+" WHERE id = ?"), key); err != nil {
		return Player{}, err
	}
	if err := change(ctx, &p); err != nil {
		return Player{}, err
	}
	_, err := u.pool.ExecContext(ctx, u.pool.Rebind("UPDATE "+table+" SET score = ? WHERE id = ?"), p.Score, key)
	return p, err
}
