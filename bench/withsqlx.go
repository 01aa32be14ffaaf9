package main

import (
	"context"

	"github.com/jmoiron/sqlx"
)

// openSqlx is what is mostly written with sqlx: the text of a statement with every call, and rows scanned into structs
// by their tags.
func openSqlx(dsn string, j job) (*client, error) {
	pool, err := j.connect(j.locking(dsn))
	if err != nil {
		return nil, err
	}
	db, t := sqlx.NewDb(pool, j.database.driver()), j.database.texts()
	updates := map[pattern]update{
		atomicPattern: sqlxAtomic(db, t), optimisticPattern: j.sqlxOptimistic(db, t), lockPattern: sqlxLock(db, t),
	}
	if j.database == mariadb {
		updates[atomicPattern] = sqlxAtomicMariaDB(db, t)
	}
	return working(updates[j.pattern], pool, nil)
}

func sqlxAtomic(db *sqlx.DB, t texts) update {
	return func(ctx context.Context, id int64) (p Player, err error) {
		err = db.GetContext(ctx, &p, t.add, points, id)
		return p, err
	}
}

func sqlxAtomicMariaDB(db *sqlx.DB, t texts) update {
	return func(ctx context.Context, id int64) (p Player, err error) {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return p, err
		}
		defer func() { _ = tx.Rollback() }() // does nothing after Commit
		if _, err := tx.ExecContext(ctx, t.add, points, id); err != nil {
			return p, err
		}
		if err := tx.GetContext(ctx, &p, t.read, id); err != nil {
			return p, err
		}
		return p, tx.Commit()
	}
}

func (j job) sqlxOptimistic(db *sqlx.DB, t texts) update {
	return func(ctx context.Context, id int64) (Player, error) {
		for attempts := 1; ; attempts++ {
			var p Player
			if err := db.GetContext(ctx, &p, t.read, id); err != nil {
				return Player{}, err
			}
			before := p.Version
			p.Score, p.Version = p.Score+points, p.Version+1
			result, err := db.ExecContext(ctx, t.setIf, p.Score, p.Version, p.ID, before)
			if done, err := one(result, err); done || err != nil {
				return p, err
			}
			if err := j.again(ctx, attempts); err != nil {
				return Player{}, err
			}
		}
	}
}

func sqlxLock(db *sqlx.DB, t texts) update {
	return func(ctx context.Context, id int64) (Player, error) {
		tx, err := db.BeginTxx(ctx, nil)
		if err != nil {
			return Player{}, err
		}
		defer func() { _ = tx.Rollback() }() // does nothing after Commit
		var p Player
		if err := tx.GetContext(ctx, &p, t.lock, id); err != nil {
			return Player{}, err
		}
		p.Score, p.Version = p.Score+points, p.Version+1
		if _, err := tx.ExecContext(ctx, t.set, p.Score, p.Version, p.ID); err != nil {
			return Player{}, err
		}
		return p, tx.Commit()
	}
}
