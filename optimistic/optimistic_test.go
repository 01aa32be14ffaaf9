package optimistic_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/testdb"
	"github.com/raceproof/raceproof/optimistic"
)

type player struct {
	ID      int64 `db:"id"`
	Score   int64 `db:"score"`
	Version int64 `db:"version"`
}

var players = raceproof.MustTable[player]("players")

const (
	schema = `CREATE TABLE players (id INTEGER PRIMARY KEY, score INTEGER NOT NULL, version INTEGER NOT NULL)`
	one    = `INSERT INTO players VALUES (7, 0, 0)`
)

// quick is impatient, so that tests need not be patient.
var quick = optimistic.Options{Retry: raceproof.RetryPolicy{MaxAttempts: 5, MinPause: time.Nanosecond, MaxPause: time.Microsecond}}

// overtaken returns a function over the row that somebody else overtakes the first n times.
func overtaken(n int, by func(string, ...any) error, calls *int) raceproof.Func[player] {
	return func(_ context.Context, p *player) error {
		*calls++
		p.Score++
		if *calls > n {
			return nil
		}
		return by(`UPDATE players SET score = score + 100, version = version + 1 WHERE id = 7`)
	}
}

func TestRetries(t *testing.T) {
	pool, db := testdb.SQLite(t, schema, one)
	calls := 0
	by := func(q string, args ...any) error { _, err := pool.Exec(q, args...); return err }
	got, err := optimistic.New(db, players, &quick).Update(context.Background(), 7, overtaken(4, by, &calls))
	require.NoError(t, err)
	assert.Equal(t, player{7, 401, 5}, got, "computed from the row as it was at last")
	assert.Equal(t, 5, calls)
}

func TestAttemptsAreBounded(t *testing.T) {
	pool, db := testdb.SQLite(t, schema, one)
	calls := 0
	by := func(q string, args ...any) error { _, err := pool.Exec(q, args...); return err }
	got, err := optimistic.New(db, players, &quick).Update(context.Background(), 7, overtaken(1000, by, &calls))
	assert.Zero(t, got)
	assert.ErrorIs(t, err, raceproof.ErrConflict)
	var given *raceproof.RetryError
	require.ErrorAs(t, err, &given)
	assert.Equal(t, 5, given.Attempts)
	assert.NoError(t, given.Ended)
	assert.ErrorContains(t, err, "raceproof: update players with key 7: raceproof: conflict with another update")
	assert.ErrorContains(t, err, "(given up after 5 attempts)")
	assert.Equal(t, 5, calls)
}

func TestContextEndsRetries(t *testing.T) {
	pool, db := testdb.SQLite(t, schema, one)
	gone := errors.New("the caller has gone")
	for name, options := range map[string]optimistic.Options{
		"in the pause":            {Retry: raceproof.RetryPolicy{MinPause: time.Hour}},
		"in the attempt after it": quick,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancelCause(context.Background())
			calls := 0
			by := func(q string, args ...any) error {
				if name == "in the pause" || calls == 2 {
					cancel(gone)
				}
				_, err := pool.Exec(q, args...)
				return err
			}
			if name == "in the pause" {
				// The conflict is found before the end of the context is: the read and the write look at it first.
				var timer context.CancelFunc
				ctx, timer = context.WithTimeoutCause(context.Background(), 100*time.Millisecond, gone)
				defer timer()
			}
			_, err := optimistic.New(db, players, &options).Update(ctx, 7, overtaken(1000, by, &calls))
			for _, want := range []error{raceproof.ErrConflict, gone} {
				assert.ErrorIs(t, err, want)
			}
			var given *raceproof.RetryError
			require.ErrorAs(t, err, &given)
			assert.Equal(t, calls, given.Attempts)
			assert.Error(t, given.Ended)
		})
	}
}

// In a caller's transaction a conflict can only be mended by running the whole of that again.
func TestOneAttemptInATransaction(t *testing.T) {
	pool, db := testdb.SQLite(t, schema, one)
	calls := 0
	err := db.Transact(context.Background(), func(ctx context.Context) error {
		by := func(q string, args ...any) error { _, err := db.Ext(ctx).ExecContext(ctx, q, args...); return err }
		_, err := optimistic.New(db, players, &quick).Update(ctx, 7, overtaken(1000, by, &calls))
		return err
	}, raceproof.Retry(raceproof.RetryPolicy{MaxAttempts: 1}))
	assert.ErrorIs(t, err, raceproof.ErrConflict)
	var given *raceproof.RetryError
	require.ErrorAs(t, err, &given)
	assert.Equal(t, 1, given.Attempts)
	assert.Equal(t, 1, calls)
	var p player
	require.NoError(t, pool.Get(&p, `SELECT * FROM players`))
	assert.Equal(t, player{7, 0, 0}, p)
}

// A row that is deleted between the read and the write is not found, it is not in conflict.
func TestDeletedMeanwhile(t *testing.T) {
	pool, db := testdb.SQLite(t, schema, one)
	_, err := optimistic.New(db, players, &quick).Update(context.Background(), 7, func(_ context.Context, p *player) error {
		p.Score++
		_, err := pool.Exec(`DELETE FROM players`)
		return err
	})
	assert.ErrorIs(t, err, raceproof.ErrNotFound)
	assert.NotErrorIs(t, err, raceproof.ErrConflict)
}

// The function's own error is not taken for a conflict, even if it is one.
func TestFunctionReturnsAConflict(t *testing.T) {
	_, db := testdb.SQLite(t, schema, one)
	calls := 0
	_, err := optimistic.New(db, players, &quick).Update(context.Background(), 7, func(context.Context, *player) error {
		calls++
		return raceproof.ErrConflict
	})
	assert.Equal(t, raceproof.ErrConflict, err)
	assert.Equal(t, 1, calls)
}

// Nothing is held while the function runs: with one connection, it can use it.
func TestHoldsNothing(t *testing.T) {
	pool, db := testdb.SQLite(t, schema, one)
	pool.SetMaxOpenConns(1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := optimistic.New(db, players, nil).Update(ctx, 7, func(ctx context.Context, p *player) error {
		assert.Zero(t, pool.Stats().InUse)
		p.Score++
		_, err := db.Ext(ctx).ExecContext(ctx, `INSERT INTO players VALUES (8, 0, 0)`)
		return err
	})
	require.NoError(t, err)
}
