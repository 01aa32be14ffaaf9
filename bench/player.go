package main

import "github.com/jmoiron/sqlx"

// A Player is the row that every contender changes. The tags are sqlx's, which are also the library's; GORM and bun
// find the same columns and the same table by their own conventions.
type Player struct {
	ID      int64  `db:"id" bun:"id,pk"`
	Name    string `db:"name"`
	Score   int64  `db:"score"`
	Version int64  `db:"version"`
}

// points is what one update adds to a score. As it is one, and as scores and versions start at zero, both columns of a
// row, and both sums over the table, are numbers of updates.
const points = 1

// texts are the statements of the contenders that are written by hand, and those that make the table.
type texts struct {
	create, fill string

	read, lock string
	add        string // on MariaDB it does not return the row
	set        string
	setIf      string // if the version is still the one that was read
}

const columns = "id, name, score, version"

// texts returns the statements as the database and its driver take them.
func (d database) texts() texts {
	t := texts{
		create: "CREATE TABLE players (id BIGINT PRIMARY KEY, name VARCHAR(100) NOT NULL, score BIGINT NOT NULL, version BIGINT NOT NULL)",
		read:   "SELECT " + columns + " FROM players WHERE id = ?",
		add:    "UPDATE players SET score = score + ?, version = version + 1 WHERE id = ?",
		set:    "UPDATE players SET score = ?, version = ? WHERE id = ?",
		setIf:  "UPDATE players SET score = ?, version = ? WHERE id = ? AND version = ?",
	}
	t.lock = t.read + d.lockClause()
	const insert = "INSERT INTO players (" + columns + ") "
	switch d {
	case sqlite:
		t.create = "CREATE TABLE players (id INTEGER PRIMARY KEY, name TEXT NOT NULL, score INTEGER NOT NULL, version INTEGER NOT NULL)"
		t.fill = "WITH RECURSIVE ids(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM ids WHERE id < %d) " +
			insert + "SELECT id, 'player ' || id, 0, 0 FROM ids"
		t.add += " RETURNING " + columns
	case postgres:
		t.fill = insert + "SELECT id, 'player ' || id, 0, 0 FROM generate_series(1, %d) AS ids(id)"
		t.add += " RETURNING " + columns
	case mariadb:
		t.fill = insert + "SELECT seq, concat('player ', seq), 0, 0 FROM seq_1_to_%d"
	}
	for _, text := range []*string{&t.read, &t.lock, &t.add, &t.set, &t.setIf} {
		*text = sqlx.Rebind(sqlx.BindType(d.driver()), *text)
	}
	return t
}

// lockStrength is what a SELECT that locks the row is FOR. SQLite locks no rows; a transaction there is the lock.
func (d database) lockStrength() string {
	return map[database]string{postgres: "NO KEY UPDATE", mariadb: "UPDATE"}[d]
}

func (d database) lockClause() string {
	if d == sqlite {
		return ""
	}
	return " FOR " + d.lockStrength()
}
