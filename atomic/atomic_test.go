package atomic_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"math"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/testdb"
)

type thing struct {
	ID    int64           `db:"id"`
	A     int64           `db:"a"`
	B     int64           `db:"b"`
	Ratio float64         `db:"ratio"`
	Name  string          `db:"name"`
	Maybe *int64          `db:"maybe"`
	Real  sql.NullFloat64 `db:"maybe_real"`
	Small uint8           `db:"small"`
	At    time.Time       `db:"at"`
	Cents cents           `db:"cents"`
	Rev   int64           `db:"rev,version"`
}

// cents has a conversion of its own.
type cents int64

func (c cents) Value() (driver.Value, error) { return int64(c), nil }

var things = raceproof.MustTable[thing]("things")

const schema = `CREATE TABLE things (id INTEGER PRIMARY KEY, a INTEGER NOT NULL, b INTEGER NOT NULL, ratio REAL NOT NULL,
	name TEXT NOT NULL CHECK (name <> 'forbidden'), maybe INTEGER, maybe_real REAL, small INTEGER NOT NULL,
	at TIMESTAMP NOT NULL, cents INTEGER NOT NULL,
	rev INTEGER NOT NULL, unmapped TEXT DEFAULT 'kept')`

var fresh = thing{ID: 1, A: 7, B: -2, Ratio: 1.5, Name: "x", Small: 250, At: time.Unix(0, 0).UTC(), Cents: 5}

// reset makes the one row as fresh is.
func reset(t testing.TB, pool *sqlx.DB) {
	_, err := pool.NamedExec(`REPLACE INTO things (id, a, b, ratio, name, maybe, maybe_real, small, at, cents, rev)
		VALUES (:id, :a, :b, :ratio, :name, :maybe, :maybe_real, :small, :at, :cents, :rev)`, fresh)
	require.NoError(t, err)
}

func stored(t testing.TB, pool *sqlx.DB) (row thing) {
	require.NoError(t, pool.Get(&row, `SELECT id, a, b, ratio, name, maybe, maybe_real, small, at, cents, rev FROM things`))
	return row
}

func ptr[V any](v V) *V { return &v }

var (
	a     = atomic.F("a")
	b     = atomic.F("b")
	ratio = atomic.F("ratio")
	maybe = atomic.F("maybe")
)

