package verdicts_test

import (
	"context"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A query whose rows fill many times what passes before the server is silent.
const (
	manyRows  = `SELECT repeat('x', 8000) FROM generate_series(1, 10000)`
	manyRowsM = `SELECT repeat('x', 8000) FROM seq_1_to_10000`
	passed    = 100_000 // bytes: a few rows
)

// read reads rows to their end, and returns how many there were.
func read(rows interface {
	Next() bool
	Err() error
	Close() error
}) (n int, err error) {
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		n++
	}
	return n, rows.Err()
}

// A server that falls silent in the middle of a caller's rows holds nobody for long after the end of his context: neither
// who reads them, nor who has left them to be closed.
func TestSilenceInRows(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		query := manyRows
		if d.Kind == servers.MariaDB {
			query = manyRowsM
		}
		x := newTrickle(t, databases.Address(t, w.DSN(databases.Options{})))
		pool, db := w.Open(databases.Options{Address: x.listener.Addr().String()})
		var latest latest
		for how, rest := range map[string]func(context.Context, sqlx.ExtContext) error{
			"Query": func(ctx context.Context, ext sqlx.ExtContext) error {
				rows, err := ext.QueryContext(ctx, query)
				if err != nil {
					return err
				}
				n, err := read(rows)
				assert.Positive(t, n, "they have begun to come")
				return err
			},
			"Queryx": func(ctx context.Context, ext sqlx.ExtContext) error {
				rows, err := ext.QueryxContext(ctx, query)
				if err != nil {
					return err
				}
				n, err := read(rows)
				assert.Positive(t, n, "they have begun to come")
				return err
			},
			"Exec": func(ctx context.Context, ext sqlx.ExtContext) error {
				_, err := ext.ExecContext(ctx, query)
				return err
			},
			"rows left open": func(ctx context.Context, ext sqlx.ExtContext) error {
				rows, err := ext.QueryContext(ctx, query)
				if err == nil {
					assert.True(t, rows.Next(), "they have begun to come")
				}
				return err
			},
		} {
			for _, kind := range []string{"cancelled", "deadline"} {
				for _, nested := range []bool{false, true} {
					about := how + ", " + kind + map[bool]string{true: ", nested"}[nested]
					x.flow()
					require.NoError(t, pool.PingContext(minute(t)), about)
					ctx, cancel := context.WithCancelCause(t.Context())
					stop := func() {}
					if kind == "deadline" {
						ctx, stop = context.WithTimeoutCause(ctx, 150*time.Millisecond, errCause)
					} else {
						time.AfterFunc(150*time.Millisecond, func() { cancel(errCause) })
					}
					f := func(ctx context.Context) error {
						if _, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = score + 1, version = version + 1 WHERE id = 7`); err != nil {
							return err
						}
						x.pass(passed)
						return rest(ctx, db.Ext(ctx))
					}
					err := latest.call(t, ctx, w, about, x.cut, func(ctx context.Context) error {
						if nested {
							return db.Transact(ctx, func(ctx context.Context) error { return db.Transact(ctx, f) })
						}
						return db.Transact(ctx, f)
					})
					assert.Error(t, err, about)
					assert.Error(t, ctx.Err(), "%s: it was the end of the context that ended it: %v", about, err)
					assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, about)
					stop()
					cancel(nil)
					x.cut() // pgx goes on reading for seconds, on a connection that nobody waits for any more
					w.Idle(pool)
					assert.Equal(t, world.Ada, w.Row(7), "%s: nothing was done", about)
				}
			}
		}
		t.Log(&latest)
	})
}
