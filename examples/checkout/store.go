package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	_ "github.com/go-sql-driver/mysql" // the drivers that -driver can name
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/once"
)

// An Account is a row of the table checkout_accounts. Nobody changes it but package atomic, so it needs no version.
type Account struct {
	ID      int64 `db:"id" json:"id"`
	Balance int64 `db:"balance" json:"balance"` // in cents
}

var accounts = raceproof.MustTable[Account]("checkout_accounts")

// The CHECK is for other programs. This one asks whether there is enough where it charges, and so can say so.
var schema = []string{
	`CREATE TABLE IF NOT EXISTS checkout_accounts (
		id      BIGINT NOT NULL PRIMARY KEY,
		balance BIGINT NOT NULL CHECK (balance >= 0)
	)`,
	`CREATE TABLE IF NOT EXISTS checkout_orders (
		number  VARCHAR(26)  NOT NULL PRIMARY KEY,
		account BIGINT       NOT NULL REFERENCES checkout_accounts (id),
		item    VARCHAR(100) NOT NULL,
		price   BIGINT       NOT NULL
	)`,
	`INSERT INTO checkout_accounts (id, balance) SELECT 1, 5000 WHERE NOT EXISTS (SELECT 1 FROM checkout_accounts WHERE id = 1)`,
	`INSERT INTO checkout_accounts (id, balance) SELECT 2, 5000 WHERE NOT EXISTS (SELECT 1 FROM checkout_accounts WHERE id = 2)`,
}

// A store is the database.
type store struct {
	pool *sqlx.DB
	db   *raceproof.DB
}

// connections is how many the pool opens at most. A request that waits for a lock, or for another one with its key, holds
// one.
const connections = 16

// open opens the database, and makes the tables that are not there.
func open(ctx context.Context, driver, dsn string) (*store, error) {
	pool, err := sqlx.ConnectContext(ctx, driver, dsn)
	if err != nil {
		return nil, fmt.Errorf("open the database: %w", err)
	}
	pool.SetMaxOpenConns(connections)
	pool.SetMaxIdleConns(connections)
	s := &store{pool: pool}
	if s.db, err = raceproof.New(pool); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	if err := s.create(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("create the tables: %w", err), s.close())
	}
	return s, nil
}

func (s *store) create(ctx context.Context) error {
	for _, statement := range schema {
		if _, err := s.pool.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return once.CreateTable(ctx, s.db)
}

func (s *store) close() error {
	s.db.Close() // before the pool
	return s.pool.Close()
}

// account returns the account, or sql.ErrNoRows.
func (s *store) account(ctx context.Context, id int64) (Account, error) {
	var a Account
	err := s.pool.GetContext(ctx, &a, s.pool.Rebind("SELECT id, balance FROM checkout_accounts WHERE id = ?"), id)
	return a, err
}

// forget deletes the keys that are older than keep at every tick, until the context ends. Nothing else deletes them, and
// it does no harm if several services on one database do this.
func (s *store) forget(ctx context.Context, keep time.Duration, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		if n, err := once.Expire(ctx, s.db, keep); err != nil {
			log.Printf("%d old keys were deleted, and then: %v", n, err) // the next tick tries again
		}
	}
}