func TestExpressions(t *testing.T) {
	pool, db := testdb.SQLite(t, schema)
	u := atomic.New(db, things, nil)
	for name, c := range map[string]struct {
		change atomic.Change
		want   func(*thing)
	}{
		"a value":                 {atomic.Set("a", 3), func(r *thing) { r.A = 3 }},
		"Add":                     {atomic.Set("a", a.Add(3)), func(r *thing) { r.A = 10 }},
		"Sub":                     {atomic.Set("a", a.Sub(b)), func(r *thing) { r.A = 9 }},
		"Mul":                     {atomic.Set("a", a.Mul(b)), func(r *thing) { r.A = -14 }},
		"Div drops the fraction":  {atomic.Set("a", a.Div(b)), func(r *thing) { r.A = -3 }},
		"Div of a fraction":       {atomic.Set("ratio", a.Div(2.0)), func(r *thing) { r.Ratio = 3.5 }},
		"Mod has the left sign":   {atomic.Set("a", a.Neg().Mod(b)), func(r *thing) { r.A = -1 }},
		"Neg":                     {atomic.Set("a", b.Neg()), func(r *thing) { r.A = 2 }},
		"Neg of a fraction":       {atomic.Set("ratio", ratio.Neg()), func(r *thing) { r.Ratio = -1.5 }},
		"nested":                  {atomic.Set("a", a.Add(1).Mul(a.Sub(b)).Div(3)), func(r *thing) { r.A = 24 }},
		"Value first":             {atomic.Set("a", atomic.Value(100).Sub(a)), func(r *thing) { r.A = 93 }},
		"integers for a real":     {atomic.Set("ratio", a.Add(b)), func(r *thing) { r.Ratio = 5 }},
		"mixed for a real":        {atomic.Set("ratio", ratio.Mul(a)), func(r *thing) { r.Ratio = 10.5 }},
		"old values on the right": {atomic.Set("a", b).Set("b", a), func(r *thing) { r.A, r.B = -2, 7 }},
		"NULL":                    {atomic.Set("maybe", nil), func(*thing) {}},
		"a nil pointer":           {atomic.Set("maybe", (*int64)(nil)), func(*thing) {}},
		"not NULL any more":       {atomic.Set("maybe", a).Set("maybe_real", 2.5), func(r *thing) { r.Maybe, r.Real = ptr[int64](7), sql.NullFloat64{Float64: 2.5, Valid: true} }},
		"NULL and a number":       {atomic.Set("maybe", maybe.Add(1)), func(*thing) {}},
		"Coalesce":                {atomic.Set("maybe", maybe.Coalesce(40).Add(2)), func(r *thing) { r.Maybe = ptr[int64](42) }},
		"a text":                  {atomic.Set("name", "it's; -- \x01"), func(r *thing) { r.Name = "it's; -- \x01" }},
		"another case":            {atomic.Set("A", atomic.F("B")), func(r *thing) { r.A = -2 }},
		"greatest":                {atomic.Set("a", atomic.Value(math.MaxInt64-1).Add(1)), func(r *thing) { r.A = math.MaxInt64 }},
		"least":                   {atomic.Set("a", atomic.Value(math.MinInt64+1).Sub(1)), func(r *thing) { r.A = math.MinInt64 }},
	} {
		t.Run(name, func(t *testing.T) {
			reset(t, pool)
			want := fresh
			c.want(&want)
			want.Rev = 1
			got, err := u.Update(context.Background(), 1, c.change)
			require.NoError(t, err)
			assert.Equal(t, want, got)
			assert.Equal(t, want, stored(t, pool))
		})
	}
	var kept string
	require.NoError(t, pool.Get(&kept, `SELECT unmapped FROM things`))
	assert.Equal(t, "kept", kept)
}

// What the database would store as something else without an error is refused, and nothing is changed.
func TestOutOfRange(t *testing.T) {
	pool, db := testdb.SQLite(t, schema)
	u := atomic.New(db, things, nil)
	top := atomic.Value(math.MaxInt64)
	product := a.Add(1)
	for range 7 {
		product = product.Mul(math.MaxInt64)
	}
	for name, c := range map[string]atomic.Change{
		"Add":                         atomic.Set("a", a.Add(math.MaxInt64)),
		"Sub":                         atomic.Set("a", b.Sub(math.MaxInt64)),
		"Mul":                         atomic.Set("a", a.Mul(math.MaxInt64/2)),
		"Neg":                         atomic.Set("a", atomic.Value(math.MinInt64).Neg()),
		"Div":                         atomic.Set("a", atomic.Value(math.MinInt64).Div(b.Add(1))),
		"on the way":                  atomic.Set("a", top.Add(a).Sub(5000)),
		"on the way, made small":      atomic.Set("a", top.Mul(a).Div(math.MaxInt64)),
		"on the way, remainder":       atomic.Set("a", top.Add(a).Mod(10)),
		"for a real":                  atomic.Set("ratio", top.Add(a)),
		"for a column of NULL":        atomic.Set("maybe", top.Add(a)),
		"through Coalesce":            atomic.Set("maybe", top.Add(a).Coalesce(1)),
		"in Coalesce":                 atomic.Set("maybe", maybe.Coalesce(top).Add(a)),
		"in a condition":              atomic.Set("a", 1).If(top.Add(a).Gt(0)),
		"in half of a condition":      atomic.Set("a", 1).If(a.Eq(7).And(atomic.Not(top.Add(a).IsNull()))),
		"division by a zero column":   atomic.Set("a", a.Div(b.Add(2))),
		"remainder of zero":           atomic.Set("a", a.Mod(b.Add(2))),
		"zero under zero":             atomic.Set("maybe", a.Div(b.Div(b.Add(2)))),
		"real division by zero":       atomic.Set("ratio", ratio.Div(ratio.Sub(1.5))),
		"under a fraction":            atomic.Set("ratio", top.Add(a).Mod(10).Add(0.5)),
		"under a quotient":            atomic.Set("ratio", top.Mul(a.Sub(4)).Div(top.Mul(a.Sub(5))).Add(0.5)),
		"under a product":             atomic.Set("ratio", top.Add(a).Sub(math.MaxInt64).Mul(1.0)),
		"under Coalesce":              atomic.Set("ratio", top.Add(a).Mod(10).Coalesce(0.5)),
		"under a comparison":          atomic.Set("a", 1).If(top.Add(a).Mod(10).Mul(1.0).Eq(7.0)),
		"a divisor that % rounds":     atomic.Set("maybe", a.Mod(atomic.Value(5).Div(top.Mul(a)))),
		"and that comes to nothing":   atomic.Set("maybe", a.Mod(atomic.Value(5).Div(top.Mul(a))).Coalesce(5)),
		"a NaN":                       atomic.Set("maybe_real", math.NaN()),
		"an infinite operand":         atomic.Set("maybe_real", atomic.Value(math.Inf(1)).Sub(1.5)),
		"a product as long as can be": atomic.Set("maybe", product.Sub(product)),
	} {
		t.Run(name, func(t *testing.T) {
			for _, inTransaction := range []bool{false, true} {
				reset(t, pool)
				err := maybeInTransaction(db, inTransaction, func(ctx context.Context) error {
					_, err := u.Update(ctx, 1, c)
					return err
				})
				assert.ErrorIs(t, err, raceproof.ErrOutOfRange)
				assert.Equal(t, fresh, stored(t, pool))
			}
		})
	}
}

