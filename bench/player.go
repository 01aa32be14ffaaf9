package main

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
)

// A Player is the row that every contender changes. The tags are sqlx's, which are also the library's; GORM finds the
// same columns and the same table by its own conventions.
type Player struct {
	ID      int64  `db:"id"`
	Name    string `db:"name"`
	Score   int64  `db:"score"`
	Version int64  `db:"version"`
}

// points is what one update adds to a score. As it is one, and as scores and versions start at zero, both columns of a
// row, and both sums over the table, are numbers of updates.
const points = 1

// poolSize is the number of connections that every contender's pool may open, and may keep.
const poolSize = 4

const createPlayers = `CREATE TABLE players (
	id      INTEGER PRIMARY KEY,
	name    TEXT    NOT NULL,
	score   INTEGER NOT NULL,
	version INTEGER NOT NULL
)`

const fillPlayers = `WITH RECURSIVE ids(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < ?)
INSERT INTO players (id, name, score, version) SELECT id, 'player ' || id, 0, 0 FROM ids`

// newDatabase makes the file name below dir, with a table of the players 1 to rows, and returns the DSN for it. The DSN
// is the same for every contender of a setting.
func newDatabase(dir, name string, rows int, s setting) (dsn string, err error) {
	dsn = "file:" + filepath.Join(dir, name+".db") + "?_journal_mode=WAL&_synchronous=NORMAL"
	if s.statementCache {
		dsn += "&_stmt_cache_size=64"
	}
	db, err := sql.Open("sqlite3", dsn)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.Exec(createPlayers); err != nil {
		return "", fmt.Errorf("create the table: %w", err)
	}
	if _, err := db.Exec(fillPlayers, rows); err != nil {
		return "", fmt.Errorf("fill the table: %w", err)
	}
	return dsn, nil
}

// immediate returns the DSN with which database/sql's BeginTx takes SQLite's write lock at once. A transaction that
// only takes it when it writes fails if somebody else has written since it read.
func immediate(dsn string) string { return dsn + "&_txlock=immediate" }
