package main

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
)

var players = raceproof.MustTable[Player]("players")

// openOurs is this library. Changes are made anew for every update, as a service makes them whose points differ from
// call to call.
func openOurs(dsn string, p pattern) (*client, error) {
	pool, err := open(dsn)
	if err != nil {
		return nil, err
	}
	db, err := raceproof.New(sqlx.NewDb(pool, "sqlite3"))
	if err != nil {
		return nil, err
	}
	switch p {
	case atomicPattern:
		u := atomic.New(db, players, nil)
		return &client{func(ctx context.Context, id int64) (Player, error) {
			return u.Update(ctx, id, atomic.Set("score", atomic.F("score").Add(points)))
		}, pool}, u.Err()
	case optimisticPattern:
		u := optimistic.New(db, players, nil)
		return &client{inGo(u), pool}, u.Err()
	case lockPattern:
		u := lock.New(db, players, nil)
		return &client{inGo(u), pool}, u.Err()
	}
	return nil, fmt.Errorf("unknown pattern %q", p)
}

func inGo(u raceproof.Updater[Player, raceproof.Func[Player]]) update {
	return func(ctx context.Context, id int64) (Player, error) {
		return u.Update(ctx, id, func(_ context.Context, p *Player) error {
			p.Score += points
			return nil
		})
	}
}
