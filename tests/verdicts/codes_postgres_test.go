package verdicts_test

import (
	"context"

	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/tests/databases"
)

const (
	readAda  = `SELECT score FROM players WHERE id = 7`
	writeAda = `UPDATE players SET score = score + 1 WHERE id = 7`
	writeBob = `UPDATE players SET score = score + 1 WHERE id = 8`
)

// skew lets two serializable transactions each read what the other writes, and returns the error of the second COMMIT.
func skew(s *stage) error {
	one, two := s.conn(), s.conn()
	s.run(one, `BEGIN ISOLATION LEVEL SERIALIZABLE`, readAda, `SELECT score FROM players WHERE id = 8`)
	s.run(two, `BEGIN ISOLATION LEVEL SERIALIZABLE`, readAda, `SELECT score FROM players WHERE id = 8`)
	s.run(one, writeAda)
	s.run(two, writeBob)
	s.run(one, `COMMIT`)
	return try(two, `COMMIT`)
}

// held returns the error of a statement that somebody's lock on Ada is in the way of.
func held(s *stage, statement string, parameters ...string) error {
	holder, c := s.conn(), s.conn(parameters...)
	s.run(holder, `BEGIN`, writeAda)
	s.run(c, `BEGIN`)
	err := try(c, statement)
	s.run(holder, `ROLLBACK`)
	s.run(c, `ROLLBACK`)
	return err
}

// stopped returns the error of a statement that waits for a lock when another connection stops it: by a query that is
// given the number of its connection.
func stopped(s *stage, number, stop string) error {
	holder, c := s.conn(), s.conn()
	var id int64
	require.NoError(s, c.GetContext(context.Background(), &id, number))
	s.run(holder, `BEGIN`, writeAda)
	result := make(chan error, 1)
	go func() { result <- try(c, writeAda) }()
	s.Waiting()
	_, err := s.Look.Exec(s.Look.Rebind(stop), id)
	require.NoError(s, err)
	err = <-result
	s.run(holder, `ROLLBACK`)
	return err
}

// deferred makes the names of another table unique only at the end of a transaction.
func deferred(s *stage) {
	s.run(s.Look, `CREATE TABLE IF NOT EXISTS deferred (name TEXT, UNIQUE (name) DEFERRABLE INITIALLY DEFERRED)`,
		`DELETE FROM deferred`, `INSERT INTO deferred VALUES ('Ada'), ('Bob')`)
}

