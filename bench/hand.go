package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// The statements of the contenders that are written by hand.
const (
	selectPlayer = `SELECT id, name, score, version FROM players WHERE id = ?`

	addPoints = `UPDATE players SET score = score + ?, version = version + 1 WHERE id = ?
RETURNING id, name, score, version`

	setScore = `UPDATE players SET score = ?, version = ? WHERE id = ?`

	setScoreIfUnchanged = `UPDATE players SET score = ?, version = ? WHERE id = ? AND version = ?`
)

// openHand is what a careful engineer writes with database/sql alone: statements prepared once. Where the row was read
// before, what it is after the write is known, and RETURNING would only cost.
func openHand(dsn string, p pattern) (*client, error) {
	if p == lockPattern {
		dsn = immediate(dsn)
	}
	db, err := open(dsn)
	if err != nil {
		return nil, err
	}
	switch p {
	case atomicPattern:
		return handAtomic(db)
	case optimisticPattern:
		return handOptimistic(db)
	case lockPattern:
		return handLock(db)
	}
	return nil, fmt.Errorf("unknown pattern %q", p)
}

func handAtomic(db *sql.DB) (*client, error) {
	add, err := db.Prepare(addPoints)
	if err != nil {
		return nil, err
	}
	return &client{func(ctx context.Context, id int64) (Player, error) {
		return scanPlayer(add.QueryRowContext(ctx, points, id))
	}, db}, nil
}

func handOptimistic(db *sql.DB) (*client, error) {
	read, err := db.Prepare(selectPlayer)
	if err != nil {
		return nil, err
	}
	write, err := db.Prepare(setScoreIfUnchanged)
	if err != nil {
		return nil, err
	}
	return &client{func(ctx context.Context, id int64) (Player, error) {
		for {
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
		}
	}, db}, nil
}

func handLock(db *sql.DB) (*client, error) {
	read, err := db.Prepare(selectPlayer)
	if err != nil {
		return nil, err
	}
	write, err := db.Prepare(setScore)
	if err != nil {
		return nil, err
	}
	return &client{func(ctx context.Context, id int64) (Player, error) {
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
	}, db}, nil
}

func scanPlayer(row *sql.Row) (p Player, err error) {
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
