package main

import (
	"context"

	"gorm.io/driver/mysql"
	pgdriver "gorm.io/driver/postgres"
	sqlitedriver "gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"
)

// openGORM is GORM as its documentation says, set up for speed: no log, no transaction around single writes, and its
// cache of prepared statements where that makes it faster, which inside transactions it does not: there it prepares anew.
func openGORM(dsn string, j job) (*client, error) {
	drivers := map[database]func(string) gorm.Dialector{sqlite: sqlitedriver.Open, postgres: pgdriver.Open, mariadb: mysql.Open}
	transaction := j.pattern == lockPattern || j.pattern == atomicPattern && j.database == mariadb
	db, err := gorm.Open(drivers[j.database](j.locking(dsn)), &gorm.Config{
		Logger:                 logger.Discard,
		SkipDefaultTransaction: true,
		PrepareStmt:            !transaction,
	})
	if err != nil {
		return nil, err
	}
	pool, err := db.DB()
	if err != nil {
		return nil, err
	}
	limit(pool, j.pool)
	updates := map[pattern]update{
		atomicPattern:     gormAtomic(db),
		optimisticPattern: j.gormOptimistic(db),
		lockPattern:       gormLock(db, j.database.lockStrength()),
	}
	if j.database == mariadb {
		updates[atomicPattern] = gormAtomicMariaDB(db)
	}
	return working(updates[j.pattern], pool, nil)
}

func gormAdd(db *gorm.DB, p *Player, id int64) error {
	result := db.Model(p).Where("id = ?", id).Updates(map[string]any{
		"score":   gorm.Expr("score + ?", points),
		"version": gorm.Expr("version + 1"),
	})
	if result.Error == nil && result.RowsAffected == 0 {
		return gorm.ErrRecordNotFound
	}
	return result.Error
}

func gormAtomic(db *gorm.DB) update {
	return func(ctx context.Context, id int64) (p Player, err error) {
		err = gormAdd(db.WithContext(ctx).Clauses(clause.Returning{}), &p, id)
		return p, err
	}
}

func gormAtomicMariaDB(db *gorm.DB) update {
	return func(ctx context.Context, id int64) (p Player, err error) {
		err = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			if err := gormAdd(tx, new(Player), id); err != nil {
				return err
			}
			return tx.Take(&p, id).Error
		})
		return p, err
	}
}

func (j job) gormOptimistic(db *gorm.DB) update {
	return func(ctx context.Context, id int64) (Player, error) {
		for attempts := 1; ; attempts++ {
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
			if err := j.again(ctx, attempts); err != nil {
				return Player{}, err
			}
		}
	}
}

func gormLock(db *gorm.DB, strength string) update {
	return func(ctx context.Context, id int64) (p Player, err error) {
		err = db.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
			read := tx
			if strength != "" {
				read = tx.Clauses(clause.Locking{Strength: strength})
			}
			if err := read.Take(&p, id).Error; err != nil {
				return err
			}
			return tx.Model(&p).Updates(map[string]any{"score": p.Score + points, "version": p.Version + 1}).Error
		})
		return p, err
	}
}