// maybeInTransaction commits the transaction although f has failed: it is f itself that must leave nothing behind.
func maybeInTransaction(db *raceproof.DB, in bool, f func(context.Context) error) (err error) {
	if !in {
		return f(context.Background())
	}
	failed := db.Transact(context.Background(), func(ctx context.Context) error {
		err = f(ctx)
		return nil
	})
	if failed != nil {
		return failed
	}
	return err
}

func TestBadChanges(t *testing.T) {
	pool, db := testdb.SQLite(t, schema)
	u := atomic.New(db, things, nil)
	huge := a
	for range 1000 {
		huge = huge.Add(1)
	}
	deep := a
	for range 70 {
		deep = a.Div(deep)
	}
	factors := a.Add(1)
	for range 16 {
		factors = factors.Mul(math.MaxInt64)
	}
	for message, c := range map[string]atomic.Change{
		"the change sets no column":                                 {},
		`has no column "unmapped": it has id, a, b`:                 atomic.Set("unmapped", 1),
		`set "a": atomic_test.thing has no column "c"`:              atomic.Set("a", atomic.F("c")),
		`name "a = 1; --" has ' '`:                                  atomic.Set("a = 1; --", 1),
		`name "a\x00" has`:                                          atomic.Set("a", atomic.F("a\x00")),
		"a name is empty":                                           atomic.Set("", 1),
		`column "id" is the key`:                                    atomic.Set("id", 2),
		`column "rev" is the version`:                               atomic.Set("rev", 2),
		`column "A" is set twice`:                                   atomic.Set("a", 2).Set("A", 3),
		"which cannot be NULL":                                      atomic.Set("a", nil),
		"the value can have a fraction":                             atomic.Set("a", a.Mul(1.5)),
		`the value does not fit the field, which is of type int`:    atomic.Set("a", "7"),
		`the value does not fit the field, which is of type string`: atomic.Set("name", 7),
		"Add of what is not a number":                               atomic.Set("name", atomic.F("name").Add(1)),
		"Mul of what is not a number":                               atomic.Set("a", a.Mul("2")),
		"Mod of what is not an integer":                             atomic.Set("ratio", ratio.Mod(2)),
		"Add with NULL is always NULL":                              atomic.Set("maybe", maybe.Add(nil)),
		"Coalesce of NULL":                                          atomic.Set("maybe", maybe.Coalesce(nil)),
		"Coalesce of values of different types":                     atomic.Set("maybe", maybe.Coalesce("x")),
		"division by zero":                                          atomic.Set("a", a.Div(0)),
		"use IsNull or IsNotNull":                                   atomic.Set("a", 1).If(maybe.Eq(nil)),
		"has no order that the database knows":                      atomic.Set("a", 1).If(atomic.F("cents").Lt(9)),
		"values of different types are compared":                    atomic.Set("a", 1).If(a.Lt("x")),
		"condition: values of different types":                      atomic.Set("a", 1).If(atomic.F("name").Ne([]byte("x"))),
		"the database compares times as texts":                      atomic.Set("a", 1).If(atomic.F("at").Lt(time.Now())),
		"Add of a type with a conversion of its own":                atomic.Set("cents", atomic.F("cents").Add(1)),
		"multiplies more than 15 times":                             atomic.Set("maybe", factors.Sub(factors)),
		"an Expr is empty":                                          atomic.Set("a", atomic.Expr{}),
		"condition: an Expr is empty":                               atomic.Set("a", 1).If(atomic.Expr{}.Eq(1)),
		"a Condition is empty":                                      atomic.Set("a", 1).If(atomic.Not(atomic.Condition{})),
		"a Condition stands where a value must":                     atomic.Set("a", a.Eq(1)),
		"unsupported type []int":                                    atomic.Set("a", []int{1}),
		"high bit set":                                              atomic.Set("a", uint64(1<<63)),
		"has more than 1000 parts":                                  atomic.Set("a", huge),
		`set "b": the expression has more than`:                     atomic.Set("b", deep),
		"CHECK constraint failed":                                   atomic.Set("name", "forbidden"),
		`name "small": converting driver.Value`:                     atomic.Set("small", atomic.F("small").Add(10)),
	} {
		t.Run(message, func(t *testing.T) {
			for _, inTransaction := range []bool{false, true} {
				reset(t, pool)
				err := maybeInTransaction(db, inTransaction, func(ctx context.Context) error {
					got, err := u.Update(ctx, 1, c)
					assert.Zero(t, got)
					return err
				})
				assert.ErrorContains(t, err, message)
				assert.ErrorContains(t, err, "raceproof: update things with key 1: ")
				assert.Equal(t, fresh, stored(t, pool))
			}
		})
	}
	testdb.Idle(t, pool)
}

