package main

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"
)

// openSqlx is what is mostly written with sqlx: the text of a statement with every call, and rows scanned into structs
// by their tags.
func openSqlx(dsn string, p pattern) (*client, error) {
	if p == lockPattern {
		dsn = immediate(dsn)
	}
	pool, err := open(dsn)
	if err != nil {
		return nil, err
	}
	db := sqlx.NewDb(pool, "sqlite3")
	updates := map[pattern]update{
		atomicPattern:     sqlxAtomic(db),
		optimisticPattern: sqlxOptimistic(db),
		lockPattern:       sqlxLock(db),
	}
	if updates[p] == nil {
		return nil, fmt.Errorf("unknown pattern %q", p)
	}
	return &client{updates[p], pool}, nil
}

func sqlxAtomic(db *sqlx.DB) update {
	return func(ctx context.Context, id int64) (p Player, err error) {
		err = db.GetContext(ctx, &p, addPoints, points, id)
		return p, err
	}
}

func sqlxOptimistic(db *sqlx.DB) update {
	return func(ctx context.Context, id int64) (Player, error) {
		for {
			var p Player
			if err := db.GetContext(ctx, &p, selectPlayer, id); err != nil {
				return Player{}, err
			}
			before := p.Version
			p.Score, p.Version = p.Score+points, p.Version+1
			result, err := db.ExecContext(ctx, setScoreIfUnchanged, p.Score, p.Version, p.ID, before)
			if done, err := one(result, err); done || err != nil {
				return p, err
			}
		}
	}
}

func sqlxLock(db *sqlx.DB) update {
	return func(ctx context.Context, id int64) (Player, error) {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return Player{}, err
		}
		defer func() { _ = tx.Rollback() }() // does nothing after Commit
		var p Player
		if err := tx.GetContext(ctx, &p, selectPlayer, id); err != nil {
			return Player{}, err
		}
		p.Score, p.Version = p.Score+points, p.Version+1
		if _, err := tx.ExecContext(ctx, setScore, p.Score, p.Version, p.ID); err != nil {
			return Player{}, err
		}
		return p, tx.Commit()
	}
}
