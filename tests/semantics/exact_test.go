package semantics

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/databases"
)

// onServers is each for the databases whose columns have types, with tables of the test's own.
func onServers(t *testing.T, f func(*testing.T, databases.Database, *sqlx.DB, *raceproof.DB)) {
	for _, d := range databases.All() {
		if d.Kind == "" {
			continue
		}
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			pool := d.Open(t, databases.Options{})
			db, err := raceproof.New(pool)
			require.NoError(t, err)
			t.Cleanup(db.Close)
			f(t, d, pool, db)
		})
	}
}

// A decimal is an exact number, as libraries have them.
type decimal string

func (d decimal) Value() (driver.Value, error) { return string(d), nil }

type account struct {
	ID     int64   `db:"id"`
	Money  decimal `db:"money"`
	Approx float64 `db:"approx"` // of the same type in the table
	Whole  int64   `db:"whole"`  // of a type that has fractions in other tables
}

// Exact numbers stay exact, whatever is added to them.
func TestMoney(t *testing.T) {
	onServers(t, func(t *testing.T, _ databases.Database, pool *sqlx.DB, db *raceproof.DB) {
		const start = "1234567890123456.78"
		pool.MustExec(`CREATE TABLE accounts (id BIGINT PRIMARY KEY, money DECIMAL(30,2) NOT NULL, approx DECIMAL(30,2) NOT NULL,
			whole DECIMAL(20,0) NOT NULL)`)
		accounts := raceproof.MustTable[account]("accounts")
		for name, change := range map[string]struct {
			change atomic.Change
			want   string
		}{
			"a fraction":              {atomic.Set("money", atomic.F("money").Add(0.25)), "0.25"},
			"a decimal":               {atomic.Set("money", atomic.F("money").Sub(decimal("0.50"))), "-0.50"},
			"a decimal before":        {atomic.Set("money", atomic.Value(decimal("0.50")).Add(atomic.F("money"))), "0.50"},
			"an integer":              {atomic.Set("money", atomic.F("money").Add(7)), "7.00"},
			"to a float field":        {atomic.Set("approx", atomic.F("approx").Add(0.25)), "0.25"},
			"guarded":                 {atomic.Set("money", atomic.F("money").Add(0.25)).If(atomic.F("approx").Ge(0.25)), "0.25"},
			"the quotient of a whole": {atomic.Set("whole", atomic.F("whole").Div(2)).If(atomic.F("whole").Div(2).Eq(3)), "-4"},
		} {
			pool.MustExec(`DELETE FROM accounts`)
			pool.MustExec(`INSERT INTO accounts VALUES (1, ` + start + `, ` + start + `, 7)`)
			_, err := atomic.New(db, accounts, nil).Update(context.Background(), 1, change.change)
			require.NoError(t, err, name)
			var got string
			require.NoError(t, pool.Get(&got, fmt.Sprintf(`SELECT money - %s + approx - %s + whole - 7 FROM accounts`, start, start)))
			assert.Contains(t, []string{change.want, change.want + ".00"}, got, name)
		}
	})
}

// A table without transactions, or one whose key is not its own, is not taken for one that is.
func TestTablesThatAreNotWhatTheySeem(t *testing.T) {
	type row struct {
		ID int64     `db:"id"`
		A  int64     `db:"a"`
		At time.Time `db:"at"`
	}
	rows := raceproof.MustTable[row]("rows_of_it")
	ctx := context.Background()
	onServers(t, func(t *testing.T, d databases.Database, pool *sqlx.DB, db *raceproof.DB) {
		u := atomic.New(db, rows, nil)
		if d.Dialect == "postgres" {
			pool.MustExec(`CREATE TABLE rows_of_it (id BIGINT PRIMARY KEY, a BIGINT NOT NULL, at TIMESTAMPTZ NOT NULL)`)
			pool.MustExec(`INSERT INTO rows_of_it VALUES (1, 1, 'infinity')`)
			_, err := u.Update(ctx, 1, atomic.Set("a", 2))
			require.Error(t, err, "no time.Time is infinite")
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
			pool.MustExec(`UPDATE rows_of_it SET at = now()`)
			pool.MustExec(`CREATE TABLE heirs () INHERITS (rows_of_it)`)
			pool.MustExec(`INSERT INTO heirs VALUES (1, 1, now())`)
			type plain struct { // in the parent alone this one could be changed by a single statement
				ID int64 `db:"id"`
				A  int64 `db:"a"`
			}
			_, err = atomic.New(db, raceproof.MustTable[plain]("rows_of_it"), nil).Update(ctx, 1, atomic.Set("a", 2))
			require.ErrorContains(t, err, "more than one row")
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
			var sum int
			require.NoError(t, pool.Get(&sum, `SELECT sum(a) FROM rows_of_it`))
			assert.Equal(t, 2, sum)
			return
		}
		pool.MustExec(`CREATE TABLE rows_of_it (id BIGINT PRIMARY KEY, a BIGINT NOT NULL, at DATETIME NOT NULL) ENGINE=MyISAM`)
		pool.MustExec(`INSERT INTO rows_of_it VALUES (1, 1, now())`)
		_, err := u.Update(ctx, 1, atomic.Set("a", 2))
		assert.ErrorContains(t, err, "MyISAM")
	})
}

