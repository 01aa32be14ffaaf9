package once_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	dbatomic "github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/testdb"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/optimistic"
)

type player struct {
	ID      int64 `db:"id"`
	Score   int64 `db:"score"`
	Version int64 `db:"version"`
}

var players = raceproof.MustTable[player]("players")

func open(t *testing.T) (*sqlx.DB, *raceproof.DB) {
	pool, db := testdb.SQLite(t, `CREATE TABLE players (id INTEGER PRIMARY KEY, score INTEGER NOT NULL, version INTEGER NOT NULL)`,
		`INSERT INTO players VALUES (7, 0, 0), (8, 0, 0)`)
	require.NoError(t, once.CreateTable(t.Context(), db))
	return pool, db
}

func scoreOf(t *testing.T, pool *sqlx.DB) (score int64) {
	require.NoError(t, pool.Get(&score, `SELECT score FROM players WHERE id = 7`))
	return score
}

func TestDo(t *testing.T) {
	pool, db := open(t)
	award := func(ctx context.Context) (player, error) {
		return dbatomic.New(db, players, nil).Update(ctx, 7, dbatomic.Set("score", dbatomic.F("score").Add(10)))
	}
	for range 3 {
		p, err := once.Do(t.Context(), db, "a", award)
		require.NoError(t, err)
		assert.Equal(t, player{7, 10, 1}, p)
	}
	for i, key := range []string{"b", "A", "a ", "á", "a\x00", "\x00\xff", strings.Repeat("x", 255), strings.Repeat("x", 254)} {
		p, err := once.Do(t.Context(), db, key, award)
		require.NoError(t, err)
		assert.Equal(t, int64(i+2), p.Version, "%q is a key of its own", key)
	}
	before := scoreOf(t, pool)
	for _, key := range []string{"", strings.Repeat("x", 256)} {
		_, err := once.Do(t.Context(), db, key, award)
		assert.ErrorIs(t, err, once.ErrKey)
	}
	assert.Equal(t, before, scoreOf(t, pool))
}

// A failure takes back everything, and the key can be used again.
func TestFailure(t *testing.T) {
	pool, db := open(t)
	mine := errors.New("the function's own error")
	work := func(err error) func(context.Context) (int, error) {
		return func(ctx context.Context) (int, error) {
			_, failed := lock.New(db, players, nil).Update(ctx, 7, func(_ context.Context, p *player) error { p.Score++; return nil })
			return 42, errors.Join(failed, err)
		}
	}
	got, err := once.Do(t.Context(), db, "a", work(mine))
	assert.ErrorIs(t, err, mine)
	assert.Zero(t, got)
	assert.Zero(t, scoreOf(t, pool))
	assert.Panics(t, func() {
		_, _ = once.Do(t.Context(), db, "a", func(context.Context) (int, error) { panic("the function's own") })
	})
	_, err = once.Do(t.Context(), db, "a", func(context.Context) (func(), error) { return func() {}, nil })
	assert.ErrorContains(t, err, `once: key "a": the result cannot be stored: json: unsupported type: func()`)
	ctx, cancel := context.WithCancel(t.Context())
	_, err = once.Do(ctx, db, "a", func(ctx context.Context) (int, error) {
		defer cancel()
		return work(nil)(ctx)
	})
	assert.ErrorIs(t, err, context.Canceled)
	assert.Zero(t, scoreOf(t, pool))
	got, err = once.Do(t.Context(), db, "a", work(nil))
	require.NoError(t, err)
	assert.Equal(t, 42, got)
	assert.Equal(t, int64(1), scoreOf(t, pool))

	var other []string
	_, err = once.Do(t.Context(), db, "a", func(context.Context) ([]string, error) { return other, nil })
	assert.ErrorContains(t, err, `once: key "a": what is stored is no []string`)
}

// Everybody gets what is stored, the first one too.
func TestResultIsWhatIsStored(t *testing.T) {
	_, db := open(t)
	type result struct {
		Shown  time.Time
		Hidden string `json:"-"`
		Any    any
	}
	now := time.Now()
	var results []result
	for range 2 {
		r, err := once.Do(t.Context(), db, "a", func(context.Context) (result, error) {
			return result{now, "secret", 1}, nil
		})
		require.NoError(t, err)
		results = append(results, r)
	}
	assert.Equal(t, results[0], results[1])
	assert.True(t, now.Equal(results[0].Shown))
	assert.Equal(t, float64(1), results[0].Any)
	for range 2 {
		r, err := once.Do(t.Context(), db, "nothing", func(context.Context) (*result, error) { return nil, nil })
		require.NoError(t, err)
		assert.Nil(t, r)
	}
}

