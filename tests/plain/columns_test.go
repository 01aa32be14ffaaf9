package plain_test

import (
	"database/sql"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
)

// A one has a column of its key, and one of a type of Go's.
type one[T any] struct {
	ID int64 `db:"id"`
	N  T     `db:"n"`
}

// integerTypes are types of integers with what they hold, of which some databases have more and SQLite has one.
var integerTypes = map[string][]struct {
	name     string
	min      int64
	max      uint64
	unsigned bool
}{
	"sqlite": {
		{"INTEGER", math.MinInt64, math.MaxInt64, false}, {"smallint(5)", math.MinInt64, math.MaxInt64, false},
		{"UNSIGNED BIG INT", math.MinInt64, math.MaxInt64, false},
	},
	"postgres": {
		{"SMALLINT", -1 << 15, 1<<15 - 1, false}, {"INTEGER", -1 << 31, 1<<31 - 1, false}, {"BIGINT", math.MinInt64, math.MaxInt64, false},
		{"SMALLSERIAL", -1 << 15, 1<<15 - 1, false},
	},
	"mariadb": {
		{"TINYINT", -1 << 7, 1<<7 - 1, false}, {"TINYINT UNSIGNED", 0, 1<<8 - 1, true},
		{"SMALLINT", -1 << 15, 1<<15 - 1, false}, {"SMALLINT UNSIGNED", 0, 1<<16 - 1, true},
		{"MEDIUMINT", -1 << 23, 1<<23 - 1, false}, {"MEDIUMINT UNSIGNED", 0, 1<<24 - 1, true},
		{"INT", -1 << 31, 1<<31 - 1, false}, {"INT UNSIGNED", 0, 1<<32 - 1, true}, {"INTEGER(3) ZEROFILL", 0, 1<<32 - 1, true},
		{"BIGINT", math.MinInt64, math.MaxInt64, false}, {"BIGINT(5) UNSIGNED", 0, math.MaxUint64, true},
	},
}

// What a type holds and the next to it that it does not are told apart, and the database agrees.
func TestIntegers(t *testing.T) {
	each(t, func(t *testing.T, d databases.Database, pool *sqlx.DB) {
		db := opened(t, pool)
		update := pool.Rebind(`UPDATE ints SET n = ?`)
		for _, typ := range integerTypes[d.Dialect] {
			run(t, pool, "DROP TABLE IF EXISTS ints;\nCREATE TABLE ints (id BIGINT PRIMARY KEY, n "+typ.name+");\nINSERT INTO ints VALUES (1, 1)")
			p, u := plainOf[one[int64]](t, db, "ints"), plainOf[one[uint64]](t, db, "ints")
			maybe := plainOf[one[sql.Null[int64]]](t, db, "ints")
			small := plainOf[one[int8]](t, db, "ints")
			assert.True(t, p.Integer(1) && u.Integer(1) && maybe.Integer(1) && small.Integer(1), typ.name)
			for _, n := range []int64{typ.min, typ.min + 1, -1, 0, 1, 100, math.MaxInt64, typ.min - 1, int64(typ.max), int64(typ.max) + 1} {
				_, err := pool.Exec(update, n)
				assert.Equal(t, err == nil, holds(p, 1, one[int64]{N: n}), "%s: %d", typ.name, n)
				assert.Equal(t, err == nil, holds(maybe, 1, one[sql.Null[int64]]{N: sql.Null[int64]{V: n, Valid: true}}), "%s: %d", typ.name, n)
				if n == int64(int8(n)) {
					assert.Equal(t, err == nil, holds(small, 1, one[int8]{N: int8(n)}), "%s: %d", typ.name, n)
				}
				if n >= 0 {
					assert.Equal(t, err == nil, holds(u, 1, one[uint64]{N: uint64(n)}), "%s: %d", typ.name, n)
				}
			}
			assert.False(t, holds(u, 1, one[uint64]{N: math.MaxInt64 + 1}), typ.name)
			assert.False(t, holds(maybe, 1, one[sql.Null[int64]]{}), "%s: NULL", typ.name)
		}
	})
}

type (
	withScan   int64
	withString string
	named      int64
)

func (*withScan) Scan(any) error  { return nil }
func (withString) String() string { return "x" }

// never fails the test if a field of a type is plain in column n of a table.
func never[T any](t *testing.T, db *raceproof.DB, table string, value T) {
	t.Helper()
	p := plainOf[one[T]](t, db, table)
	assert.False(t, p.Any() || p.Integer(1) || holds(p, 1, one[T]{N: value}))
}

// always is the contrary.
func always[T any](t *testing.T, db *raceproof.DB, table string, value T) {
	t.Helper()
	p := plainOf[one[T]](t, db, table)
	assert.True(t, p.Any() && holds(p, 1, one[T]{N: value}))
}

// A shared is a row part of which its copies share.
type (
	Inner struct {
		N int64 `db:"n"`
	}
	shared struct {
		ID int64 `db:"id"`
		*Inner
	}
)

