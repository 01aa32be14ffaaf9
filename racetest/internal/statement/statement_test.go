package statement

import (
	"database/sql/driver"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof/racetest/internal/search"
)

func classed(t *testing.T, want search.Class, texts ...string) {
	t.Helper()
	for _, text := range texts {
		assert.Equal(t, Info{Class: want}, Of(text), text)
	}
}

func TestReads(t *testing.T) {
	classed(t, search.Read, "SELECT score FROM players WHERE id = ?",
		" select count(*), max(v) from t where id in (1, 2) -- FOR UPDATE\n order by 1;",
		"SELECT 'FOR UPDATE', \"into\", `update` FROM t /* INSERT */",
		"WITH a (x) AS (SELECT 1) SELECT * FROM a",
		"WITH RECURSIVE a(x) AS (VALUES (1) UNION SELECT x + 1 FROM a WHERE x < 9) SELECT * FROM a",
		"SELECT * FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.id = t.id)", "EXPLAIN SELECT 1 FROM t", "VALUES (1), (2)",
		"SELECT a->>'x' FROM t", "SELECT v::text FROM t", "SELECT 'it''s' FROM t", "SHOW STATUS", "SHOW TABLE STATUS",
		"SELECT * FROM pg_class, t", "SELECT * FROM pg_class JOIN t ON true", "SELECT (SELECT v FROM t) FROM pg_class",
		"SELECT * FROM other.tables", "SELECT * FROM sqlite_sequence", "SELECT * FROM pragma_wal_checkpoint", "SELECT * FROM tables", "SELECT * FROM t WHERE 1 = 0 OR v = 0", "SELECT * FROM (SELECT * FROM t) u",
	)
}

func TestLooks(t *testing.T) {
	classed(t, search.Look, "SHOW COLUMNS FROM t", "SHOW VARIABLES LIKE 'x'", "SHOW search_path", "DESCRIBE t",
		"PRAGMA table_info(t)", "PRAGMA main.table_xinfo('t')", "PRAGMA journal_mode", "SELECT 1", "SELECT version()",
		"SELECT * FROM t WHERE 1 = 0", "SELECT t.engine FROM information_schema.tables t JOIN information_schema.engines e ON e.engine = t.engine",
		"SELECT attname FROM pg_attribute WHERE attrelid = to_regclass('t')", "SELECT 1 FROM pg_catalog.pg_class ORDER BY relname, oid",
		"SELECT * FROM (SELECT 1 FROM pg_class) c", "SELECT name FROM pragma_database_list", "SELECT sql FROM sqlite_master",
	)
}

func TestWrites(t *testing.T) {
	classed(t, search.Write, "UPDATE t SET v = 1", "INSERT INTO t VALUES (1)", "DELETE FROM t", "REPLACE INTO t VALUES (1)",
		"SELECT v FROM t FOR UPDATE", "SELECT v FROM t FOR NO KEY UPDATE", "SELECT v FROM t LOCK IN SHARE MODE",
		"SELECT v INTO OUTFILE 'x' FROM t", "SELECT v INTO u FROM t",
		"WITH a AS (UPDATE t SET v = 1 RETURNING v) SELECT * FROM a", "EXPLAIN ANALYZE SELECT 1",
		"ROLLBACK TO SAVEPOINT a", "RELEASE a", "START SLAVE",
	)
}

// What is not known may do anything.
func TestDefines(t *testing.T) {
	classed(t, search.Define, "", ";", "(SELECT 1)", "CREATE TABLE t (v INT)", "ALTER TABLE t ADD w INT", "SELECT nextval('s')",
		"SELECT pg_advisory_lock(1)", "SELECT GET_LOCK('x', 1)", "SELECT my_function(1)", `SELECT "nextval"('s')`,
		"SELECT 1 # FOR\n", "SELECT 'a\\' FROM t WHERE v = 'b' FOR UPDATE", "SELECT 1 /*! FOR UPDATE */",
		"SELECT 5--3 FOR UPDATE", "SELECT 'open", "PRAGMA journal_mode = WAL", "PRAGMA wal_checkpoint", "PRAGMA",
		"PRAGMA user_version = 3", "PRAGMA page_size(4096)", "SET GLOBAL x = 1", "SET autocommit = 0",
		`SELECT "it\"s" FROM t FOR UPDATE`, `SELECT "a\"", v FROM t WHERE w = "" FOR UPDATE`, "SELECT 1 /* /* */ ' */ FOR UPDATE /* ' */",
		"SELECT $tag$ FOR UPDATE $tag$ FROM t", "SELECT a $b$ FROM t FOR UPDATE", "SELECT shop.total(1)", "SELECT 1 AS `a",
		"SHOW PROCESSLIST", "SHOW FULL PROCESSLIST", "SELECT * FROM information_schema.processlist", "SELECT * FROM pg_locks",
		"SELECT * FROM pg_stat_activity", "SELECT * FROM information_schema.innodb_trx",
		"SET @x = NEXTVAL(s)", "SET @x = GET_LOCK('x', 1)", "SET @x = NEXT VALUE FOR s", "SET @@autocommit = 0",
		"SET @@GLOBAL.max_connections = 9", "SET CONSTRAINTS ALL IMMEDIATE", "SET @x = (SELECT 1)", "LOCK TABLES t WRITE", "VACUUM", "TRUNCATE t", "CALL p()",
		"SET STATEMENT max_statement_time=2 FOR UPDATE t SET v = 1", "SET STATEMENT max_statement_time=2 FOR SELECT v FROM t",
		"SET @x = GET_LOCK('x', 1)", "SET @x = NEXT VALUE FOR s", `SELECT v FROM t WHERE w <> "\"" AND w = "x" FOR UPDATE`, `SELECT "a`,
	)
	assert.Equal(t, Info{Class: search.Define, Several: true}, Of("SELECT 1; SELECT 2"))
}

