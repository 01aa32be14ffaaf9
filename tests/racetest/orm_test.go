package racetest_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gorm.io/driver/mysql"
	"gorm.io/driver/postgres"
	"gorm.io/driver/sqlite"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/tests/databases"
)

// An entry is a row of accounts, as GORM maps it; a label has a name that no constraint keeps from being there twice.
type (
	entry struct {
		ID      int64 `gorm:"primaryKey;autoIncrement:false"`
		Balance int64
		Version int64
	}
	label struct{ Name string }
)

func (entry) TableName() string { return "accounts" }

// gorms is an actor that works with GORM.
func (w *world) gorms(f func(*gorm.DB) error) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		var dialector gorm.Dialector
		switch w.Dialect {
		case "postgres":
			dialector = postgres.New(postgres.Config{Conn: db})
		case "mariadb":
			dialector = mysql.New(mysql.Config{Conn: db, SkipInitializeWithVersion: true})
		default:
			dialector = sqlite.Dialector{Conn: db}
		}
		g, err := gorm.Open(dialector, &gorm.Config{Logger: logger.Discard})
		if err != nil {
			return err
		}
		return f(g.WithContext(ctx))
	}
}

// saves reads the row, changes the field and saves the row, as GORM's documentation begins.
func saves(n int64, options ...clause.Expression) func(*gorm.DB) error {
	return func(g *gorm.DB) error {
		var e entry
		if err := g.Clauses(options...).First(&e, 1).Error; err != nil {
			return err
		}
		e.Balance += n
		return g.Save(&e).Error
	}
}

func inTransaction(f func(*gorm.DB) error) func(*gorm.DB) error {
	return func(g *gorm.DB) error { return g.Transaction(f) }
}

func (w *world) race(alice, bob func(context.Context, *sql.DB) error) racetest.Scenario {
	return racetest.Scenario{
		Open: w.connector, Setup: rows, Check: has(115, 100),
		Actors: racetest.Actors{"alice": alice, "bob": bob},
	}
}

func TestGORMSave(t *testing.T) {
	eachGORM(t, func(t *testing.T, w *world) {
		caught(t, w.race(w.gorms(saves(5)), w.gorms(saves(10))), racetest.Invariant)
	})
}

func TestGORMSaveInTransaction(t *testing.T) {
	eachGORM(t, func(t *testing.T, w *world) {
		s := w.race(w.gorms(inTransaction(saves(5))), w.gorms(inTransaction(saves(10))))
		if w.Dialect == "sqlite" {
			turnedAway(t, s)
			return
		}
		caught(t, s, racetest.Invariant)
	})
}

// SQLite has no FOR UPDATE. GORM leaves the clause out there, and what looks locked is refused as if it were not.
func TestGORMLocking(t *testing.T) {
	eachGORM(t, func(t *testing.T, w *world) {
		locking := clause.Locking{Strength: "UPDATE"}
		s := w.race(w.gorms(inTransaction(saves(5, locking))), w.gorms(inTransaction(saves(10, locking))))
		if w.Dialect == "sqlite" {
			assert.NotContains(t, turnedAway(t, s).Error(), "FOR")
			return
		}
		assert.Positive(t, racetest.Explore(t, s).Blocked)
		// Without a transaction the lock is gone when the row is there.
		f := caught(t, w.race(w.gorms(saves(5, locking)), w.gorms(saves(10, locking))), racetest.Invariant)
		assert.Contains(t, f.Error(), "FOR UPDATE")
	})
}

func TestGORMExpr(t *testing.T) {
	eachGORM(t, func(t *testing.T, w *world) {
		plus := func(n int64) func(*gorm.DB) error {
			return func(g *gorm.DB) error {
				return g.Model(&entry{ID: 1}).Update("balance", gorm.Expr("balance + ?", n)).Error
			}
		}
		r := racetest.Explore(t, w.race(w.gorms(plus(5)), w.gorms(plus(10))))
		assert.Greater(t, r.Schedules, 1)
	})
}

func TestGORMFirstOrCreate(t *testing.T) {
	eachGORM(t, func(t *testing.T, w *world) {
		db, err := sql.Open(w.Driver, w.dsn)
		require.NoError(t, err)
		_, err = db.Exec(`CREATE TABLE labels (name VARCHAR(10) NOT NULL)`)
		require.NoError(t, err)
		require.NoError(t, db.Close())
		s := w.race(nil, nil)
		for name := range s.Actors {
			s.Actors[name] = w.gorms(func(g *gorm.DB) error {
				return g.Where(label{Name: "go"}).FirstOrCreate(&label{}).Error
			})
		}
		s.Setup, s.Check = fill(`DELETE FROM labels`), atMost(1, `SELECT COUNT(*) FROM labels WHERE name = 'go'`)
		caught(t, s, racetest.Invariant)

		// A primary key keeps the second row out, and one of the two is told that the first is there.
		for name := range s.Actors {
			s.Actors[name] = w.gorms(func(g *gorm.DB) error { return g.FirstOrCreate(&entry{}, entry{ID: 3}).Error })
		}
		s.Setup, s.Check = rows, has(100, 100)
		f := caught(t, s, racetest.ActorFailed)
		assert.Equal(t, "duplicate", refusal(f.Err))
	})
}

// eachGORM leaves out what GORM has no driver for.
func eachGORM(t *testing.T, do func(*testing.T, *world)) {
	for _, d := range databases.All() {
		if strings.HasSuffix(d.Name, "/modernc") {
			continue
		}
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			do(t, newWorld(t, d, databases.Options{}))
		})
	}
}
