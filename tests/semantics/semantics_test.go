// Package semantics checks that a change means the same on every database.
package semantics

import (
	"context"
	"math"
	"os"
	"testing"

	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3" // the driver under test
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/tests/databases"
)

func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }

// A thing has a column of each kind. It has no version: what an UPDATE leaves as it was must be told from what it has
// not found.
type thing struct {
	ID    int64   `db:"id"`
	A     int64   `db:"a"`
	B     int64   `db:"b"`
	Small int32   `db:"small"`
	Ratio float64 `db:"ratio"`
	Name  string  `db:"name"`
	Maybe *int64  `db:"maybe"`
}

var things = raceproof.MustTable[thing]("things")

var first = thing{ID: 1, A: 7, B: -2, Small: 3, Ratio: 0.5, Name: "x"}

// each calls f with a fresh table on every database.
func each(t *testing.T, f func(*testing.T, *sqlx.DB, *raceproof.DB)) {
	for _, d := range databases.All() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			pool := d.Open(t, databases.Options{})
			pool.MustExec(`CREATE TABLE things (id BIGINT PRIMARY KEY, a BIGINT NOT NULL, b BIGINT NOT NULL, small INTEGER NOT NULL,
				ratio DOUBLE PRECISION NOT NULL, name VARCHAR(20) NOT NULL, maybe BIGINT)`)
			db, err := raceproof.New(pool)
			require.NoError(t, err)
			t.Cleanup(db.Close)
			reset(t, pool)
			f(t, pool, db)
		})
	}
}

func reset(t *testing.T, pool *sqlx.DB) {
	t.Helper()
	_, err := pool.Exec(`DELETE FROM things`)
	require.NoError(t, err)
	_, err = pool.NamedExec(`INSERT INTO things VALUES (:id, :a, :b, :small, :ratio, :name, :maybe)`, first)
	require.NoError(t, err)
}

func stored(t *testing.T, pool *sqlx.DB) (got thing) {
	t.Helper()
	require.NoError(t, pool.Get(&got, `SELECT * FROM things`))
	return got
}

func pointer(n int64) *int64 { return &n }

