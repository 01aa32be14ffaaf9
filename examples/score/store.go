package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
)

// The version column is what the optimistic pattern looks at. The updaters raise it; nothing else should write it.
const schema = `
CREATE TABLE IF NOT EXISTS players (
	id      INTEGER PRIMARY KEY,
	name    TEXT    NOT NULL,
	score   INTEGER NOT NULL CHECK (score >= 0),
	version INTEGER NOT NULL
);
INSERT INTO players (id, name, score, version) VALUES (1, 'Ada', 0, 1), (2, 'Grace', 0, 1) ON CONFLICT DO NOTHING;
`

// open opens the file with the players, and makes it if it is not there.
//
// In WAL mode nobody who reads waits for somebody who writes. The service has this one pool for the file, and one
// raceproof.DB on it, so that its writers queue up in the order in which they came.
func open(ctx context.Context, path string) (*sqlx.DB, error) {
	pool, err := sqlx.ConnectContext(ctx, "sqlite3", dsn(path))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if _, err := pool.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("create the tables in %s: %w", path, err), pool.Close())
	}
	return pool, nil
}

// dsn is how the driver is told to open the file, whatever characters are in its path.
func dsn(path string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?_journal_mode=WAL&_synchronous=NORMAL&_stmt_cache_size=64"
}

// find returns the player, or sql.ErrNoRows.
func find(ctx context.Context, pool *sqlx.DB, id any) (Player, error) {
	var p Player
	err := pool.GetContext(ctx, &p, "SELECT id, name, score, version FROM players WHERE id = ?", id)
	return p, err
}
