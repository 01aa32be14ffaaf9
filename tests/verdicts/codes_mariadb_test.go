package verdicts_test

import (
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/tests/databases"
)

// deadlocked lets a transaction on a connection, which has changed Ada, wait for Bob while his holder waits for her. The
// server gives up the one that has changed fewer rows.
func deadlocked(s *stage, do func() error) error {
	other := s.conn()
	s.run(s.Look, `CREATE TABLE ballast AS SELECT seq FROM seq_1_to_100`)
	defer s.run(s.Look, `DROP TABLE ballast`)
	s.run(other, `BEGIN`, `DELETE FROM ballast`, writeBob)
	defer s.run(other, `ROLLBACK`)
	done := make(chan error, 1)
	go func() { done <- try(other, writeAda) }()
	s.Waiting()
	err := do()
	require.NoError(s, <-done)
	return err
}

var ofMariaDB = []failure{
	{name: "changed since it was read", code: "1020", class: dialect.Conflict, ends: true, provoke: func(s *stage) error {
		c := s.conn("innodb_snapshot_isolation", "ON")
		s.run(c, `BEGIN`, readAda)
		s.run(s.Look, writeAda)
		err := try(c, writeAda)
		require.True(s, s.Dialect.Outside(try(c, s.Dialect.Probe)), "the transaction is gone")
		return err
	}},
	{name: "deadlock", code: "1213", class: dialect.Conflict, ends: true, provoke: func(s *stage) error {
		c := s.conn()
		s.run(c, `BEGIN`, writeAda)
		err := deadlocked(s, func() error { return try(c, writeBob) })
		require.True(s, s.Dialect.Outside(try(c, s.Dialect.Probe)), "the transaction is gone")
		return err
	}},
	{name: "lock wait timeout", code: "1205", class: dialect.Busy, provoke: func(s *stage) error {
		return held(s, writeAda, "innodb_lock_wait_timeout", "0")
	}},
	{name: "NOWAIT", code: "1205", class: dialect.Busy, provoke: func(s *stage) error {
		return held(s, readAda+` FOR UPDATE NOWAIT`)
	}},
	{name: "lock wait timeout, and the transaction goes on", code: "1205", class: dialect.Busy, provoke: func(s *stage) error {
		holder, c := s.conn(), s.conn("innodb_lock_wait_timeout", "0")
		s.run(holder, `BEGIN`, writeAda)
		s.run(c, `BEGIN`, writeBob)
		err := try(c, writeAda)
		require.False(s, s.Dialect.Outside(try(c, s.Dialect.Probe)))
		s.run(c, `ROLLBACK`)
		require.True(s, s.Dialect.Outside(try(c, s.Dialect.Probe)))
		s.run(holder, `ROLLBACK`)
		s.Unchanged()
		return err
	}},
	{name: "the probe inside", code: "1568", unknown: true, provoke: func(s *stage) error {
		c := s.conn()
		s.run(c, `BEGIN`)
		return try(c, s.Dialect.Probe)
	}},
	{name: "unique", code: "1062", provoke: func(s *stage) error {
		return try(s.conn(), `UPDATE players SET name = 'Bob' WHERE id = 7`)
	}},
	{name: "foreign key, child", code: "1452", provoke: func(s *stage) error {
		s.run(s.Look, `CREATE TABLE prizes (player BIGINT NOT NULL, FOREIGN KEY (player) REFERENCES players (id))`)
		return try(s.conn(), `INSERT INTO prizes VALUES (99)`)
	}},
	{name: "foreign key, parent", code: "1451", provoke: func(s *stage) error {
		s.run(s.Look, `INSERT INTO prizes VALUES (7)`)
		defer s.run(s.Look, `DROP TABLE prizes`)
		return try(s.conn(), `DELETE FROM players WHERE id = 7`)
	}},
	{name: "check", code: "4025", provoke: func(s *stage) error {
		return try(s.conn(), `UPDATE players SET score = -1`)
	}},
	// These five cannot be the answer to a COMMIT, so that nothing need be known of it.
	{name: "beyond the column", code: "1264", class: dialect.OutOfRange, unknown: true, provoke: func(s *stage) error {
		return try(s.conn(), `UPDATE players SET level = 40000`)
	}},
	{name: "out of range", code: "1690", class: dialect.OutOfRange, unknown: true, provoke: func(s *stage) error {
		return try(s.conn(), `UPDATE players SET score = score + 9223372036854775807`)
	}},
	{name: "division by zero", code: "1365", class: dialect.OutOfRange, unknown: true, provoke: func(s *stage) error {
		return try(s.conn(), `UPDATE players SET score = score / level`)
	}},
	{name: "too long", code: "1406", class: dialect.OutOfRange, unknown: true, provoke: func(s *stage) error {
		return try(s.conn(), `UPDATE players SET name = repeat('x', 100)`)
	}},
	{name: "another type", code: "1366", unknown: true, provoke: func(s *stage) error {
		return try(s.conn(), `UPDATE players SET score = 'x'`)
	}},
	{name: "read only transaction", code: "1792", provoke: func(s *stage) error {
		c := s.conn()
		s.run(c, `START TRANSACTION READ ONLY`)
		return try(c, writeAda)
	}},
	{name: "statement timeout", code: "1969", unknown: true, provoke: func(s *stage) error {
		return held(s, writeAda, "max_statement_time", "0.02")
	}},
	{name: "cancelled", code: "1317", unknown: true, provoke: func(s *stage) error {
		return stopped(s, `SELECT connection_id()`, `KILL QUERY ?`)
	}},
	{name: "no such table", code: "1146", unknown: true, provoke: func(s *stage) error { return try(s.conn(), `UPDATE missing SET n = 1`) }},
	{name: "no such column", code: "1054", unknown: true, provoke: func(s *stage) error { return try(s.conn(), `UPDATE players SET n = 1`) }},
	{name: "no privilege", code: "1142", unknown: true, provoke: func(s *stage) error {
		s.run(s.Look, `CREATE USER IF NOT EXISTS reader_of_codes IDENTIFIED BY 'secret'`, `GRANT SELECT ON players TO reader_of_codes`)
		pool := s.As("reader_of_codes", "secret", databases.Options{})
		defer func() { _ = pool.Close() }()
		return try(pool, writeAda)
	}},
	{name: "wrong password", code: "1045", unknown: true, provoke: func(s *stage) error {
		defer s.run(s.Look, `DROP USER reader_of_codes`)
		pool := s.As("reader_of_codes", "wrong", databases.Options{})
		defer func() { _ = pool.Close() }()
		return pool.Ping()
	}},
	{name: "no such database", code: "1049", unknown: true, provoke: func(s *stage) error {
		return try(s.conn(), `USE none_of_this_name`)
	}},
}
