package raceproof_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/testdb"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
)

func init() { sql.Register("traced", &sqlite3.SQLiteDriver{}) }

func TestNew(t *testing.T) {
	pool, _ := testdb.SQLite(t)
	closed := testdb.Open(t, testdb.File(t))
	require.NoError(t, closed.Close())
	private := testdb.Open(t, ":memory:")
	narrow := testdb.Open(t, ":memory:")
	narrow.SetMaxOpenConns(1)
	shared := testdb.Open(t, "file:shared?mode=memory&cache=shared")
	traced, err := sqlx.Open("traced", testdb.File(t))
	require.NoError(t, err)
	defer func() { _ = traced.Close() }()

	for name, c := range map[string]struct {
		pool    *sqlx.DB
		options []raceproof.Option
		err     string
	}{
		"a file":                          {pool: pool},
		"a dialect by name":               {pool: pool, options: []raceproof.Option{raceproof.WithDialect("sqlite")}},
		"a known driver by another name":  {pool: traced},
		"memory, one connection":          {pool: narrow},
		"memory that connections share":   {pool: shared},
		"memory of each connection's own": {pool: private, err: "SetMaxOpenConns(1)"},
		"nil":                             {err: "the pool is nil"},
		"an empty pool":                   {pool: &sqlx.DB{}, err: "the pool is nil"},
		"a closed pool":                   {pool: closed, err: "database is closed"},
		"an unknown driver":               {pool: sqlx.NewDb(sql.OpenDB(stranger{}), "stranger"), err: `unknown driver "stranger"`},
		"an unknown dialect":              {pool: pool, options: []raceproof.Option{raceproof.WithDialect("dbase")}, err: `unknown dialect "dbase"`},
		"a file that cannot be opened":    {pool: testdb.Open(t, "file:/nonexistent/x.db"), err: "unable to open database file"},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := raceproof.New(c.pool, c.options...)
			if c.err == "" {
				require.NoError(t, err)
				testdb.Idle(t, c.pool)
				return
			}
			assert.ErrorContains(t, err, c.err)
			assert.ErrorContains(t, err, "raceproof: ")
			assert.Nil(t, db)
		})
	}
}

func TestTableErrors(t *testing.T) {
	_, err := raceproof.NewTable[Player]("players; DROP TABLE players")
	assert.ErrorContains(t, err, `raceproof: table name "players; DROP TABLE players": name`)
	_, err = raceproof.NewTable[int]("players")
	assert.ErrorContains(t, err, "int is not a struct")
	assert.PanicsWithError(t, `raceproof: table name "": a name is empty`, func() { raceproof.MustTable[Player]("") })
	table := raceproof.MustTable[Player]("game.players")
	assert.Equal(t, "game.players", table.Name())
	assert.Equal(t, []string{"id", "name", "score", "version"}, table.Columns())
}

func TestBindRefusesNil(t *testing.T) {
	_, db := testdb.SQLite(t)
	byLock := lock.New(db, players, nil)
	assert.Panics(t, func() { raceproof.Bind[Player, raceproof.Func[Player], int](nil, award) })
	assert.Panics(t, func() { raceproof.Bind[Player, raceproof.Func[Player], int](byLock, nil) })
}

