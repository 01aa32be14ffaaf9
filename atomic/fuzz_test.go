package atomic

import (
	"context"
	"errors"
	"math"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/testdb"
)

type target struct {
	ID    int64   `db:"id"`
	A     int64   `db:"a"`
	Ratio float64 `db:"ratio"`
	Name  string  `db:"name"`
	Maybe *int64  `db:"maybe"`
	Rev   int64   `db:"rev,version"`
}

// A grower makes an expression of the bytes of a fuzzer: each byte is a decision.
type grower struct {
	bytes []byte
	text  string
}

func (g *grower) next() byte {
	if len(g.bytes) == 0 {
		return 0
	}
	b := g.bytes[0]
	g.bytes = g.bytes[1:]
	return b
}

func (g *grower) leaf() Expr {
	b := g.next()
	switch b % 8 {
	case 0, 1, 2:
		return F([]string{"a", "ratio", "name", "maybe", "id", "rev", "REV", "nobody"}[b/8%8])
	case 3:
		return F(g.text)
	case 4:
		return Value(g.text)
	case 5:
		return Value([]any{0, 1, -1, math.MaxInt64, math.MinInt64, nil, true, []byte(g.text)}[b/8%8])
	case 6:
		return Value([]any{0.0, 1.5, math.Inf(1), math.NaN(), math.MaxFloat64, -0.5, "", Expr{}}[b/8%8])
	}
	return Value(int64(b))
}

func (g *grower) expr(depth int) Expr {
	if depth == 0 {
		return g.leaf()
	}
	switch e := g.expr(depth - 1); g.next() % 8 {
	case 0:
		return e.Add(g.expr(depth - 1))
	case 1:
		return e.Sub(g.leaf())
	case 2:
		return e.Mul(g.leaf())
	case 3:
		return e.Div(g.expr(depth - 1))
	case 4:
		return e.Mod(g.leaf())
	case 5:
		return e.Neg()
	case 6:
		return e.Coalesce(g.leaf())
	default:
		return e
	}
}

func (g *grower) condition(depth int) Condition {
	if depth == 0 {
		e, operand := g.expr(1), g.leaf()
		return []Condition{e.Eq(operand), e.Ne(operand), e.Lt(operand), e.Le(operand), e.Gt(operand), e.Ge(operand),
			e.IsNull(), e.IsNotNull()}[g.next()%8]
	}
	switch c := g.condition(depth - 1); g.next() % 4 {
	case 0:
		return c.And(g.condition(depth - 1))
	case 1:
		return c.Or(g.condition(depth - 1))
	case 2:
		return Not(c)
	default:
		return c
	}
}

var (
	quoted = regexp.MustCompile("`[a-zA-Z]+`")
	// words are all that may stand in a statement beside quoted names and ?.
	words = strings.NewReplacer("UPDATE", "", "SET", "", "WHERE", "", "RETURNING", "", "CASE", "", "typeof", "", "WHEN", "", "'real'", "",
		"THEN", "", "zeroblob", "", "CAST", "", "AS REAL", "", "AS INTEGER", "", "9223372036854775807", "", "ELSE", "", "END", "", "coalesce", "", "AND", "", "OR", "", "NOT", "",
		"IS", "", "NULL", "", " 0 ", "", " 1", "", "?", "")
)

// Whatever goes in: the change is refused, or its statement is one UPDATE that SQLite can prepare, made of nothing but
// the words of this package, names of the table's columns and bound values; and running it changes the one row, to
// values of the types that the struct has, or nothing.
func FuzzChange(f *testing.F) {
	f.Add("name", "a", []byte{0, 1, 2, 3})
	f.Add("a", "x'; DROP TABLE things; --", []byte{4, 8, 3, 0, 9, 77, 3})
	f.Add("ratio", "a` = 1; --", []byte{3, 3, 3, 5, 21, 6, 60, 6})
	f.Add("a;", "\x00", []byte("Div and Mod and everything else that there is in the world"))
	f.Add("maybe", "a", []byte{29, 0, 0, 29, 3, 0, 0, 29, 1, 0, 0, 0, 0, 0, 0, 0, 7, 7, 7})

	pool, db := testdb.SQLite(f, `CREATE TABLE things (id INTEGER PRIMARY KEY, a INTEGER NOT NULL, ratio REAL NOT NULL,
		name TEXT NOT NULL, maybe INTEGER, rev INTEGER NOT NULL)`, `INSERT INTO things VALUES (2, 1, 1, 'other', 1, 1)`)
	table := raceproof.MustTable[target]("things")
	u := New(db, table, nil)
	f.Fuzz(func(t *testing.T, column, text string, bytes []byte) {
		g := &grower{bytes, text}
		change := Set(column, g.expr(3))
		for range g.next() % 3 {
			change = change.Set([]string{"a", "ratio", "name", "maybe"}[g.next()%4], g.expr(2))
		}
		if g.next()%2 == 0 {
			change = change.If(g.condition(2))
		}
		pool.MustExec(`REPLACE INTO things VALUES (1, 7, 0.5, 'x', NULL, 0)`)
		if change.check(table.Mapping(), db.Pool().Dialect()) == nil {
			update, err := u.statement(row.Key{int64(1)}, change)
			require.NoError(t, err)
			checkStatement(t, u.table.SQL(update))
		}
		got, err := u.Update(context.Background(), 1, change)
		checkOutcome(t, pool.QueryRow(`SELECT a, ratio, name, maybe, rev FROM things WHERE id = 1`).Scan, got, err)
		other := ""
		require.NoError(t, pool.Get(&other, `SELECT group_concat(id || a || ratio || name || maybe || rev) FROM things WHERE id <> 1`))
		assert.Equal(t, "211.0other11", other)
	})
}

func checkStatement(t *testing.T, update *dialect.SQL) {
	s := update.Statement()
	text := s.Text
	for _, name := range quoted.FindAllString(text, -1) {
		assert.Contains(t, "`things` `id` `a` `ratio` `name` `maybe` `rev`", name)
	}
	rest := words.Replace(quoted.ReplaceAllString(text, ""))
	assert.Empty(t, strings.Trim(rest, " ()=<>+-*/%,"), "in %s", text)
	assert.Equal(t, strings.Count(text, "?"), len(s.Args))
}

func checkOutcome(t *testing.T, scan func(...any) error, got target, err error) {
	now := target{ID: 1}
	require.NoError(t, scan(&now.A, &now.Ratio, &now.Name, &now.Maybe, &now.Rev), "the types are still those of the struct")
	if err != nil {
		assert.Equal(t, target{ID: 1, A: 7, Ratio: 0.5, Name: "x"}, now, "%v", err)
		assert.False(t, errors.Is(err, raceproof.ErrNotFound) || strings.Contains(err.Error(), "syntax error"), "%v", err)
		return
	}
	assert.Equal(t, int64(1), now.Rev)
	assert.Equal(t, now, got)
}
