package main

import (
	"context"
	"database/sql"
	"errors"

	"entgo.io/ent/dialect"
	ent "entgo.io/ent/dialect/sql"
)

// openEnt is what ent's generated code calls: its builder of statements, its driver and its scanning. The generated code
// itself, which adds hooks and checks to that, is left out.
func openEnt(dsn string, j job) (*client, error) {
	pool, err := j.connect(j.locking(dsn))
	if err != nil {
		return nil, err
	}
	name := map[database]string{sqlite: dialect.SQLite, postgres: dialect.Postgres, mariadb: dialect.MySQL}[j.database]
	e := entPlayers{ent.OpenDB(name, pool), ent.Dialect(name)}
	updates := map[pattern]update{
		atomicPattern:     e.atomic,
		optimisticPattern: j.entOptimistic(e),
		lockPattern:       e.lock(ent.LockStrength(j.database.lockStrength())),
	}
	if j.database == mariadb {
		updates[atomicPattern] = e.atomicMariaDB
	}
	return working(updates[j.pattern], pool, nil)
}

// entPlayers is the table.
type entPlayers struct {
	driver *ent.Driver
	build  *ent.DialectBuilder
}

func (e entPlayers) read(id int64) *ent.Selector {
	return e.build.Select("id", "name", "score", "version").From(ent.Table("players")).Where(ent.EQ("id", id))
}

func (e entPlayers) add(id int64) *ent.UpdateBuilder {
	return e.build.Update("players").Add("score", points).Add("version", 1).Where(ent.EQ("id", id))
}

// set makes the change to the player, and a statement that writes it.
func (e entPlayers) set(p *Player) *ent.UpdateBuilder {
	p.Score, p.Version = p.Score+points, p.Version+1
	return e.build.Update("players").Set("score", p.Score).Set("version", p.Version).Where(ent.EQ("id", p.ID))
}

// entRow sends a statement that yields the row.
func entRow(ctx context.Context, on dialect.ExecQuerier, q ent.Querier) (p Player, err error) {
	text, values := q.Query()
	rows := &ent.Rows{}
	if err := on.Query(ctx, text, values, rows); err != nil {
		return p, err
	}
	var found []*Player
	if err := errors.Join(ent.ScanSlice(rows, &found), rows.Close()); err != nil {
		return p, err
	}
	if len(found) != 1 {
		return p, sql.ErrNoRows
	}
	return *found[0], nil
}

// entWrite sends a statement, and tells whether it has changed the row.
func entWrite(ctx context.Context, on dialect.ExecQuerier, q ent.Querier) (bool, error) {
	text, values := q.Query()
	var result sql.Result
	err := on.Exec(ctx, text, values, &result)
	return one(result, err)
}

func (e entPlayers) atomic(ctx context.Context, id int64) (Player, error) {
	return entRow(ctx, e.driver, e.add(id).Returning("id", "name", "score", "version"))
}

func (e entPlayers) atomicMariaDB(ctx context.Context, id int64) (p Player, err error) {
	return e.transact(ctx, func(tx dialect.Tx) (p Player, err error) {
		if _, err := entWrite(ctx, tx, e.add(id)); err != nil {
			return p, err
		}
		return entRow(ctx, tx, e.read(id))
	})
}

func (j job) entOptimistic(e entPlayers) update {
	return func(ctx context.Context, id int64) (Player, error) {
		for attempts := 1; ; attempts++ {
			p, err := entRow(ctx, e.driver, e.read(id))
			if err != nil {
				return Player{}, err
			}
			before := p.Version
			done, err := entWrite(ctx, e.driver, e.set(&p).Where(ent.EQ("version", before)))
			if done || err != nil {
				return p, err
			}
			if err := j.again(ctx, attempts); err != nil {
				return Player{}, err
			}
		}
	}
}

func (e entPlayers) lock(strength ent.LockStrength) update {
	return func(ctx context.Context, id int64) (Player, error) {
		return e.transact(ctx, func(tx dialect.Tx) (Player, error) {
			read := e.read(id)
			if strength != "" {
				read.For(strength)
			}
			p, err := entRow(ctx, tx, read)
			if err == nil {
				_, err = entWrite(ctx, tx, e.set(&p))
			}
			return p, err
		})
	}
}

func (e entPlayers) transact(ctx context.Context, f func(dialect.Tx) (Player, error)) (Player, error) {
	tx, err := e.driver.Tx(ctx)
	if err != nil {
		return Player{}, err
	}
	p, err := f(tx)
	if err != nil {
		return Player{}, errors.Join(err, tx.Rollback())
	}
	return p, tx.Commit()
}
