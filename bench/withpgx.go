package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
)

// openPgx is pgx without database/sql. It prepares each text once for each connection by itself.
func openPgx(dsn string, j job) (*client, error) {
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.MaxConns = int32(j.pool)
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, err
	}
	t := j.database.texts()
	updates := map[pattern]update{
		atomicPattern:     pgxAtomic(pool, t),
		optimisticPattern: j.pgxOptimistic(pool, t),
		lockPattern:       pgxLock(pool, t),
	}
	db := stdlib.OpenDBFromPool(pool) // for the checks
	return &client{update: updates[j.pattern], db: db, rest: pool.Reset, close: func() error {
		defer pool.Close()
		return db.Close()
	}}, nil
}

func pgxAtomic(pool *pgxpool.Pool, t texts) update {
	return func(ctx context.Context, id int64) (Player, error) {
		return scanPlayer(pool.QueryRow(ctx, t.add, points, id))
	}
}

func (j job) pgxOptimistic(pool *pgxpool.Pool, t texts) update {
	return func(ctx context.Context, id int64) (Player, error) {
		for attempts := 1; ; attempts++ {
			p, err := scanPlayer(pool.QueryRow(ctx, t.read, id))
			if err != nil {
				return Player{}, err
			}
			before := p.Version
			p.Score, p.Version = p.Score+points, p.Version+1
			tag, err := pool.Exec(ctx, t.setIf, p.Score, p.Version, p.ID, before)
			if err == nil && tag.RowsAffected() > 1 {
				err = errors.New("the key matches more than one row")
			}
			if err != nil || tag.RowsAffected() == 1 {
				return p, err
			}
			if err := j.again(ctx, attempts); err != nil {
				return Player{}, err
			}
		}
	}
}

func pgxLock(pool *pgxpool.Pool, t texts) update {
	return func(ctx context.Context, id int64) (p Player, err error) {
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if p, err = scanPlayer(tx.QueryRow(ctx, t.lock, id)); err != nil {
				return err
			}
			p.Score, p.Version = p.Score+points, p.Version+1
			_, err = tx.Exec(ctx, t.set, p.Score, p.Version, p.ID)
			return err
		})
		return p, err
	}
}