func TestConditions(t *testing.T) {
	pool, db := testdb.SQLite(t, schema)
	u := atomic.New(db, things, nil)
	name := atomic.F("name")
	for _, c := range []struct {
		condition atomic.Condition
		holds     bool
	}{
		{a.Eq(7), true}, {a.Eq(8), false}, {a.Ne(7), false}, {a.Ne(8), true},
		{a.Lt(8), true}, {a.Lt(7), false}, {a.Le(7), true}, {a.Le(6), false},
		{a.Gt(6), true}, {a.Gt(7), false}, {a.Ge(7), true}, {a.Ge(8), false},
		{a.Add(b).Eq(5), true}, {b.Lt(a), true}, {ratio.Gt(1), true}, {name.Eq("x"), true}, {name.Eq("x' OR 'a' = 'a"), false},
		{maybe.IsNull(), true}, {maybe.IsNotNull(), false}, {a.IsNull(), false}, {maybe.Eq(1), false}, {atomic.Not(maybe.Eq(1)), false},
		{a.Eq(7).And(b.Eq(-2)), true}, {a.Eq(7).And(b.Eq(0)), false}, {a.Eq(0).Or(b.Eq(-2)), true}, {a.Eq(0).Or(b.Eq(0)), false},
		{atomic.Not(a.Eq(0)), true}, {a.Eq(0).And(a.Eq(0)).Or(b.Eq(-2)), true}, {a.Eq(0).And(a.Eq(0).Or(b.Eq(-2))), false},
	} {
		reset(t, pool)
		_, err := u.Update(context.Background(), 1, atomic.Set("b", 100).If(c.condition))
		if c.holds {
			assert.NoError(t, err, "%+v", c.condition)
			assert.EqualValues(t, 100, stored(t, pool).B)
			continue
		}
		assert.ErrorIs(t, err, raceproof.ErrConditionFailed, "%+v", c.condition)
		assert.Equal(t, fresh, stored(t, pool))
	}
	_, err := u.Update(context.Background(), 1, atomic.Set("a", 1).If(a.Eq(7)).If(b.Eq(0)))
	assert.ErrorIs(t, err, raceproof.ErrConditionFailed, "several conditions must all hold")
	_, err = u.Update(context.Background(), 2, atomic.Set("a", 1).If(a.Eq(7)))
	assert.ErrorIs(t, err, raceproof.ErrNotFound)
}

