package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/dialect"
)

// CheckShared returns an error if each connection of the pool would have a database of its own, as those to SQLite's
// ":memory:" have: updates would go to a random one of them.
func (p *Pool) CheckShared(ctx context.Context) error {
	if p.dialect.Databases == "" {
		return nil
	}
	first, err := p.db.Connx(ctx)
	if err != nil {
		return fmt.Errorf("raceproof: take a connection: %w", err)
	}
	defer func() { _ = first.Close() }()
	var name, file string
	if err := first.QueryRowContext(ctx, p.dialect.Databases).Scan(&name, &file); err != nil {
		return fmt.Errorf("raceproof: look at the database: %w", err)
	}
	if file != "" || p.db.Stats().MaxOpenConnections == 1 {
		return nil
	}
	if max := p.db.Stats().MaxOpenConnections; max > 1 && p.db.Stats().InUse >= max {
		return errors.New("raceproof: no connection is free to find out whether the pool's connections share their database in memory")
	}
	second, err := p.db.Connx(ctx)
	if err != nil {
		return fmt.Errorf("raceproof: take a second connection: %w", err)
	}
	defer func() { _ = second.Close() }()
	return p.excludes(ctx, first, second)
}

// excludes returns an error unless a transaction on one connection keeps the other from writing. That tells a cache
// that the connections share, which has no file either, from databases apart.
func (p *Pool) excludes(ctx context.Context, first, second *sqlx.Conn) error {
	if _, err := first.ExecContext(ctx, p.dialect.Begin); err != nil {
		return fmt.Errorf("raceproof: begin: %w", err)
	}
	defer func() { _, _ = first.ExecContext(ctx, "ROLLBACK") }()
	_, err := second.ExecContext(ctx, p.dialect.Begin)
	if p.dialect.Classify(err) == dialect.Busy {
		return nil
	}
	if err != nil {
		return fmt.Errorf("raceproof: begin: %w", err)
	}
	_, _ = second.ExecContext(ctx, "ROLLBACK")
	return errors.New("raceproof: the database is in memory and each connection of the pool has one of its own: " +
		"call SetMaxOpenConns(1) before New, or use a file")
}