// Plain are the fields that are copied with the struct, and of whose type nobody but the database makes anything.
func TestFields(t *testing.T) {
	each(t, func(t *testing.T, d databases.Database, pool *sqlx.DB) {
		db := opened(t, pool)
		run(t, pool, "CREATE TABLE ints (id BIGINT PRIMARY KEY, n BIGINT);\nCREATE TABLE texts (id BIGINT PRIMARY KEY, n TEXT);\n"+
			"CREATE TABLE bools (id BIGINT PRIMARY KEY, n BOOLEAN)")
		always(t, db, "ints", 1)
		always(t, db, "ints", uint8(1))
		always(t, db, "ints", named(1))
		always(t, db, "ints", sql.NullInt16{Valid: true})
		never(t, db, "ints", new(int64))
		never(t, db, "ints", withScan(1))
		never(t, db, "ints", sql.Null[withScan]{Valid: true})
		never(t, db, "ints", 1.0)
		never(t, db, "ints", true)
		never(t, db, "ints", "1")
		never(t, db, "texts", []byte("x"))
		never(t, db, "texts", withString("x"))
		never(t, db, "texts", int64(1))
		never(t, db, "bools", "true")
		assert.False(t, holds(plainOf[one[sql.NullBool]](t, db, "bools"), 1, one[sql.NullBool]{}), "NULL")
		if d.Kind == servers.Postgres {
			always(t, db, "bools", true)
			always(t, db, "bools", sql.NullBool{Valid: true})
		} else {
			never(t, db, "bools", true)
		}
		p := plainOf[shared](t, db, "ints")
		assert.False(t, p.Any() || p.Integer(1) || holds(p, 1, shared{Inner: &Inner{}}))
	})
}

// Texts are plain where the database stores them as they are, and as long as they are not long.
func TestTexts(t *testing.T) {
	each(t, func(t *testing.T, d databases.Database, pool *sqlx.DB) {
		db := opened(t, pool)
		for typ, on := range map[string][]string{"TEXT": {"sqlite", "postgres"}, "text": {"sqlite", "postgres"}, "VARCHAR": {"postgres"},
			"VARCHAR(20)": nil, "CHAR(20)": nil} {
			if typ == "VARCHAR" && d.Kind == servers.MariaDB {
				continue // it wants a length
			}
			run(t, pool, "DROP TABLE IF EXISTS texts;\nCREATE TABLE texts (id BIGINT PRIMARY KEY, n "+typ+")")
			p := plainOf[one[string]](t, db, "texts")
			is := strings.Contains(strings.Join(on, " "), d.Dialect)
			require.Equal(t, is, p.Any(), typ)
			assert.False(t, p.Integer(1))
			for _, text := range []string{"", "x", "日本語 \U0001F600\u007f\n'\"\\", "2020-01-01T00:00:00.100Z", strings.Repeat("x", 1<<16)} {
				assert.Equal(t, is, holds(p, 1, one[string]{N: text}), "%s: %.40q", typ, text)
				assert.Equal(t, is, holds(plainOf[one[sql.NullString]](t, db, "texts"), 1, one[sql.NullString]{N: sql.NullString{String: text, Valid: true}}))
			}
			for _, text := range []string{"a\x00b", "\xff", "\xed\xa0\x80", strings.Repeat("x", 1<<16+1)} {
				assert.False(t, holds(p, 1, one[string]{N: text}), "%s: %.40q", typ, text)
			}
			assert.False(t, holds(plainOf[one[sql.NullString]](t, db, "texts"), 1, one[sql.NullString]{}))
		}
	})
}

// A long text can be too long for an index, or for the row.
func TestTextsElsewhere(t *testing.T) {
	const texts = "CREATE TABLE texts (id BIGINT PRIMARY KEY, n TEXT, a BIGINT"
	const refers = ", k TEXT UNIQUE, FOREIGN KEY (n) REFERENCES texts (k))"
	many := ""
	for i := range 98 { // with the three there are 101
		many += fmt.Sprintf(", x%d BIGINT", i)
	}
	list := map[bool]map[string][]string{
		true: {
			"sqlite":   {texts + ")", texts + many + ")", texts + ");\nCREATE INDEX i ON texts (a)"},
			"postgres": {texts + ")", texts + strings.Replace(many, ", x0 BIGINT", "", 1) + ")", texts + ");\nCREATE INDEX i ON texts (a)"},
		},
		false: {
			"sqlite": {texts + ");\nCREATE INDEX i ON texts (n)", texts + ");\nCREATE INDEX i ON texts (a, n)", texts + ", UNIQUE (n))",
				texts + refers},
			"postgres": {texts + refers, texts + ");\nCREATE INDEX i ON texts (n)", texts + ");\nCREATE INDEX i ON texts (a, n)", texts + ", UNIQUE (n))",
				texts + ");\nCREATE INDEX i ON texts (a) INCLUDE (n)", texts + many + ")",
				texts + ");\nALTER TABLE texts ALTER n SET STORAGE PLAIN",
				texts + ", o TEXT);\nALTER TABLE texts ALTER o SET STORAGE PLAIN"},
		},
	}
	each(t, func(t *testing.T, d databases.Database, pool *sqlx.DB) {
		db := opened(t, pool)
		for plain, tables := range list {
			for _, table := range tables[d.Dialect] {
				run(t, pool, "DROP TABLE IF EXISTS texts;\n"+table)
				assert.Equal(t, plain, plainOf[one[string]](t, db, "texts").Any(), table)
			}
		}
	})
}
