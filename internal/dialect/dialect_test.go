package dialect_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/testdb"
)

func sqlite(t testing.TB) *dialect.Dialect {
	d, err := dialect.ByName("sqlite")
	require.NoError(t, err)
	return d
}

func TestByDriver(t *testing.T) {
	d, err := dialect.ByDriver("sqlite3", "")
	require.NoError(t, err)
	assert.Equal(t, "sqlite", d.Name)
	d, err = dialect.ByDriver("sqlite3-traced", "github.com/mattn/go-sqlite3")
	require.NoError(t, err)
	assert.Equal(t, "sqlite", d.Name)
	for name, want := range map[string]string{"pgx": "postgres", "pgx/v5": "postgres", "postgres": "postgres", "mysql": "mysql", "sqlite": "sqlite"} {
		d, err := dialect.ByDriver(name, "")
		require.NoError(t, err)
		assert.Equal(t, want, d.Name)
	}
	_, err = dialect.ByDriver("oracle", "example.com/oracle")
	assert.ErrorContains(t, err, `unknown driver "oracle"`)
	assert.ErrorContains(t, err, "sqlite3")
	_, err = dialect.ByName("oracle")
	assert.ErrorContains(t, err, `unknown dialect "oracle"`)
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "_", "score", "Punkte_2", "größe", "a$b", strings.Repeat("x", 63)} {
		assert.NoError(t, dialect.CheckName(name), name)
	}
	for _, name := range []string{"", " ", "a b", "a;b", "a\x00", `a"b`, "a`b", "a'b", "1a", "$a", "a.b", "a-b", "a\n", "a\xff",
		strings.Repeat("x", 64), "a]", "[a", "a/*", "--"} {
		assert.Error(t, dialect.CheckName(name), "%q", name)
		assert.Error(t, dialect.CheckTable("game."+name), "%q", name)
	}
	assert.NoError(t, dialect.CheckTable("game.players"))
	for _, name := range []string{"a.b.c", ".a", "a.", "."} {
		assert.Error(t, dialect.CheckTable(name), "%q", name)
	}
}

// Every dialect has all that the packages above ask it for.
func TestDialects(t *testing.T) {
	assert.Equal(t, []string{"mysql", "postgres", "sqlite"}, dialect.Names())
	for _, name := range dialect.Names() {
		d, err := dialect.ByName(name)
		require.NoError(t, err)
		for _, text := range []string{d.Begin, d.Probe, string(d.Quotient)} {
			assert.NotEmpty(t, text, name)
		}
		assert.Positive(t, d.RowAtOnce, "%s: nobody would ever get to a row", name)
		assert.Equal(t, dialect.Other, d.Classify(nil), name)
		assert.Equal(t, dialect.Other, d.Classify(errors.New("an error like any other")), name)
		assert.False(t, d.EndsTransaction(nil), name)
		assert.Equal(t, d.InProcess, d.Refused(errors.New("an error like any other")), "%s: what is not the database's own refusal is unknown", name)
	}
}

func TestParameters(t *testing.T) {
	for name, want := range map[string]string{
		"sqlite":   "SELECT `a` WHERE ? AND ? AND ?",
		"postgres": `SELECT "a" WHERE CAST($1 AS bigint) AND $2 AND CAST($3 AS double precision)`,
		"mysql":    "SELECT `a` WHERE ? AND ? AND ?",
	} {
		d, err := dialect.ByName(name)
		require.NoError(t, err)
		part := d.NewSQL().Value("x").Add(" AND ").Float(1.5)
		s := d.NewSQL().Add("SELECT ").Name("a").Add(" WHERE ").Integer(int64(7)).Add(" AND ").Append(part).Statement()
		assert.Equal(t, want, s.Text)
		assert.Equal(t, []any{int64(7), "x", 1.5}, s.Args)
	}
}

func TestWaits(t *testing.T) {
	forEver := time.Duration(math.MaxInt64)
	for limit, want := range map[time.Duration]struct{ set, prefix, condition string }{
		0:                     {"", "", ""},
		1:                     {"; SET LOCAL lock_timeout = 1", "1", "1"},
		time.Millisecond + 1:  {"; SET LOCAL lock_timeout = 2", "1", "2"},
		time.Second + 1:       {"; SET LOCAL lock_timeout = 1001", "2", "1001"},
		5 * time.Second:       {"; SET LOCAL lock_timeout = 5000", "8", "5000"},
		24 * 25 * time.Hour:   {"; SET LOCAL lock_timeout = 2147483647", "", "2147483647"},
		forEver:               {"; SET LOCAL lock_timeout = 2147483647", "", "2147483647"},
		forEver/2 + time.Hour: {"; SET LOCAL lock_timeout = 2147483647", "", "2147483647"},
	} {
		for _, name := range dialect.Names() {
			d, err := dialect.ByName(name)
			require.NoError(t, err)
			set, condition := d.SetWaiting(limit), d.NewSQL().WaitAtMost(limit).Statement()
			if name != "postgres" {
				assert.Empty(t, set, "%s %v", name, limit)
				assert.Empty(t, condition.Text, "%s %v", name, limit)
			} else {
				assert.Equal(t, want.set, set, limit)
				assert.Equal(t, want.condition != "", slices.Contains(condition.Args, any(want.condition)), limit)
			}
			if prefix := d.WaitPrefix(limit); name == "mysql" && want.prefix != "" {
				assert.Contains(t, prefix, "(@@innodb_lock_wait_timeout,"+want.prefix+")", limit)
			} else {
				assert.Empty(t, prefix, "%s %v", name, limit)
			}
		}
	}
}

