package lock_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

var strengths = []lock.Strength{0, lock.KeyShare, lock.Share, lock.NoKeyUpdate, lock.Update}

// has tells whether the database has a strength.
func has(w *world.World, s lock.Strength) bool {
	return w.Kind == servers.Postgres || s == 0 || s == lock.Share || s == lock.Update
}

// stand is what a strength stands for, 0 being the default.
func stand(w *world.World, s lock.Strength) lock.Strength {
	switch {
	case s != 0:
		return s
	case w.Kind == servers.Postgres:
		return lock.NoKeyUpdate
	}
	return lock.Update
}

// clash tells whether two strengths exclude each other (https://www.postgresql.org/docs/current/explicit-locking.html).
func clash(a, b lock.Strength) bool {
	weaker, stronger := min(a, b), max(a, b)
	return stronger == lock.Update || stronger == lock.NoKeyUpdate && weaker >= lock.Share
}

// Each strength keeps others from what it should, and from nothing else.
func TestStrengths(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		w.Look.MustExec(`CREATE TABLE medals (id BIGINT PRIMARY KEY, player BIGINT NOT NULL, FOREIGN KEY (player) REFERENCES players (id))`)
		medals := int64(0)
		for _, held := range strengths {
			if !has(w, held) {
				continue
			}
			require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
				_, err := lock.Select(ctx, w.DB, world.Players, 7, &lock.Options{Strength: held})
				require.NoError(t, err)
				for _, wanted := range strengths {
					if !has(w, wanted) {
						continue
					}
					about := fmt.Sprintf("%v is held, %v is wanted", held, wanted)
					err := w.DB.Transact(minute(t), func(ctx context.Context) error {
						_, err := lock.Select(ctx, w.DB, world.Players, 7, &lock.Options{Strength: wanted, NoWait: true})
						return err
					})
					if clash(stand(w, held), stand(w, wanted)) {
						locked(t, err, about)
					} else {
						assert.NoError(t, err, about)
					}
				}
				medals++
				assert.Equal(t, stand(w, held) != lock.Update, refers(t, w, medals), "%v: whether a row can refer to it", held)
				return nil
			}))
		}
	})
}

// refers tells whether somebody else can insert a row that refers to row 7 without waiting.
func refers(t *testing.T, w *world.World, id int64) bool {
	t.Helper()
	ctx := minute(t)
	c, err := w.Look.Connx(ctx)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	limit, reset := `SET lock_timeout = 20`, `SET lock_timeout = 0`
	if w.Kind == servers.MariaDB {
		limit, reset = `SET SESSION innodb_lock_wait_timeout = 0`, `SET SESSION innodb_lock_wait_timeout = 50`
	}
	_, err = c.ExecContext(ctx, limit)
	require.NoError(t, err)
	_, refused := c.ExecContext(ctx, fmt.Sprintf(`INSERT INTO medals VALUES (%d, 7)`, id))
	_, err = c.ExecContext(ctx, reset)
	require.NoError(t, err)
	return refused == nil
}

// A row that was selected stays locked to the end of the outermost transaction, also behind a nested one that has ended well,
// and an updater's as well.
func TestHeldToTheEnd(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		free := func(id int64) bool {
			err := w.DB.Transact(minute(t), func(ctx context.Context) error {
				_, err := lock.Select(ctx, w.DB, world.Players, id, &lock.Options{NoWait: true})
				return err
			})
			if err != nil {
				locked(t, err)
			}
			return err == nil
		}
		for _, o := range []lock.Options{{}, {NoWait: true}, {WaitAtMost: little(w)}, {UpdateFirst: true}} {
			require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
				require.NoError(t, w.DB.Transact(ctx, func(ctx context.Context) error {
					_, err := lock.Select(ctx, w.DB, world.Players, 7, &o)
					return err
				}))
				assert.False(t, free(7), "%+v", o)
				assert.True(t, free(8), "%+v", o)
				_, err := updater(t, w, &o).Update(ctx, 8, add(0))
				require.NoError(t, err)
				assert.False(t, free(8), "%+v", o)
				return nil
			}))
			assert.True(t, free(7) && free(8), "%+v", o)
		}
	})
}
