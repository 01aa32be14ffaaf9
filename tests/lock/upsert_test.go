package lock_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// named is what creates a player.
func named(name string) raceproof.Func[world.Player] {
	return func(_ context.Context, p *world.Player) error { p.Name = name; return nil }
}

// Somebody else has inserted the row and not committed it, or holds the one that is there: an Upsert that is not to wait does
// not, and one that is to wait for so long waits no longer, alone and inside a transaction.
func TestUpsertWaits(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		warm(t, w)
		hold, err := w.Look.Beginx()
		require.NoError(t, err)
		defer func() { _ = hold.Rollback() }()
		_, err = hold.Exec(`INSERT INTO players VALUES (9, 'Cid', 1, 0, 0)`)
		require.NoError(t, err)
		_, err = hold.Exec(`UPDATE players SET score = score + 100 WHERE id = 7`)
		require.NoError(t, err)
		for name, o := range map[string]*lock.Options{"NoWait": {NoWait: true}, "SkipLocked": {SkipLocked: true}, "WaitAtMost": {WaitAtMost: little(w)}} {
			for id, called := range map[int64]string{9: "Dan", 7: "Ada"} {
				u := updater(t, w, o)
				upsert := func(ctx context.Context) error {
					_, err := u.Upsert(ctx, id, named(called), add(1))
					return err
				}
				inside := func(ctx context.Context) error { return w.DB.Transact(ctx, upsert) }
				for way, f := range map[string]func(context.Context) error{"alone": upsert, "inside": inside} {
					ctx, cancel := context.WithTimeout(t.Context(), slow)
					locked(t, f(ctx), "%s, %s, row %d", name, way, id)
					cancel()
				}
			}
		}
		require.NoError(t, hold.Rollback())
		_, err = updater(t, w, &lock.Options{NoWait: true}).Upsert(minute(t), 9, named("Dan"), add(1))
		assert.NoError(t, err)
	})
}

// Everybody wants the same rows, which are not there: one creates each, nobody fails, no function is called twice.
func TestUpsertAtOnce(t *testing.T) {
	const callers, rounds = 32, 12
	each(t, everywhere, func(t *testing.T, w *world.World) {
		tables(w)
		var changed atomic.Int64
		numbers, first := updater(t, w, nil), updater(t, w, &lock.Options{UpdateFirst: true})
		texts, places := lock.New(w.DB, codes, nil), lock.New(w.DB, seats, nil)
		ways := []func(ctx context.Context, round int) error{
			func(ctx context.Context, round int) error {
				_, err := numbers.Upsert(ctx, 100+round, named(fmt.Sprint("n", round)), func(_ context.Context, p *world.Player) error {
					changed.Add(1)
					p.Score++
					return nil
				})
				return err
			},
			func(ctx context.Context, round int) error {
				_, err := first.Upsert(ctx, 200+round, named(fmt.Sprint("f", round)), func(_ context.Context, p *world.Player) error {
					changed.Add(1)
					p.Score++
					return nil
				})
				return err
			},
			func(ctx context.Context, round int) error {
				_, err := texts.Upsert(ctx, fmt.Sprint("c", round), nothing[Code], func(_ context.Context, c *Code) error {
					changed.Add(1)
					c.N++
					return nil
				})
				return err
			},
			func(ctx context.Context, round int) error {
				_, err := places.Upsert(ctx, raceproof.Key{round, "A"}, nothing[Seat], func(_ context.Context, s *Seat) error {
					changed.Add(1)
					s.N++
					return nil
				})
				return err
			},
		}
		for round := range rounds {
			upsert, inside := ways[round%len(ways)], round/len(ways)%2 == 1
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					if inside {
						assert.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error { return upsert(ctx, round) }))
						return
					}
					assert.NoError(t, upsert(minute(t), round))
				})
			}
			wg.Wait()
		}
		assert.EqualValues(t, callers*rounds, changed.Load(), "functions are called once")
		var rows, sum int64
		require.NoError(t, w.Look.QueryRow(`SELECT count(*), sum(n) FROM (SELECT score AS n FROM players WHERE id >= 100
			UNION ALL SELECT n FROM codes UNION ALL SELECT n FROM seats) AS every`).Scan(&rows, &sum))
		assert.Equal(t, []int64{rounds, callers * rounds}, []int64{rows, sum})
	})
}