// A struct and a table that do not fit are an error that says why, before anything is changed.
func TestTableThatDoesNotFit(t *testing.T) {
	type noVersion struct {
		ID    int64 `db:"id"`
		Score int64 `db:"score"`
	}
	type missing struct {
		ID    int64 `db:"id"`
		Score int64 `db:"points"`
	}
	pool, db := testdb.SQLite(t, playersSchema, `INSERT INTO players VALUES (7, 'Ada', 1, 3)`)
	ctx := context.Background()
	_, err := lock.New(db, raceproof.MustTable[missing]("players"), nil).Update(ctx, 7, func(context.Context, *missing) error { return nil })
	assert.ErrorContains(t, err, `the table has no column "points"`)
	_, err = atomic.New(db, raceproof.MustTable[noVersion]("nobody"), nil).Update(ctx, 7, atomic.Set("score", 1))
	assert.ErrorContains(t, err, "no such table: nobody")
	_, err = atomic.New(db, raceproof.MustTable[noVersion]("players"), nil).Update(ctx, 7, atomic.Set("score", 1))
	assert.ErrorContains(t, err, `the table has a column "version" that raceproof_test.noVersion does not map`)
	_, err = atomic.New(db, raceproof.MustTable[noVersion]("players", raceproof.WithVersion("rev")), nil).Update(ctx, 7, atomic.Set("score", 1))
	assert.ErrorContains(t, err, `the table has no version column "rev"`)
	assert.ErrorContains(t, optimistic.New(db, raceproof.MustTable[noVersion]("players"), nil).Err(), "has no version column")
	wantPlayer(t, pool, Player{7, "Ada", 1, 3})

	_, err = atomic.New(db, raceproof.MustTable[noVersion]("players", raceproof.WithoutVersion()), nil).Update(ctx, 7, atomic.Set("score", 2))
	require.NoError(t, err)
	wantPlayer(t, pool, Player{7, "Ada", 2, 3})
}

// A version that the struct leaves out is raised, and checked, all the same.
func TestHiddenVersion(t *testing.T) {
	type name struct {
		ID   int64  `db:"id"`
		Name string `db:"name"`
	}
	pool, db := testdb.SQLite(t, playersSchema, `INSERT INTO players VALUES (7, 'Ada', 1, 3)`)
	table := raceproof.MustTable[name]("players", raceproof.WithVersion("version"))
	ctx := context.Background()
	rename := func(n string) raceproof.Func[name] {
		return func(_ context.Context, p *name) error { p.Name = n; return nil }
	}
	got, err := lock.New(db, table, nil).Update(ctx, 7, rename("Bob"))
	require.NoError(t, err)
	assert.Equal(t, name{7, "Bob"}, got)
	_, err = optimistic.New(db, table, nil).Update(ctx, 7, rename("Cid"))
	require.NoError(t, err)
	_, err = atomic.New(db, table, nil).Update(ctx, 7, atomic.Set("name", "Dan"))
	require.NoError(t, err)
	wantPlayer(t, pool, Player{7, "Dan", 1, 6})

	_, err = optimistic.New(db, table, &optimistic.Options{Retry: raceproof.RetryPolicy{MaxAttempts: 1}}).Update(ctx, 7, func(_ context.Context, p *name) error {
		p.Name = "Eve"
		_, err := pool.Exec(`UPDATE players SET version = version + 1`)
		return err
	})
	assert.ErrorIs(t, err, raceproof.ErrConflict)
	wantPlayer(t, pool, Player{7, "Dan", 1, 7})
}

// A version that is NULL, or can rise no more, protects nothing.
func TestUselessVersion(t *testing.T) {
	for value, want := range map[string]string{"NULL": "the version is NULL", "9223372036854775807": "the version is the greatest integer"} {
		pool, db := testdb.SQLite(t, `CREATE TABLE players (id INTEGER PRIMARY KEY, name TEXT, score INTEGER, version INTEGER)`,
			`INSERT INTO players VALUES (7, 'Ada', 1, `+value+`)`)
		ctx := context.Background()
		_, err := lock.New(db, players, nil).Update(ctx, 7, award(1))
		assert.ErrorContains(t, err, want)
		_, err = optimistic.New(db, players, nil).Update(ctx, 7, award(1))
		assert.ErrorContains(t, err, want)
		_, err = atomic.New(db, players, nil).Update(ctx, 7, atomic.Set("score", 2))
		assert.ErrorContains(t, err, want)
		var score int
		require.NoError(t, pool.Get(&score, `SELECT score FROM players`))
		assert.Equal(t, 1, score)
	}
}