// Whatever passes as a name reaches SQLite as that one name, and nothing else passes.
func FuzzName(f *testing.F) {
	for _, seed := range []string{"score", "a b", "a\"; DROP TABLE x; --", "a`", "select", "größe", "x\x00y", "ſ", "٣", "a$"} {
		f.Add(seed)
	}
	pool := testdb.Open(f, "file::memory:")
	pool.SetMaxOpenConns(1)
	d := sqlite(f)
	f.Fuzz(func(t *testing.T, name string) {
		if dialect.CheckName(name) != nil {
			return
		}
		assert.False(t, strings.ContainsAny(name, "\"'`[]; \t\r\n\x00.\\"), "%q passed", name)
		s := d.NewSQL().Add("SELECT 1 AS ").Name(name).Statement()
		rows, err := pool.Query(s.Text)
		require.NoError(t, err, s.Text)
		defer rows.Close()
		columns, err := rows.Columns()
		require.NoError(t, err)
		assert.Equal(t, []string{name}, columns)
	})
}

func TestSQL(t *testing.T) {
	d := sqlite(t)
	s := d.NewSQL().Add("SELECT ").Name("a").Add(" FROM ").Name("game.players").Add(" WHERE ").Name("b").Add(" = ").Value(7)
	s.Append(d.NewSQL().Add(" AND c = ").Value("x"))
	assert.Equal(t, "SELECT `a` FROM `game`.`players` WHERE `b` = ? AND c = ?", s.Statement().Text)
	assert.Equal(t, []any{7, "x"}, s.Statement().Args)
}

// impostor looks like an error of SQLite's to whoever looks only for a code.
type impostor struct{ ExtendedCode int }

func (impostor) Error() string { return "database is locked" }
func (impostor) Code() int     { return 5 }

func TestClassifyKnowsDriversOnly(t *testing.T) {
	d := sqlite(t)
	var none *impostor
	for _, err := range []error{nil, errors.New("database is locked"), impostor{5}, &impostor{5}, none,
		fmt.Errorf("wrapped: %w", impostor{5}), errors.Join(impostor{5}, errors.New("x"))} {
		assert.Equal(t, dialect.Other, d.Classify(err), "%#v", err)
	}
}

// What the driver really returns for what really happens.
func TestClassifySQLite(t *testing.T) {
	d := sqlite(t)
	dsn := testdb.File(t, "_busy_timeout=0", "_txlock=deferred")
	one, other := testdb.Open(t, dsn), testdb.Open(t, dsn)
	one.MustExec("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER CHECK (n < 1000))")
	one.MustExec("INSERT INTO t VALUES (1, 0)")

	tx := one.MustBegin()
	tx.MustExec("UPDATE t SET n = 1")
	_, err := other.Exec("UPDATE t SET n = 2")
	assert.Equal(t, dialect.Busy, d.Classify(err), "%v", err)
	assert.Equal(t, dialect.Busy, d.Classify(fmt.Errorf("a: %w", errors.Join(errors.New("b"), err))))
	require.NoError(t, tx.Rollback())

	reader := one.MustBegin()
	var n int
	require.NoError(t, reader.Get(&n, "SELECT n FROM t"))
	other.MustExec("UPDATE t SET n = 3")
	_, err = reader.Exec("UPDATE t SET n = n + 1")
	assert.Equal(t, dialect.Conflict, d.Classify(err), "%v", err)
	require.NoError(t, reader.Rollback())

	_, err = one.Exec("SELECT zeroblob(9223372036854775807)")
	assert.Equal(t, dialect.OutOfRange, d.Classify(err), "%v", err)
	for _, statement := range []string{"UPDATE t SET n = 5000", "INSERT INTO t VALUES (1, 1)", "SELECT", "SELECT * FROM missing"} {
		_, err = one.Exec(statement)
		require.Error(t, err)
		assert.Equal(t, dialect.Other, d.Classify(err), "%v", err)
	}
}
