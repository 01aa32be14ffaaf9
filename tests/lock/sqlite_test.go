package lock_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// On SQLite it is the one write lock that is wanted: another handle has it, or a writer of this DB. A Select has it already.
func TestSQLiteGivesUp(t *testing.T) {
	each(t, onSQLite, func(t *testing.T, w *world.World) {
		warm(t, w)
		choices := append(impatience(w), impatient{"UpdateFirst, NoWait", lock.Options{UpdateFirst: true, NoWait: true}, 0})
		give := func(by string) {
			for _, i := range choices {
				if i.o.SkipLocked {
					continue
				}
				for _, way := range ways[:2] {
					i.refuses(t, way.name+", held by "+by, func() error { return way.f(minute(t), w, i.o) })
				}
				i.refuses(t, "Upsert, held by "+by, func() error {
					_, err := lock.New(w.DB, world.Players, &i.o).Upsert(minute(t), 9, named("Cid"), add(1))
					return err
				})
			}
		}
		_, rollback := w.Hold(8)
		give("somebody else")
		rollback()
		require.ErrorIs(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			give("a writer of the DB")
			for _, i := range choices {
				if !i.o.SkipLocked {
					for _, way := range ways {
						assert.NoError(t, way.f(ctx, w, i.o), "%s, %s: the transaction has the lock", i.name, way.name)
					}
				}
			}
			return errOwn
		}), errOwn)
		w.Unchanged()
		for _, i := range choices {
			if !i.o.SkipLocked {
				assert.NoError(t, ways[0].f(minute(t), w, i.o), "%s: it is free", i.name)
			}
		}
	})
}

// Without a limit of its own a call waits for as long as its context lasts, and for one that cannot end as the connection
// says.
func TestSQLiteWaits(t *testing.T) {
	each(t, onSQLite, func(t *testing.T, w *world.World) {
		commit, _ := w.Hold(7)
		pool := w.Fresh.Open(databases.Options{})
		db, err := raceproof.New(pool)
		require.NoError(t, err)
		defer db.Close()
		done := make(chan error, 1)
		go func() {
			_, err := lock.New(db, world.Players, &lock.Options{WaitAtMost: slow}).Update(minute(t), 7, add(1))
			done <- err
		}()
		world.Until(t, "it waits", func() bool { return pool.Stats().InUse > 0 })
		commit()
		assert.NoError(t, <-done)
		assert.EqualValues(t, 102, w.Row(7).Score)
	})
}
