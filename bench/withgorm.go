package main

import (
	"context"
	"fmt"

	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
)

// openGORM is GORM as its documentation says, set up for speed: no log, no transaction around single writes, and its
// cache of prepared statements where that makes it faster, which inside transactions it does not.
func openGORM(dsn string, p pattern) (*client, error) {
	if p == lockPattern {
		dsn = immediate(dsn)
	}
	db, err := gorm.Open(sqlite.Open(dsn), &gorm.Config{
		Logger:                 logger.Discard,
		SkipDefaultTransaction: true,
		PrepareStmt:            p != lockPattern,
	})
	if err != nil {
		return nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	limit(pool)
	updates := map[pattern]update{
		atomicPattern:     gormAtomic(db),
		optimisticPattern: gormOptimistic(db),
		lockPattern:       gormLock(db),
	}
	if updates[p] == nil {
		return nil, fmt.Errorf("unknown pattern %q", p)
	}
	return &client{updates[p], pool}, nil
}

func gormAtomic(db *gorm.DB) update {
	return func(ctx context.Context, id int64) (Player, error) {
		var p Player
		result := db.WithContext(ctx).Model(&p).Clauses(clause.Returning{}).Where("id = ?", id).Updates(map[string]any{
			"score":   gorm.Expr("score + ?", points),
			"version": gorm.Expr("version + 1"),
		})
		if result.Error == nil && result.RowsAffected == 0 {
			return Player{}, gorm.ErrRecordNotFound
		}
		return p, result.Error
	}
}

func gormOptimistic(db *gorm.DB) update {
	return func(ctx context.Context, id int64) (Player, error) {
		for {
			var p Player
			if err := db.WithContext(ctx).Take(&p, id).Error; err != nil {
				return Player{}, err
			}
			// Updates also puts the new values into p.
			result := db.WithContext(ctx).Model(&p).Where("version = ?", p.Version).
				Updates(map[string]any{"score": p.Score + points, "version": p.Version + 1})
			if result.Error != nil || result.RowsAffected == 1 {
				return p, result.Error
			}
		}
	}
}

func gormLock(db *gorm.DB) update {
	return func(ctx context.Context, id int64) (Player, error) {
		var p Player
		err := db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := tx.Take(&p, id).Error; err != nil {
				return err
			}
			return tx.Model(&p).Updates(map[string]any{"score": p.Score + points, "version": p.Version + 1}).Error
		})
		return p, err
	}
}