func TestExpressions(t *testing.T) {
	a, b, small, ratio, name, maybe := atomic.F("a"), atomic.F("b"), atomic.F("small"), atomic.F("ratio"), atomic.F("name"), atomic.F("maybe")
	const most, least = int64(math.MaxInt64), int64(math.MinInt64)
	for what, c := range map[string]struct {
		change atomic.Change
		want   func(*thing)
		err    error
	}{
		"an integer":                       {atomic.Set("a", a.Add(10)), func(x *thing) { x.A = 17 }, nil},
		"a literal before":                 {atomic.Set("a", atomic.Value(100).Sub(a)), func(x *thing) { x.A = 93 }, nil},
		"two literals":                     {atomic.Set("a", atomic.Value(3).Mul(4)), func(x *thing) { x.A = 12 }, nil},
		"two fractions":                    {atomic.Set("ratio", atomic.Value(1.5).Add(0.25)), func(x *thing) { x.Ratio = 1.75 }, nil},
		"the quotient of integers":         {atomic.Set("a", a.Div(2)), func(x *thing) { x.A = 3 }, nil},
		"a negative quotient":              {atomic.Set("a", a.Div(b)), func(x *thing) { x.A = -3 }, nil},
		"a remainder":                      {atomic.Set("a", a.Mod(4)), func(x *thing) { x.A = 3 }, nil},
		"the remainder of a negative":      {atomic.Set("a", b.Sub(5).Mod(4)), func(x *thing) { x.A = -3 }, nil},
		"a negative number":                {atomic.Set("a", a.Neg()), func(x *thing) { x.A = -7 }, nil},
		"an integer times a fraction":      {atomic.Set("ratio", a.Mul(1.5)), func(x *thing) { x.Ratio = 10.5 }, nil},
		"a fraction of integers":           {atomic.Set("ratio", a.Div(2.0)), func(x *thing) { x.Ratio = 3.5 }, nil},
		"a fraction by an integer":         {atomic.Set("ratio", ratio.Div(2)), func(x *thing) { x.Ratio = 0.25 }, nil},
		"a small one and a large one":      {atomic.Set("a", small.Add(most-3)), func(x *thing) { x.A = most }, nil},
		"NULL and an integer":              {atomic.Set("maybe", maybe.Add(1)), func(*thing) {}, nil},
		"a default for NULL":               {atomic.Set("maybe", maybe.Coalesce(5).Add(1)), func(x *thing) { x.Maybe = pointer(6) }, nil},
		"a default for text":               {atomic.Set("name", name.Coalesce("y")), func(*thing) {}, nil},
		"a text":                           {atomic.Set("name", "it's ?, $1 and \\"), func(x *thing) { x.Name = "it's ?, $1 and \\" }, nil},
		"every value from the row before":  {atomic.Set("a", a.Add(1)).Set("b", a).Set("ratio", b.Mul(1.0)), func(x *thing) { x.A, x.B, x.Ratio = 8, 7, -2 }, nil},
		"also if they are chained":         {atomic.Set("a", 1).Set("b", a).Set("maybe", b).Set("small", maybe.Coalesce(2)), func(x *thing) { x.A, x.B, x.Maybe, x.Small = 1, 7, pointer(-2), 2 }, nil},
		"what it is already":               {atomic.Set("a", 7), func(*thing) {}, nil},
		"what it is already, guarded":      {atomic.Set("a", 7).If(a.Eq(7)), func(*thing) {}, nil},
		"a guard that fails":               {atomic.Set("a", 7).If(a.Ne(7)), nil, raceproof.ErrConditionFailed},
		"an integer against a fraction":    {atomic.Set("a", 1).If(a.Gt(6.5)), func(x *thing) { x.A = 1 }, nil},
		"a fraction against an integer":    {atomic.Set("a", 1).If(ratio.Lt(1)), func(x *thing) { x.A = 1 }, nil},
		"literals against each other":      {atomic.Set("a", 1).If(atomic.Value(2).Gt(1.5)), func(x *thing) { x.A = 1 }, nil},
		"a guard on NULL":                  {atomic.Set("a", 1).If(maybe.Eq(1)), nil, raceproof.ErrConditionFailed},
		"a guard that is not NULL":         {atomic.Set("a", 1).If(atomic.Not(maybe.IsNotNull()).And(name.Eq("x"))), func(x *thing) { x.A = 1 }, nil},
		"an overflow":                      {atomic.Set("a", a.Add(most)), nil, raceproof.ErrOutOfRange},
		"an overflow below":                {atomic.Set("a", b.Sub(most).Sub(most)), nil, raceproof.ErrOutOfRange},
		"an overflow that comes back":      {atomic.Set("a", a.Add(most).Sub(most)), nil, raceproof.ErrOutOfRange},
		"an overflow of a product":         {atomic.Set("a", a.Mul(most)), nil, raceproof.ErrOutOfRange},
		"the least by minus one":           {atomic.Set("a", atomic.Value(least).Div(b.Add(1))), nil, raceproof.ErrOutOfRange},
		"a division by zero":               {atomic.Set("a", a.Div(b.Add(2))), nil, raceproof.ErrOutOfRange},
		"a fraction by zero":               {atomic.Set("ratio", ratio.Div(b.Add(2))), nil, raceproof.ErrOutOfRange},
		"a fraction by a fraction of zero": {atomic.Set("ratio", ratio.Div(ratio.Sub(0.5))), nil, raceproof.ErrOutOfRange},
		"a remainder by zero":              {atomic.Set("a", a.Mod(b.Add(2))), nil, raceproof.ErrOutOfRange},
		"an overflow in the guard":         {atomic.Set("a", 1).If(a.Add(most).Gt(0)), nil, raceproof.ErrOutOfRange},
	} {
		t.Run(what, func(t *testing.T) {
			each(t, func(t *testing.T, pool *sqlx.DB, db *raceproof.DB) {
				for name, update := range map[string]func(func(context.Context) error) error{
					"by itself": func(f func(context.Context) error) error { return f(context.Background()) },
					"in a transaction": func(f func(context.Context) error) error {
						return db.Transact(context.Background(), f)
					},
				} {
					reset(t, pool)
					var got thing
					err := update(func(ctx context.Context) (err error) {
						got, err = atomic.New(db, things, nil).Update(ctx, 1, c.change)
						return err
					})
					want := first
					if c.want != nil {
						c.want(&want)
					}
					if c.err != nil {
						assert.ErrorIs(t, err, c.err, name)
					} else if assert.NoError(t, err, name) {
						assert.Equal(t, want, got, name)
					}
					assert.Equal(t, want, stored(t, pool), name)
				}
			})
		})
	}
}