// A Change is a value: what is made of it leaves it as it was.
func TestChangesAreValues(t *testing.T) {
	pool, db := testdb.SQLite(t, schema)
	u := atomic.New(db, things, nil)
	base := atomic.Set("a", 1).Set("b", 1).Set("ratio", 1.0)
	one, two := base.Set("name", "one"), base.Set("small", 2).If(a.Eq(1000))
	for change, want := range map[*atomic.Change]string{&base: "x", &one: "one"} {
		reset(t, pool)
		got, err := u.Update(context.Background(), 1, *change)
		require.NoError(t, err)
		assert.Equal(t, want, got.Name)
		assert.EqualValues(t, 250, got.Small)
	}
	_, err := u.Update(context.Background(), 1, two)
	assert.ErrorIs(t, err, raceproof.ErrConditionFailed)
}

// A column of whole numbers of type DECIMAL holds integers, which divide without their fraction.
func TestDivKeepsFractions(t *testing.T) {
	type price struct {
		ID    int64   `db:"id"`
		Price float64 `db:"price"`
	}
	_, db := testdb.SQLite(t, `CREATE TABLE prices (id INTEGER PRIMARY KEY, price DECIMAL(10, 2) NOT NULL)`, `INSERT INTO prices VALUES (1, 7)`)
	got, err := atomic.New(db, raceproof.MustTable[price]("prices"), nil).Update(context.Background(), 1,
		atomic.Set("price", atomic.F("price").Div(2)))
	require.NoError(t, err)
	assert.InDelta(t, 3.5, got.Price, 0)
}

// What a change was made of may change afterwards; the change does not.
func TestOperandsAreCopied(t *testing.T) {
	pool, db := testdb.SQLite(t, schema)
	u := atomic.New(db, things, nil)
	reset(t, pool)
	n := int64(5)
	change := atomic.Set("a", &n)
	n = 6
	got, err := u.Update(context.Background(), 1, change)
	require.NoError(t, err)
	assert.EqualValues(t, 5, got.A)
}

// A statement that a trigger ignores has not missed the row.
func TestIgnoredStatement(t *testing.T) {
	pool, db := testdb.SQLite(t, schema, `CREATE TRIGGER ignore BEFORE UPDATE ON things BEGIN SELECT RAISE(IGNORE); END`)
	reset(t, pool)
	_, err := atomic.New(db, things, nil).Update(context.Background(), 1, atomic.Set("a", 1))
	assert.ErrorIs(t, err, raceproof.ErrConflict)
	assert.NotErrorIs(t, err, raceproof.ErrNotFound)
	assert.ErrorContains(t, err, "a trigger ignores the statement")
}

// However many statements there have been, one that cannot be scanned is undone.
func TestManyStatements(t *testing.T) {
	pool, db := testdb.SQLite(t, schema)
	u := atomic.New(db, things, nil)
	for n := 58; n < 70; n++ {
		testdb.Idle(t, pool) // so that the next update finds no statements prepared
		change := atomic.Set("b", b)
		for range n {
			reset(t, pool)
			_, err := u.Update(context.Background(), 1, change)
			require.NoError(t, err)
			change = change.If(a.Eq(7))
		}
		reset(t, pool)
		_, err := u.Update(context.Background(), 1, atomic.Set("small", atomic.F("small").Add(100)))
		require.ErrorContains(t, err, "converting driver.Value", n)
		require.Equal(t, fresh, stored(t, pool), n)
	}
}