// A trigger sees an update once, also one that leaves the row as it is, and the row that is returned is the one that is there.
func TestUpdatesThatChangeNothing(t *testing.T) {
	d := databases.Named("mariadb/mysql")
	pool := d.Open(t, databases.Options{})
	pool.MustExec(`CREATE TABLE things (id BIGINT PRIMARY KEY, a BIGINT NOT NULL, b BIGINT NOT NULL, small INTEGER NOT NULL,
		ratio DOUBLE PRECISION NOT NULL, name VARCHAR(20) NOT NULL, maybe BIGINT)`)
	pool.MustExec(`CREATE TABLE audit (n BIGINT)`)
	pool.MustExec(`INSERT INTO audit VALUES (0)`)
	pool.MustExec(`CREATE TRIGGER seen AFTER UPDATE ON things FOR EACH ROW UPDATE audit SET n = n + 1`)
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	reset(t, pool)
	u := atomic.New(db, things, nil)
	for range 2 {
		_, err = u.Update(context.Background(), 1, atomic.Set("a", 7))
		require.NoError(t, err)
	}
	var n int
	require.NoError(t, pool.Get(&n, `SELECT n FROM audit`))
	assert.Equal(t, 2, n)
	require.NoError(t, db.Transact(context.Background(), func(ctx context.Context) error {
		var before int64
		require.NoError(t, sqlx.GetContext(ctx, db.Ext(ctx), &before, `SELECT a FROM things`)) // fixes what is shown
		pool.MustExec(`UPDATE things SET a = 5`)
		got, err := u.Update(ctx, 1, atomic.Set("a", 5))
		assert.Equal(t, int64(5), got.A)
		return err
	}))
}

// A NaN that stays one is no change.
func TestNaN(t *testing.T) {
	for _, name := range []string{"postgres/pgx", "postgres/pq"} {
		pool := databases.Named(name).Open(t, databases.Options{})
		pool.MustExec(`CREATE TABLE things (id BIGINT PRIMARY KEY, a BIGINT NOT NULL, b BIGINT NOT NULL, small INTEGER NOT NULL,
			ratio DOUBLE PRECISION NOT NULL, name VARCHAR(20) NOT NULL, maybe BIGINT)`)
		reset(t, pool)
		pool.MustExec(`UPDATE things SET ratio = 'NaN'`)
		db, err := raceproof.New(pool)
		require.NoError(t, err)
		got, err := lock.New(db, things, nil).Update(context.Background(), 1, func(ctx context.Context, x *thing) error {
			x.A++
			_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE things SET a = a WHERE id = 2`)
			return err
		})
		require.NoError(t, err)
		assert.Equal(t, int64(8), got.A)
		assert.True(t, math.IsNaN(got.Ratio))
	}
}

// A function that changes its own row behind the updater's back runs once, and is told.
func TestFunctionChangesItsOwnRow(t *testing.T) {
	each(t, func(t *testing.T, pool *sqlx.DB, db *raceproof.DB) {
		calls := 0
		_, err := lock.New(db, things, nil).Update(context.Background(), 1, func(ctx context.Context, x *thing) error {
			calls++
			x.A++
			_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE things SET a = 100 WHERE id = 1`)
			return err
		})
		assert.ErrorIs(t, err, raceproof.ErrConflict)
		assert.Equal(t, 1, calls)
		assert.Equal(t, first, stored(t, pool))
	})
}

// A column of fewer digits than its field refuses what it cannot hold, and one of integers computes with fractions.
func TestFractionsOfOtherTypes(t *testing.T) {
	type row struct {
		ID    int64   `db:"id"`
		Short float64 `db:"short"` // in the table a REAL or FLOAT
		Whole float64 `db:"whole"` // in the table a BIGINT
	}
	rows := raceproof.MustTable[row]("fractions")
	ctx := context.Background()
	onServers(t, func(t *testing.T, d databases.Database, pool *sqlx.DB, db *raceproof.DB) {
		short := map[string]string{"postgres": "REAL", "mariadb": "FLOAT"}[d.Dialect]
		require.NotEmpty(t, short)
		pool.MustExec(`CREATE TABLE fractions (id BIGINT PRIMARY KEY, short ` + short + ` NOT NULL, whole BIGINT NOT NULL)`)
		pool.MustExec(`INSERT INTO fractions VALUES (1, 1.5, 5)`)
		u := atomic.New(db, rows, nil)
		for name, update := range map[string]func() error{
			"set": func() error { _, err := u.Update(ctx, 1, atomic.Set("short", 1e300)); return err },
			"computed": func() error {
				_, err := u.Update(ctx, 1, atomic.Set("short", atomic.F("short").Add(1e300)))
				return err
			},
			"lock": func() error {
				_, err := lock.New(db, rows, nil).Update(ctx, 1, func(_ context.Context, r *row) error { r.Short = 1e300; return nil })
				return err
			},
		} {
			assert.ErrorIs(t, update(), raceproof.ErrOutOfRange, name)
		}
		got, err := u.Update(ctx, 1, atomic.Set("short", atomic.F("short").Mul(0.5)).Set("whole", atomic.F("whole").Mul(0.8)).
			If(atomic.F("whole").Lt(5.5)))
		require.NoError(t, err)
		assert.Equal(t, row{1, 0.75, 4}, got)
	})
}