func TestPayload(t *testing.T) {
	_, db := open(t)
	calls := 0
	do := func(opts ...once.Option) error {
		_, err := once.Do(t.Context(), db, "a", func(context.Context) (int, error) { calls++; return calls, nil }, opts...)
		return err
	}
	require.NoError(t, do(once.Payload(map[string]int{"a": 1, "b": 2})))
	require.NoError(t, do(once.Payload(map[string]int{"b": 2, "a": 1})))
	for _, opts := range [][]once.Option{nil, {once.Payload(nil)}, {once.Payload(map[string]int{"a": 1})}} {
		err := do(opts...)
		assert.ErrorIs(t, err, once.ErrKeyReused)
		assert.ErrorContains(t, err, `once: key "a"`)
	}
	assert.ErrorContains(t, do(once.Payload(func() {})), "once: the payload: json: unsupported type: func()")
	assert.Equal(t, 1, calls)
}

// Inside a transaction the key lives and dies with that.
func TestInTransaction(t *testing.T) {
	pool, db := open(t)
	mine := errors.New("the function's own error")
	award := func(ctx context.Context) (player, error) {
		return optimistic.New(db, players, nil).Update(ctx, 7, func(_ context.Context, p *player) error { p.Score++; return nil })
	}
	both := func(end error) error {
		return db.Transact(t.Context(), func(ctx context.Context) error {
			for range 2 {
				if p, err := once.Do(ctx, db, "a", award); err != nil || p.Score != 1 {
					return errors.Join(errors.New("not once"), err)
				}
			}
			return end
		})
	}
	assert.ErrorIs(t, both(mine), mine)
	assert.Zero(t, scoreOf(t, pool))
	require.NoError(t, both(nil))
	assert.Equal(t, int64(1), scoreOf(t, pool))

	_, err := once.Do(t.Context(), db, "outer", func(ctx context.Context) (player, error) {
		return once.Do(ctx, db, "outer", award)
	})
	assert.ErrorContains(t, err, `once: key "outer": it is the key of the work that this is part of`)
	assert.Equal(t, int64(1), scoreOf(t, pool))
}

func TestConcurrentCalls(t *testing.T) {
	_, db := open(t)
	var calls atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			got, err := once.Do(t.Context(), db, "a", func(context.Context) (int64, error) { return 41 + calls.Add(1), nil })
			assert.NoError(t, err)
			assert.Equal(t, int64(42), got)
		})
	}
	wg.Wait()
	assert.Equal(t, int64(1), calls.Load())
}

func TestWrap(t *testing.T) {
	pool, db := open(t)
	award := raceproof.Updater[player, int](once.Wrap(raceproof.Bind(lock.New(db, players, nil), func(points int) raceproof.Func[player] {
		return func(_ context.Context, p *player) error { p.Score += int64(points); return nil }
	})))
	ctx := once.WithKey(t.Context(), "a")
	for range 3 {
		p, err := award.Update(ctx, 7, 10)
		require.NoError(t, err)
		assert.Equal(t, player{7, 10, 1}, p)
	}
	_, err := award.Update(ctx, 8, 10)
	assert.ErrorIs(t, err, once.ErrKeyReused)
	_, err = award.Update(ctx, 7, 11)
	assert.ErrorIs(t, err, once.ErrKeyReused)
	_, err = award.Update(once.WithKey(ctx, ""), 7, 10)
	assert.ErrorIs(t, err, once.ErrKey)
	for range 3 { // a key of its own for each
		_, err := award.Update(t.Context(), 7, 1)
		require.NoError(t, err)
	}
	assert.Equal(t, int64(13), scoreOf(t, pool))
	_, err = award.Update(once.WithKey(ctx, "b"), 9, 10)
	assert.ErrorIs(t, err, raceproof.ErrNotFound)

	// The key is for the one update, not for those that its function makes.
	outer := once.Wrap(lock.New(db, players, nil))
	_, err = outer.Update(once.WithKey(ctx, "outer"), 8, func(ctx context.Context, p *player) error {
		_, err := award.Update(ctx, 7, 1)
		p.Score++
		return err
	})
	require.NoError(t, err)
	assert.Equal(t, int64(14), scoreOf(t, pool))
}