// Only a database that assigns one after the other has to refuse two values that need each other's old ones.
func TestSwap(t *testing.T) {
	each(t, func(t *testing.T, pool *sqlx.DB, db *raceproof.DB) {
		_, err := atomic.New(db, things, nil).Update(context.Background(), 1, atomic.Set("a", atomic.F("b")).Set("b", atomic.F("a")))
		want := first
		if err == nil {
			want.A, want.B = first.B, first.A
		} else {
			assert.ErrorContains(t, err, `the new values of "a" and "b" need each other's old ones`)
			assert.Equal(t, "mysql", pool.DriverName())
		}
		assert.Equal(t, want, stored(t, pool))
	})
}

// What a function leaves as it was, or sets to what the column has already, is found all the same.
func TestValuesThatStay(t *testing.T) {
	each(t, func(t *testing.T, pool *sqlx.DB, db *raceproof.DB) {
		got, err := lock.New(db, things, nil).Update(context.Background(), 1, func(ctx context.Context, x *thing) error {
			_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE things SET a = 8 WHERE id = 2`) // makes it look again
			x.A = 8
			return err
		})
		want := first
		want.A = 8
		require.NoError(t, err)
		assert.Equal(t, want, got)
		_, err = lock.New(db, things, nil).Update(context.Background(), 2, func(context.Context, *thing) error { return nil })
		assert.ErrorIs(t, err, raceproof.ErrNotFound)
		_, err = atomic.New(db, things, nil).Update(context.Background(), 2, atomic.Set("a", 8))
		assert.ErrorIs(t, err, raceproof.ErrNotFound)
	})
}

// A value that its column cannot hold is an error of its own, and changes nothing.
func TestColumnsAreTooSmall(t *testing.T) {
	type wide struct {
		ID    int64  `db:"id"`
		Small int64  `db:"small"` // in the table an INTEGER
		Name  string `db:"name"`
	}
	table := raceproof.MustTable[wide]("things")
	each(t, func(t *testing.T, pool *sqlx.DB, db *raceproof.DB) {
		if pool.DriverName() == "sqlite3" || pool.DriverName() == "sqlite" {
			got, err := atomic.New(db, table, nil).Update(context.Background(), 1, atomic.Set("small", int64(math.MaxInt64)))
			require.NoError(t, err, "an INTEGER has 64 bits there")
			assert.Equal(t, int64(math.MaxInt64), got.Small)
			return
		}
		for name, update := range map[string]func() error{
			"atomic": func() error {
				_, err := atomic.New(db, table, nil).Update(context.Background(), 1, atomic.Set("small", int64(1)<<40))
				return err
			},
			"atomic, computed": func() error {
				_, err := atomic.New(db, table, nil).Update(context.Background(), 1, atomic.Set("small", atomic.F("small").Mul(1<<31)))
				return err
			},
			"lock": func() error {
				_, err := lock.New(db, table, nil).Update(context.Background(), 1, func(_ context.Context, w *wide) error {
					w.Small = 1 << 40
					return nil
				})
				return err
			},
			"a long text": func() error {
				_, err := lock.New(db, table, nil).Update(context.Background(), 1, func(_ context.Context, w *wide) error {
					w.Name = "more than twenty characters"
					return nil
				})
				return err
			},
		} {
			assert.ErrorIs(t, update(), raceproof.ErrOutOfRange, name)
			assert.Equal(t, first, stored(t, pool), name)
		}
	})
}

// A row that is there but cannot be read leaves nothing changed, though it is read only after the change.
func TestRowsThatCannotBeRead(t *testing.T) {
	type strict struct {
		ID    int64 `db:"id"`
		Maybe int64 `db:"maybe"` // in the table it can be NULL
		A     int64 `db:"a"`
	}
	table := raceproof.MustTable[strict]("things")
	each(t, func(t *testing.T, pool *sqlx.DB, db *raceproof.DB) {
		_, err := atomic.New(db, table, nil).Update(context.Background(), 1, atomic.Set("a", 8))
		require.Error(t, err)
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
		assert.Equal(t, first, stored(t, pool))
	})
}

// Keys are compared with columns of any type that has them.
func TestKeys(t *testing.T) {
	each(t, func(t *testing.T, pool *sqlx.DB, db *raceproof.DB) {
		type small struct {
			Small int64 `db:"small,key"`
			A     int64 `db:"a"`
		}
		type named struct {
			Name string `db:"name,key"`
			A    int64  `db:"a"`
		}
		ctx := context.Background()
		bySmall := atomic.New(db, raceproof.MustTable[small]("things"), nil)
		_, err := bySmall.Update(ctx, int64(1)<<40, atomic.Set("a", 8))
		assert.ErrorIs(t, err, raceproof.ErrNotFound, "a key that the column cannot hold")
		_, err = bySmall.Update(ctx, 3, atomic.Set("a", 8))
		assert.NoError(t, err)
		byName := lock.New(db, raceproof.MustTable[named]("things"), nil)
		got, err := byName.Update(ctx, "x", func(_ context.Context, n *named) error { n.A++; return nil })
		require.NoError(t, err)
		assert.Equal(t, int64(9), got.A)
		_, err = byName.Update(ctx, "x' OR 'x' = 'x", func(context.Context, *named) error { return nil })
		assert.ErrorIs(t, err, raceproof.ErrNotFound)
	})
}

// A column or a table that is not there is an error that names it, and the version that a table has must be known.
func TestWrongTables(t *testing.T) {
	each(t, func(t *testing.T, pool *sqlx.DB, db *raceproof.DB) {
		type extra struct {
			thing
			Missing int64 `db:"missing"`
		}
		type versioned struct {
			thing
			Version int64 `db:"version"`
		}
		ctx := context.Background()
		_, err := lock.New(db, raceproof.MustTable[extra]("things"), nil).Update(ctx, 1, func(context.Context, *extra) error { return nil })
		assert.ErrorContains(t, err, `the table has no column "missing"`)
		_, err = optimistic.New(db, raceproof.MustTable[versioned]("things"), nil).Update(ctx, 1, func(context.Context, *versioned) error { return nil })
		assert.ErrorContains(t, err, `the table has no column "version"`)
		_, err = lock.New(db, raceproof.MustTable[thing]("nothings"), nil).Update(ctx, 1, func(context.Context, *thing) error { return nil })
		assert.ErrorContains(t, err, "nothings")
		pool.MustExec(`ALTER TABLE things ADD COLUMN version BIGINT NOT NULL DEFAULT 0`)
		_, err = lock.New(db, raceproof.MustTable[thing]("things"), nil).Update(ctx, 1, func(context.Context, *thing) error { return nil })
		assert.ErrorContains(t, err, `the table has a column "version"`)
	})
}

// A condition is that of the row with the key: what other rows have overflows nothing.
func TestConditionsAreOfOneRow(t *testing.T) {
	type tile struct {
		ID      int64 `db:"id"`
		N       int64 `db:"n"`
		Version int64 `db:"version"`
	}
	each(t, func(t *testing.T, pool *sqlx.DB, db *raceproof.DB) {
		pool.MustExec(`CREATE TABLE tiles (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, version BIGINT NOT NULL)`)
		pool.MustExec(`INSERT INTO tiles VALUES (1, 9223372036854775807, 0), (2, 5, 0), (3, 9223372036854775807, 0)`)
		_, _ = pool.Exec(`ANALYZE tiles`) // so that PostgreSQL knows that it is small, and reads all of it; MariaDB says it otherwise
		u := atomic.New(db, raceproof.MustTable[tile]("tiles"), nil)
		sum := atomic.F("n").Add(1)
		_, err := u.Update(t.Context(), 2, atomic.Set("n", 6).If(sum.IsNull()))
		assert.ErrorIs(t, err, raceproof.ErrConditionFailed)
		got, err := u.Update(t.Context(), 2, atomic.Set("n", 6).If(sum.Gt(5)))
		assert.NoError(t, err)
		assert.Equal(t, tile{2, 6, 1}, got)
		_, err = u.Update(t.Context(), 3, atomic.Set("n", 6).If(sum.Gt(5)))
		assert.ErrorIs(t, err, raceproof.ErrOutOfRange)
	})
}
