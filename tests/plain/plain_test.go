package plain_test

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
)

// become waits until the table is plain, or is not.
func become(t *testing.T, table *row.Table[thing], plain bool) {
	t.Helper()
	require.Eventually(t, func() bool {
		p, err := table.Plain(minute(t))
		return assert.NoError(t, err) && p.Any() == plain && holds(p, theN, thing{}) == plain
	}, time.Minute, 20*time.Millisecond)
}

// What is done to a table while it is in use is seen soon, and nobody asks for that each time.
func TestAltered(t *testing.T) {
	each(t, func(t *testing.T, _ databases.Database, pool *sqlx.DB) {
		run(t, pool, things+")")
		table := tableOf[thing](t, opened(t, pool), "things")
		become(t, table, true)
		require.Eventually(t, func() bool {
			first, err := table.Plain(minute(t))
			require.NoError(t, err)
			second, err := table.Plain(minute(t))
			require.NoError(t, err)
			return first == second
		}, time.Minute, time.Millisecond)
		run(t, pool, "CREATE UNIQUE INDEX i ON things (n)")
		become(t, table, false)
		if pool.DriverName() == "mysql" {
			run(t, pool, "DROP INDEX i ON things")
		} else {
			run(t, pool, "DROP INDEX i")
		}
		become(t, table, true)
		run(t, pool, "DROP TABLE things")
		become(t, table, false)
	})
}

// Of those who want to know at the same time one asks, and the others do not wait for his answer, which may not come.
func TestTogether(t *testing.T) {
	each(t, func(t *testing.T, _ databases.Database, pool *sqlx.DB) {
		run(t, pool, things+")")
		pool.SetMaxOpenConns(1)
		table := tableOf[thing](t, opened(t, pool), "things")
		held, err := pool.Connx(minute(t))
		require.NoError(t, err)
		waited := pool.Stats().WaitCount
		first := make(chan *row.Plain, 1)
		go func() {
			p, err := table.Plain(minute(t))
			assert.NoError(t, err)
			first <- p
		}()
		require.Eventually(t, func() bool { return pool.Stats().WaitCount > waited }, time.Minute, time.Millisecond)
		for range 5 {
			p, err := table.Plain(minute(t))
			require.NoError(t, err)
			require.Nil(t, p, "it is asked for already")
		}
		assert.Equal(t, waited+1, pool.Stats().WaitCount, "nobody else asks")
		require.NoError(t, held.Close())
		p := <-first
		require.True(t, p.Any())
		again, err := table.Plain(minute(t))
		require.NoError(t, err)
		assert.True(t, again.Any())
	})
}

// Whoever does not get an answer is told so, and the next one asks again.
func TestUnanswered(t *testing.T) {
	each(t, func(t *testing.T, _ databases.Database, pool *sqlx.DB) {
		run(t, pool, things+")")
		db := opened(t, pool)
		table := tableOf[thing](t, db, "things")
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("the caller has gone")
		cancel(cause)
		p, err := table.Plain(ctx)
		assert.Nil(t, p)
		assert.ErrorIs(t, err, context.Canceled)
		assert.ErrorIs(t, err, cause)
		p, err = table.Plain(minute(t))
		require.NoError(t, err)
		assert.True(t, p.Any())

		db.Close()
		p, err = tableOf[thing](t, db, "things").Plain(minute(t))
		assert.Nil(t, p)
		assert.ErrorIs(t, err, raceproof.ErrClosed)
	})
}

// Without a catalogue, or an answer of it, nothing is plain.
func TestUnknown(t *testing.T) {
	each(t, func(t *testing.T, d databases.Database, pool *sqlx.DB) {
		assert.False(t, plainOf[thing](t, opened(t, pool), "missing").Any())
		var none *row.Plain
		assert.False(t, none.Any() || none.Integer(theN) || holds(none, theN, thing{}))
		if d.Kind != servers.Postgres {
			return
		}
		f := d.Fresh(t)
		run(t, f.Open(databases.Options{}), things+");\n"+
			"CREATE FUNCTION to_regclass(text) RETURNS regclass LANGUAGE plpgsql AS $$ BEGIN RAISE 'no catalogue'; END $$")
		var own string
		require.NoError(t, f.Open(databases.Options{}).Get(&own, "SELECT current_schema"))
		refusing := f.Open(databases.Options{Parameters: url.Values{"search_path": {own + ",pg_catalog"}}})
		p := plainOf[thing](t, opened(t, refusing), "things")
		assert.False(t, p.Any() || p.Integer(theN) || holds(p, theN, thing{}))
	})
}

// A transaction sees what it has done to the table, or the table as it was, neither of which is for others to rely on.
func TestInTransaction(t *testing.T) {
	each(t, func(t *testing.T, _ databases.Database, pool *sqlx.DB) {
		run(t, pool, things+")")
		db := opened(t, pool)
		table := tableOf[thing](t, db, "things")
		for range 2 {
			require.NoError(t, db.Transact(minute(t), func(ctx context.Context) error {
				p, err := table.Plain(ctx)
				assert.NoError(t, err)
				assert.Nil(t, p)
				return nil
			}))
			become(t, table, true)
		}
	})
}

// Columns that the struct does not map, and in another order than it has, are told from those that it does.
func TestSomeColumns(t *testing.T) {
	each(t, func(t *testing.T, _ databases.Database, pool *sqlx.DB) {
		run(t, pool, "CREATE TABLE things (a BIGINT, n BIGINT, b BIGINT, rev BIGINT, id BIGINT PRIMARY KEY, version SMALLINT, UNIQUE (a, b))")
		type some struct {
			ID int64 `db:"id"`
			N  int64 `db:"n"`
			B  int64 `db:"b"`
		}
		p := plainOf[some](t, opened(t, pool), "things", raceproof.WithVersion("rev"))
		assert.True(t, p.Integer(0) && p.Integer(1) && p.Integer(2))
		assert.True(t, holds(p, 1, some{N: 1 << 40}))
		assert.False(t, holds(p, 0, some{}) || holds(p, 2, some{}))
	})
}