// nothing is what creates a row of which nothing is to be said but its key.
func nothing[T any](context.Context, *T) error { return nil }

// What fails leaves nothing behind, and an update in which it has failed goes on.
func TestUpsertFails(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		u := updater(t, w, nil)
		own := func(context.Context, *world.Player) error { return errOwn }
		rekeyed := func(_ context.Context, p *world.Player) error { p.ID, p.Name = 10, "Cid"; return nil }
		for _, bad := range []struct {
			name           string
			id             any
			create, change raceproof.Func[world.Player]
			is             error
		}{
			{"create fails", 9, own, add(1), errOwn},
			{"change of a new row fails", 9, named("Cid"), own, errOwn},
			{"change of an old row fails", 7, named("Cid"), own, errOwn},
			{"another unique column", 9, named("Ada"), add(1), nil},
			{"another key", 9, rekeyed, add(1), nil},
			{"no create", 9, nil, add(1), nil},
			{"no change", 9, named("Cid"), nil, nil},
			{"what the database refuses", 9, func(_ context.Context, p *world.Player) error { p.Name, p.Score = "Cid", -1; return nil }, add(1), nil},
			{"a key of another type", "9", named("Cid"), add(1), nil},
		} {
			upsert := func(ctx context.Context) error {
				_, err := u.Upsert(ctx, bad.id, bad.create, bad.change)
				require.Error(t, err, bad.name)
				for _, not := range []error{raceproof.ErrNotFound, raceproof.ErrConflict, raceproof.ErrCommitUnknown, raceproof.ErrLocked} {
					assert.NotErrorIs(t, err, not, bad.name)
				}
				if bad.is != nil {
					assert.Equal(t, bad.is, err, bad.name)
				}
				return nil
			}
			require.NoError(t, upsert(minute(t)))
			require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
				require.NoError(t, upsert(ctx))
				return exec(ctx, w, `UPDATE players SET level = level + 0 WHERE id = 8`)
			}), bad.name)
			var n int
			require.NoError(t, w.Look.Get(&n, `SELECT count(*) FROM players`))
			assert.Equal(t, 2, n, bad.name)
			w.Unchanged(bad.name)
		}
	})
}

// A Number is a named type.
type Number int32

// The key is set in the new row, of whatever type it is.
func TestUpsertKeys(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		tables(w)
		w.Look.MustExec(`CREATE TABLE counters (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)`)
		counts[struct {
			ID uint `db:"id"`
			N  int  `db:"n"`
		}](t, w, 1, uint8(1))
		counts[struct {
			ID *int64 `db:"id"`
			N  int    `db:"n"`
		}](t, w, 2, 2)
		counts[struct {
			ID Number `db:"id"`
			N  int    `db:"n"`
		}](t, w, 3, Number(3))
		var ids []int64
		require.NoError(t, w.Look.Select(&ids, `SELECT id FROM counters ORDER BY id`))
		assert.Equal(t, []int64{1, 2, 3}, ids)
		for range 2 {
			b, err := lock.New(w.DB, blobs, nil).Upsert(minute(t), []byte{0, 200}, nothing[Blob], nothing[Blob])
			require.NoError(t, err)
			assert.Equal(t, Blob{[]byte{0, 200}, 0, 0}, b)
		}
	})
}

// counts upserts a counter, twice.
func counts[T any](t *testing.T, w *world.World, id int64, key any) {
	t.Helper()
	u := lock.New(w.DB, raceproof.MustTable[T]("counters"), nil)
	created := 0
	for range 2 {
		_, err := u.Upsert(minute(t), key, func(context.Context, *T) error { created++; return nil }, nothing[T])
		require.NoError(t, err)
	}
	assert.Equal(t, 1, created, "row %d", id)
}