var ofPostgres = []failure{
	{name: "serialization failure", code: "40001", class: dialect.Conflict, provoke: func(s *stage) error {
		c := s.conn()
		s.run(c, `BEGIN ISOLATION LEVEL REPEATABLE READ`, readAda)
		s.run(s.Look, writeAda)
		return try(c, writeAda)
	}},
	{name: "serialization failure at COMMIT", code: "40001", class: dialect.Conflict, provoke: skew},
	{name: "deadlock", code: "40P01", class: dialect.Conflict, provoke: func(s *stage) error {
		c, other := s.conn("deadlock_timeout", "10ms"), s.conn("deadlock_timeout", "60s")
		s.run(c, `BEGIN`, writeAda)
		s.run(other, `BEGIN`, writeBob)
		done := make(chan error, 1)
		go func() { done <- try(other, writeAda) }()
		s.Waiting()
		err := try(c, writeBob)
		require.NoError(s, <-done)
		s.run(other, `ROLLBACK`)
		return err
	}},
	{name: "lock wait timeout", code: "55P03", class: dialect.Busy, provoke: func(s *stage) error {
		return held(s, writeAda, "lock_timeout", "20ms")
	}},
	{name: "NOWAIT", code: "55P03", class: dialect.Busy, provoke: func(s *stage) error {
		return held(s, readAda+` FOR UPDATE NOWAIT`)
	}},
	{name: "in an aborted transaction", code: "25P02", provoke: func(s *stage) error {
		c := s.conn()
		s.run(c, `BEGIN`)
		require.Error(s, try(c, `SELECT 1 / 0`))
		return try(c, readAda)
	}},
	{name: "outside of a transaction", code: "25P01", provoke: func(s *stage) error {
		c := s.conn()
		err := try(c, s.Dialect.Probe)
		require.True(s, s.Dialect.Outside(err))
		s.run(c, `BEGIN`)
		require.False(s, s.Dialect.Outside(try(c, s.Dialect.Probe)))
		require.Error(s, try(c, `SELECT 1 / 0`))
		require.False(s, s.Dialect.Outside(try(c, s.Dialect.Probe)))
		return err
	}},
	{name: "unique", code: "23505", provoke: func(s *stage) error {
		return try(s.conn(), `UPDATE players SET name = 'Bob' WHERE id = 7`)
	}},
	{name: "unique at COMMIT", code: "23505", provoke: func(s *stage) error {
		deferred(s)
		c := s.conn()
		s.run(c, `BEGIN`, `UPDATE deferred SET name = 'Bob'`)
		return try(c, `COMMIT`)
	}},
	{name: "unique after the last row", code: "23505", provoke: func(s *stage) error {
		deferred(s)
		rows, err := s.conn().QueryContext(context.Background(), `UPDATE deferred SET name = 'Bob' WHERE name = 'Ada' RETURNING name`)
		require.NoError(s, err)
		defer func() { _ = rows.Close() }()
		require.True(s, rows.Next())
		var name string
		require.NoError(s, rows.Scan(&name))
		require.False(s, rows.Next())
		return rows.Err()
	}},
	{name: "foreign key at COMMIT", code: "23503", provoke: func(s *stage) error {
		s.run(s.Look, `CREATE TABLE prizes (player BIGINT REFERENCES players DEFERRABLE INITIALLY DEFERRED)`)
		c := s.conn()
		s.run(c, `BEGIN`, `INSERT INTO prizes VALUES (99)`)
		return try(c, `COMMIT`)
	}},
	{name: "check", code: "23514", provoke: func(s *stage) error {
		return try(s.conn(), `UPDATE players SET score = -1`)
	}},
	{name: "out of range", code: "22003", class: dialect.OutOfRange, provoke: func(s *stage) error {
		return try(s.conn(), `UPDATE players SET score = score + 9223372036854775807`)
	}},
	{name: "division by zero", code: "22012", class: dialect.OutOfRange, provoke: func(s *stage) error {
		return try(s.conn(), `UPDATE players SET score = score / level`)
	}},
	{name: "too long", code: "22001", class: dialect.OutOfRange, provoke: func(s *stage) error {
		return try(s.conn(), `UPDATE players SET name = repeat('x', 100)`)
	}},
	{name: "read only", code: "25006", provoke: func(s *stage) error {
		return try(s.conn("default_transaction_read_only", "on"), writeAda)
	}},
	{name: "statement timeout", code: "57014", unknown: true, provoke: func(s *stage) error {
		return held(s, writeAda, "statement_timeout", "20ms")
	}},
	{name: "cancelled", code: "57014", unknown: true, provoke: func(s *stage) error {
		return stopped(s, `SELECT pg_backend_pid()`, `SELECT pg_cancel_backend(?)`)
	}},
	{name: "no such table", code: "42P01", provoke: func(s *stage) error { return try(s.conn(), `UPDATE missing SET n = 1`) }},
	{name: "no such column", code: "42703", provoke: func(s *stage) error { return try(s.conn(), `UPDATE players SET n = 1`) }},
	{name: "another type", code: "42804", provoke: func(s *stage) error { return try(s.conn(), `UPDATE players SET score = true`) }},
	{name: "no privilege", code: "42501", provoke: func(s *stage) error {
		c := s.conn()
		s.run(c, `SET ROLE pg_monitor`)
		return try(c, `DELETE FROM pg_authid`)
	}},
	{name: "no such role", code: "28000", provoke: func(s *stage) error {
		pool := s.As("nobody_of_this_name", "", databases.Options{})
		defer func() { _ = pool.Close() }()
		return pool.Ping()
	}},
}

// lib/pq says that the connection is bad, and not why.
var ofPgx = []failure{
	{name: "terminated", code: "57P01", provoke: func(s *stage) error {
		return stopped(s, `SELECT pg_backend_pid()`, `SELECT pg_terminate_backend(?)`)
	}},
}