type other struct{}

func (other) Update(context.Context, any, int) (p player, err error) { return p, nil }

// A row that JSON would make another of is refused before it is committed.
func TestWrapBadInput(t *testing.T) {
	pool, db := open(t)
	type secretive struct {
		ID    int64 `db:"id"`
		Score int64 `db:"score" json:"-"`
	}
	u := once.Wrap(dbatomic.New(db, raceproof.MustTable[secretive]("players", raceproof.WithVersion("version")), nil))
	_, err := u.Update(t.Context(), 7, dbatomic.Set("score", 5))
	assert.ErrorContains(t, err, `once: column "score" of once_test.secretive is not the same when it was stored as JSON`)
	assert.Zero(t, scoreOf(t, pool))

	for want, err := range map[string]error{
		"once: Wrap: the updater is nil":                                                         once.Wrap[player, int](nil).Err(),
		"once: Wrap: raceproof: lock.New: the DB is nil":                                         once.Wrap(lock.New(nil, players, nil)).Err(),
		"once: Wrap: once_test.other does not tell its DB: it needs a method DB() *raceproof.DB": once.Wrap(other{}).Err(),
	} {
		assert.EqualError(t, err, want)
	}
	var none *lock.Updater[player] // nil, and an Updater all the same
	assert.EqualError(t, once.Wrap(none).Err(), "once: Wrap: the updater is nil")
	_, err = once.Wrap(none).Update(t.Context(), 7, nil)
	assert.EqualError(t, err, "once: Wrap: the updater is nil")
	_, err = once.Wrap(other{}).Update(t.Context(), 7, 1)
	assert.ErrorContains(t, err, "does not tell its DB")
	_, err = once.Do(t.Context(), nil, "a", func(context.Context) (int, error) { return 0, nil })
	assert.EqualError(t, err, "once: the DB is nil")
	_, err = once.Do[int](t.Context(), db, "a", nil)
	assert.EqualError(t, err, "once: the function is nil")
}

func TestTable(t *testing.T) {
	pool, db := testdb.SQLite(t)
	_, err := once.Do(t.Context(), db, "a", func(context.Context) (int, error) { return 1, nil })
	assert.ErrorContains(t, err, "raceproof_once", "the error names the table that is missing")
	schema, err := once.Schema("sqlite")
	require.NoError(t, err)
	pool.MustExec(schema)
	require.NoError(t, once.CreateTable(t.Context(), db))
	_, err = once.Do(t.Context(), db, "a", func(context.Context) (int, error) { return 1, nil })
	require.NoError(t, err)
	_, err = once.Schema("oracle")
	assert.ErrorContains(t, err, `once: unknown dialect "oracle": there is mysql, postgres, sqlite`)
	assert.EqualError(t, once.CreateTable(t.Context(), nil), "once: CreateTable: the DB is nil")
	assert.ErrorContains(t, db.Transact(t.Context(), func(ctx context.Context) error { return once.CreateTable(ctx, db) }),
		"once: CreateTable: it cannot be part of a transaction")
}

func TestExpire(t *testing.T) {
	pool, db := open(t)
	do := func(key string) {
		_, err := once.Do(t.Context(), db, key, func(context.Context) (int, error) { return 1, nil })
		require.NoError(t, err)
	}
	for i := range 2500 {
		pool.MustExec(`INSERT INTO raceproof_once VALUES (?, x'', x'31', (julianday('now') - 2440587.5) * 86400000000 - 7200000000)`, []byte{1, byte(i), byte(i >> 8)})
	}
	do("young")
	n, err := once.Expire(t.Context(), db, 3*time.Hour)
	require.NoError(t, err)
	assert.Zero(t, n)
	n, err = once.Expire(t.Context(), db, time.Hour)
	require.NoError(t, err)
	assert.Equal(t, int64(2500), n)
	var left string
	require.NoError(t, pool.Get(&left, `SELECT id FROM raceproof_once`))
	assert.Equal(t, "young", left)
	for _, age := range []time.Duration{0, -1} {
		_, err = once.Expire(t.Context(), db, age)
		assert.ErrorContains(t, err, "it must be positive")
	}
	_, err = once.Expire(t.Context(), nil, time.Hour)
	assert.EqualError(t, err, "once: Expire: the DB is nil")
}
