package main

import (
	"context"
	"net/url"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/mysqldialect"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
)

// openBun is bun, which writes arguments into the texts of statements. As each text is another one then, it is told to
// keep pgx from preparing them, as its documentation says.
func openBun(dsn string, j job) (_ *client, err error) {
	if j.database == postgres {
		if dsn, err = with(dsn, url.Values{"default_query_exec_mode": {"simple_protocol"}}); err != nil {
			return nil, err
		}
	}
	pool, err := j.connect(j.locking(dsn))
	if err != nil {
		return nil, err
	}
	if j.database == mariadb { // its dialect asks the server for its version, and panics if it cannot
		if err := pool.Ping(); err != nil {
			return working(nil, pool, err)
		}
	}
	dialects := map[database]func() schema.Dialect{
		sqlite:   func() schema.Dialect { return sqlitedialect.New() },
		postgres: func() schema.Dialect { return pgdialect.New() },
		mariadb:  func() schema.Dialect { return mysqldialect.New() },
	}
	db := bun.NewDB(pool, dialects[j.database]())
	updates := map[pattern]update{
		atomicPattern:     bunAtomic(db),
		optimisticPattern: j.bunOptimistic(db),
		lockPattern:       bunLock(db, j.database.lockStrength()),
	}
	if j.database == mariadb {
		updates[atomicPattern] = bunAtomicMariaDB(db)
	}
	return working(updates[j.pattern], pool, nil)
}

func bunAdd(db bun.IDB, p *Player, id int64) *bun.UpdateQuery {
	return db.NewUpdate().Model(p).Set("score = score + ?", points).Set("version = version + 1").Where("id = ?", id)
}

func bunSet(db bun.IDB, p *Player) *bun.UpdateQuery {
	p.Score, p.Version = p.Score+points, p.Version+1
	return db.NewUpdate().Model(p).Column("score", "version").WherePK()
}

func bunAtomic(db *bun.DB) update {
	return func(ctx context.Context, id int64) (p Player, err error) {
		_, err = bunAdd(db, &p, id).Returning("*").Exec(ctx)
		return p, err
	}
}

func bunAtomicMariaDB(db *bun.DB) update {
	return func(ctx context.Context, id int64) (p Player, err error) {
		err = db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			if _, err := bunAdd(tx, &p, id).Exec(ctx); err != nil {
				return err
			}
			return tx.NewSelect().Model(&p).Where("id = ?", id).Scan(ctx)
		})
		return p, err
	}
}

func (j job) bunOptimistic(db *bun.DB) update {
	return func(ctx context.Context, id int64) (Player, error) {
		for attempts := 1; ; attempts++ {
			var p Player
			if err := db.NewSelect().Model(&p).Where("id = ?", id).Scan(ctx); err != nil {
				return Player{}, err
			}
			before := p.Version
			result, err := bunSet(db, &p).Where("version = ?", before).Exec(ctx)
			if done, err := one(result, err); done || err != nil {
				return p, err
			}
			if err := j.again(ctx, attempts); err != nil {
				return Player{}, err
			}
		}
	}
}

func bunLock(db *bun.DB, strength string) update {
	return func(ctx context.Context, id int64) (p Player, err error) {
		err = db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
			read := tx.NewSelect().Model(&p).Where("id = ?", id)
			if strength != "" {
				read.For(strength)
			}
			if err := read.Scan(ctx); err != nil {
				return err
			}
			_, err := bunSet(tx, &p).Exec(ctx)
			return err
		})
		return p, err
	}
}
