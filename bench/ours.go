package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
)

var players = raceproof.MustTable[Player]("players")

// openOurs is this library.
func openOurs(dsn string, s setting) (*client, error) {
	pool, err := open(dsn, s)
	if err != nil {
		return nil, err
	}
	db, err := raceproof.New(sqlx.NewDb(pool, s.database.driver()))
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	u, err := ourUpdate(db, s.pattern)
	return &client{u, pool, func() error {
		db.Close()
		return pool.Close()
	}}, err
}

// Changes are made anew for every update, as a service makes them whose points differ from call to call.
func ourUpdate(db *raceproof.DB, p pattern) (update, error) {
	switch p {
	case atomicPattern:
		u := atomic.New(db, players, nil)
		return func(ctx context.Context, id int64) (Player, error) {
			return u.Update(ctx, id, atomic.Set("score", atomic.F("score").Add(points)))
		}, u.Err()
	case optimisticPattern:
		u := optimistic.New(db, players, nil)
		return inGo(u), u.Err()
	case lockPattern:
		u := lock.New(db, players, nil)
		return inGo(u), u.Err()
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