// A row that cannot be read back is not changed either.
func TestUnreadableRow(t *testing.T) {
	pool, db := testdb.SQLite(t, `CREATE TABLE players (id INTEGER, name TEXT, score INTEGER, version INTEGER)`,
		`INSERT INTO players VALUES (7, NULL, 1, 0), (8, 'twin', 1, 0), (8, 'twin', 1, 0)`)
	ctx := context.Background()
	for key, message := range map[int]string{7: `name "name": converting NULL to string`, 8: "the key matches more than one row"} {
		_, err := atomic.New(db, players, nil).Update(ctx, key, atomic.Set("score", 2))
		assert.ErrorContains(t, err, message)
		_, err = lock.New(db, players, nil).Update(ctx, key, award(1))
		assert.ErrorContains(t, err, message)
		err = db.Transact(ctx, func(ctx context.Context) error {
			_, err := atomic.New(db, players, nil).Update(ctx, key, atomic.Set("score", 2))
			assert.ErrorContains(t, err, message)
			return nil
		})
		require.NoError(t, err)
	}
	var changed int
	require.NoError(t, pool.Get(&changed, `SELECT count(*) FROM players WHERE score <> 1 OR version <> 0`))
	assert.Zero(t, changed)
	testdb.Idle(t, pool)
}

func TestClosedPool(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema)
	byLock := lock.New(db, players, nil)
	require.NoError(t, pool.Close())
	_, err := byLock.Update(context.Background(), 7, award(1))
	assert.ErrorContains(t, err, "database is closed")
}

func TestConstructorsReport(t *testing.T) {
	_, db := testdb.SQLite(t)
	for want, err := range map[string]error{
		"raceproof: lock.New: the DB is nil":                                           lock.New(nil, players, nil).Err(),
		"raceproof: lock.New: the Table is nil":                                        lock.New[Player](db, nil, nil).Err(),
		"raceproof: atomic.New: the DB is nil":                                         atomic.New(nil, players, nil).Err(),
		"raceproof: atomic.New: the Table is nil":                                      atomic.New[Player](db, nil, nil).Err(),
		"raceproof: optimistic.New: the DB is nil":                                     optimistic.New(nil, players, nil).Err(),
		"raceproof: optimistic.New: MaxAttempts is -1: it must not be negative":        optimistic.New(db, players, &optimistic.Options{Retry: raceproof.RetryPolicy{MaxAttempts: -1}}).Err(),
		"raceproof: optimistic.New: MaxPause is 1ns, less than MinPause, which is 2ns": optimistic.New(db, players, &optimistic.Options{Retry: raceproof.RetryPolicy{MinPause: 2, MaxPause: 1}}).Err(),
	} {
		assert.EqualError(t, err, want)
	}
	_, err := lock.New(nil, players, nil).Update(context.Background(), 7, award(1))
	assert.EqualError(t, err, "raceproof: lock.New: the DB is nil")
	assert.NoError(t, lock.New(db, players, nil).Err())
}

// Without preparing, no connection is kept from one update to the next.
func TestWithoutPreparing(t *testing.T) {
	pool := testdb.Open(t, testdb.File(t))
	pool.MustExec(playersSchema)
	pool.MustExec(ada)
	kept, err := raceproof.New(pool)
	require.NoError(t, err)
	notKept, err := raceproof.New(pool, raceproof.WithoutPreparing())
	require.NoError(t, err)
	for pattern, u := range updaters(notKept) {
		_, err := u.Update(context.Background(), 7, 1)
		require.NoError(t, err, pattern)
		assert.Zero(t, pool.Stats().InUse, pattern)
	}
	_, err = updaters(kept)["lock"].Update(context.Background(), 7, 1)
	require.NoError(t, err)
	assert.Equal(t, 1, pool.Stats().InUse)
	kept.Close()
	assert.Zero(t, pool.Stats().InUse)
}