func TestTransactions(t *testing.T) {
	for text, want := range map[string]Info{
		"BEGIN": {Does: Begins}, "begin deferred transaction": {Does: Begins}, "START TRANSACTION READ ONLY": {Does: Begins},
		"BEGIN ISOLATION LEVEL SERIALIZABLE":         {Does: Begins},
		"BEGIN IMMEDIATE":                            {Class: search.Write, Does: Begins},
		"BEGIN EXCLUSIVE":                            {Class: search.Write, Does: Begins},
		"START TRANSACTION WITH CONSISTENT SNAPSHOT": {Class: search.Write, Does: Begins},
		"COMMIT":          {Class: search.Write, Does: Ends},
		"END;":            {Class: search.Write, Does: Ends},
		"ROLLBACK":        {Class: search.Write, Does: Ends, Undoes: true},
		"/* why */ ABORT": {Class: search.Write, Does: Ends, Undoes: true},
		"SAVEPOINT a":     {},
		"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE": {Does: Settings},
		"SET sql_mode = CONCAT(@@sql_mode, ',ANSI')":   {Does: Settings},
		"SET lock_timeout = '1s'":                      {Does: Settings},
		"PRAGMA busy_timeout = 0":                      {Does: Settings},
		"PRAGMA busy_timeout":                          {Does: Settings},
	} {
		assert.Equal(t, want, Of(text), text)
	}
}

func values(v ...any) (args []driver.NamedValue) {
	for i, v := range v {
		args = append(args, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return args
}

func TestWithValues(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC)
	for _, c := range []struct {
		text string
		args []driver.NamedValue
		want string
	}{
		{"SELECT 1", nil, "SELECT 1"},
		{"UPDATE t\n\tSET v = ? -- '?'\n WHERE w = '?' AND id=?;", values(15, int64(7)), "UPDATE t SET v = 15 WHERE w = '?' AND id=7"},
		{"SELECT $2, $1, $2", values("it's", nil), "SELECT NULL, 'it''s', NULL"},
		{"SELECT ?2, ?", values(1, 2, 3), "SELECT 2, 3 [1]"},
		{"SELECT :b, @a, :c", []driver.NamedValue{{Name: "a", Value: 1}, {Name: "b", Value: true}}, "SELECT true, 1, :c"},
		{"SELECT v::int, $$?$$, x := 1", values(2.5), "SELECT v::int, $$?$$, x := 1 [2.5]"},
		{"SELECT ?, ?, ?", values([]byte("text"), []byte{0xff, 0}, at), "SELECT 'text', x'ff00', '2026-02-03 04:05:06.000007'"},
		{"SELECT ?", values(strings.Repeat("x", 99)), "SELECT '" + strings.Repeat("x", 59) + "…'"},
		{"SELECT ?, ?", values(1), "SELECT 1, ?"},
	} {
		assert.Equal(t, c.want, WithValues(c.text, c.args))
	}
}

func TestMasked(t *testing.T) {
	for text, want := range map[string]string{
		"UPDATE t SET holder = X'00ff', n = 1 WHERE name = X'6a' -- X'01'": "UPDATE t SET holder = X'', n = 1 WHERE name = X'' -- X'01'",
		"SELECT 'X''00', \"X'1\", MAX'00' FROM t WHERE n = 'a'":            "SELECT 'X''00', \"X'1\", MAX'00' FROM t WHERE n = 'a'",
		"SAVEPOINT s1; SET LOCAL lock_timeout = 59999":                     "SAVEPOINT s1; SET LOCAL lock_timeout = 0",
		" set a = 7, b2 = '7'; UPDATE t SET n = 7":                         " set a = 0, b2 = '7'; UPDATE t SET n = 7",
		"UPDATE t SET n = 7": "UPDATE t SET n = 7",
		"SELECT X FROM t":    "SELECT X FROM t",
		"SELECT X, 'a', X'":  "SELECT X, 'a', X''",
	} {
		assert.Equal(t, want, Masked(text))
	}
}

// The tokens of a text are the text, whatever it is.
func FuzzScan(f *testing.F) {
	for _, text := range []string{"SELECT 'a", "$1 $a$ x $a$ :b @c", "/* x", "-- y", "é\xff#\x00", "`a``b`", "'\\''"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var b strings.Builder
		for _, token := range scan(text) {
			assert.NotEmpty(t, token.text)
			b.WriteString(token.text)
		}
		assert.Equal(t, text, b.String())
		_ = Of(text)
		_ = WithValues(text, nil)
	})
}
