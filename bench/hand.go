package main

import (
	"context"
	"database/sql"
	"errors"
	"sync"
)

// openHand is what a careful engineer writes with database/sql alone: statements prepared once. Where the row was read
// before, what it is after the write is known, and to ask for it would only cost.
func openHand(dsn string, j job) (*client, error) {
	db, err := j.connect(j.locking(dsn))
	if err != nil {
		return nil, err
	}
	t := j.database.texts()
	var u update
	switch {
	case j.pattern == optimisticPattern:
		u, err = j.handOptimistic(db, t)
	case j.pattern == lockPattern:
		u, err = handLock(db, t)
	case j.database == mariadb:
		u, err = handAtomicMariaDB(db, t)
	default:
		u, err = handAtomic(db, t)
	}
	return working(u, db, err)
}

// openMutex is the same behind a mutex, so that on SQLite nobody has to poll for its lock.
func openMutex(dsn string, j job) (*client, error) {
	cl, err := openHand(dsn, j)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	alone := cl.update
	cl.update = func(ctx context.Context, id int64) (Player, error) {
		mu.Lock()
		defer mu.Unlock()
		return alone(ctx, id)
	}
	return cl, nil
}

func handAtomic(db *sql.DB, t texts) (update, error) {
	add, err := db.Prepare(t.add)
	return func(ctx context.Context, id int64) (Player, error) {
		return scanPlayer(add.QueryRowContext(ctx, points, id))
	}, err
}

// MariaDB's UPDATE returns no row. Between an UPDATE and a SELECT of their own somebody else could change it.
func handAtomicMariaDB(db *sql.DB, t texts) (update, error) {
	add, err := db.Prepare(t.add)
	if err != nil {
		return nil, err
	}
	read, err := db.Prepare(t.read)
	return func(ctx context.Context, id int64) (p Player, err error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return p, err
		}
		defer func() { _ = tx.Rollback() }() // does nothing after Commit
		if _, err := tx.StmtContext(ctx, add).ExecContext(ctx, points, id); err != nil {
			return p, err
		}
		if p, err = scanPlayer(tx.StmtContext(ctx, read).QueryRowContext(ctx, id)); err != nil {
			return p, err // sql.ErrNoRows if there is no such player
		}
		return p, tx.Commit()
	}, err
}

func (j job) handOptimistic(db *sql.DB, t texts) (update, error) {
	read, err := db.Prepare(t.read)
	if err != nil {
		return nil, err
	}
	write, err := db.Prepare(t.setIf)
	return func(ctx context.Context, id int64) (Player, error) {
		for attempts := 1; ; attempts++ {
			p, err := scanPlayer(read.QueryRowContext(ctx, id))
			if err != nil {
				return Player{}, err
			}
			before := p.Version
			p.Score, p.Version = p.Score+points, p.Version+1
			result, err := write.ExecContext(ctx, p.Score, p.Version, p.ID, before)
			if done, err := one(result, err); done || err != nil {
				return p, err
			}
			if err := j.again(ctx, attempts); err != nil {
				return Player{}, err
			}
		}
	}, err
}

func handLock(db *sql.DB, t texts) (update, error) {
	read, err := db.Prepare(t.lock)
	if err != nil {
		return nil, err
	}
	write, err := db.Prepare(t.set)
	return func(ctx context.Context, id int64) (Player, error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return Player{}, err
		}
		defer func() { _ = tx.Rollback() }() // does nothing after Commit
		p, err := scanPlayer(tx.StmtContext(ctx, read).QueryRowContext(ctx, id))
		if err != nil {
			return Player{}, err
		}
		p.Score, p.Version = p.Score+points, p.Version+1
		if _, err := tx.StmtContext(ctx, write).ExecContext(ctx, p.Score, p.Version, p.ID); err != nil {
			return Player{}, err
		}
		return p, tx.Commit()
	}, err
}

func scanPlayer(row interface{ Scan(...any) error }) (p Player, err error) {
	err = row.Scan(&p.ID, &p.Name, &p.Score, &p.Version)
	return p, err
}

// one tells whether a statement has changed a row. If it changed none, somebody else was faster.
func one(result sql.Result, err error) (bool, error) {
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	if err == nil && n > 1 {
		err = errors.New("the key matches more than one row")
	}
	return n == 1, err
}
