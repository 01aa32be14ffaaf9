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
	"github.com/raceproof/raceproof/serial"
)

var players = raceproof.MustTable[Player]("players")

// openOurs is this library.
func openOurs(dsn string, j job) (*client, error) { return openLibrary(dsn, j, false) }

// openSerial is this library with its updaters wrapped, so that callers who wait share a transaction.
func openSerial(dsn string, j job) (*client, error) { return openLibrary(dsn, j, true) }

func openLibrary(dsn string, j job, wrap bool) (*client, error) {
	pool, err := j.connect(dsn)
	if err != nil {
		return nil, err
	}
	db, err := raceproof.New(sqlx.NewDb(pool, j.database.driver()))
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	u, end, err := ourUpdate(db, j, wrap)
	return &client{update: u, db: pool, close: func() error {
		err := end(context.Background())
		db.Close()
		return errors.Join(err, pool.Close())
	}}, err
}

// Changes are made anew for every update, as a service makes them whose points differ from call to call.
func ourUpdate(db *raceproof.DB, j job, wrap bool) (update, func(context.Context) error, error) {
	switch j.pattern {
	case atomicPattern:
		u, end, err := wrapped(atomic.New(db, players, nil), wrap)
		return func(ctx context.Context, id int64) (Player, error) {
			return u.Update(ctx, id, atomic.Set("score", atomic.F("score").Add(points)))
		}, end, err
	case optimisticPattern:
		u, end, err := wrapped(optimistic.New(db, players, nil), wrap)
		return j.inGo(u), end, err
	case lockPattern:
		u, end, err := wrapped(lock.New(db, players, nil), wrap)
		return j.inGo(u), end, err
	}
	return nil, nil, fmt.Errorf("unknown pattern %q", j.pattern)
}

// wrapped returns the updater, wrapped or not, and what ends it.
func wrapped[T, C any](u interface {
	raceproof.Updater[T, C]
	Err() error
}, wrap bool) (raceproof.Updater[T, C], func(context.Context) error, error) {
	if !wrap {
		return u, func(context.Context) error { return nil }, u.Err()
	}
	hot := serial.Wrap[T, C](u)
	return hot, hot.Close, hot.Err()
}

// inGo gives up in the function, which is called again for each attempt.
func (j job) inGo(u raceproof.Updater[Player, raceproof.Func[Player]]) update {
	return func(ctx context.Context, id int64) (Player, error) {
		attempts := 0
		return u.Update(ctx, id, func(_ context.Context, p *Player) error {
			if attempts++; attempts > 1 && j.over.Load() {
				return errOver
			}
			p.Score += points
			return nil
		})
	}
}
