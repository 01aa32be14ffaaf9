package lock_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A pool is as wide as database/sql makes it unless it is told otherwise, which is without a limit, or as narrow as can be.
func TestAnyPool(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		for _, connections := range []int{0, 1, 2, 3} {
			pool := w.Fresh.Open(databases.Options{})
			pool.SetMaxOpenConns(connections)
			db, err := raceproof.New(pool)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), slow)
			_, err = lock.New(db, world.Players, nil).Update(ctx, 7, add(1))
			cancel()
			assert.NoError(t, err, "%d connections", connections)
			db.Close()
		}
		assert.EqualValues(t, 5, w.Row(7).Score)
	})
}

// crowd is how many callers want the hot row.
const crowd = 1000

// wide opens the library with the pool of a service.
func wide(t *testing.T, w *world.World) *raceproof.DB {
	t.Helper()
	pool := w.Fresh.Open(databases.Options{})
	pool.SetMaxOpenConns(16)
	if w.Kind == "" {
		pool.SetMaxOpenConns(8)
	}
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db
}

// A crowd waits for a row that somebody outside holds. Others get to other rows meanwhile, and the pool has connections; those
// in the crowd can leave, and the rest is served once the row is free.
func TestHotRow(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		db := wide(t, w)
		u := lock.New(db, world.Players, nil)
		_, err := u.Update(minute(t), 8, add(0))
		require.NoError(t, err)
		commit, _ := w.Hold(7)
		leaving, leave := context.WithCancelCause(minute(t))
		var stayed, left sync.WaitGroup
		for i := range crowd {
			if i%10 != 0 {
				left.Go(func() {
					_, err := u.Update(leaving, 7, add(1))
					assert.ErrorIs(t, err, context.Canceled)
					assert.ErrorIs(t, err, errCause)
				})
				continue
			}
			stayed.Go(func() {
				_, err := u.Update(minute(t), 7, add(1))
				assert.NoError(t, err)
			})
		}
		places := 16
		world.Until(t, "all of them wait", func() bool { return db.Pool().Waiting() >= crowd-places/2 })
		for range 20 {
			_, err := u.Update(minute(t), 8, add(1))
			require.NoError(t, err, "another row")
		}
		require.NoError(t, db.Transact(minute(t), func(ctx context.Context) error {
			_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = score + 1 WHERE id = 8`)
			return err
		}), "a transaction that is not told which row it wants")
		leave(errCause)
		left.Wait()
		commit()
		stayed.Wait()
		assert.EqualValues(t, 101+crowd/10, w.Row(7).Score)
		assert.EqualValues(t, 22, w.Row(8).Score)
		assert.Zero(t, db.Pool().Waiting())
	})
}

// The same without anybody outside, measured and not judged: how long callers of other rows take meanwhile. One driver of each
// database tells it.
func TestHotRowMeasured(t *testing.T) {
	on := func(d databases.Database) bool { return d.Name != "postgres/pq" && d.Name != "sqlite/modernc" }
	each(t, on, func(t *testing.T, w *world.World) {
		db := wide(t, w)
		u := lock.New(db, world.Players, nil)
		start, done := time.Now(), make(chan struct{})
		var took []time.Duration
		var other sync.WaitGroup
		other.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				began := time.Now()
				if _, err := u.Update(minute(t), 8, add(1)); !assert.NoError(t, err) {
					return
				}
				took = append(took, time.Since(began))
			}
		})
		var hot sync.WaitGroup
		for range crowd {
			hot.Go(func() {
				_, err := u.Update(minute(t), 7, add(1))
				assert.NoError(t, err)
			})
		}
		hot.Wait()
		all := time.Since(start)
		close(done)
		other.Wait()
		slices.Sort(took)
		t.Logf("%.0f updates of the hot row in a second; of another: %d, p50 %v, p99 %v", crowd/all.Seconds(), len(took), took[len(took)/2], took[len(took)*99/100])
		assert.EqualValues(t, 1+crowd, w.Row(7).Score)
		assert.EqualValues(t, 1+len(took), w.Row(8).Score)
	})
}

// Who comes first is served first, MaxWaiting bounds who may wait, and NoWait does not: in none of the cases is anything
// changed by who is turned away.
func TestQueue(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		warm(t, w)
		pool := w.Fresh.Open(databases.Options{})
		pool.SetMaxOpenConns(2) // one place, and on SQLite two
		db, err := raceproof.New(pool)
		require.NoError(t, err)
		defer db.Close()
		const waiters = 12
		u := lock.New(db, world.Players, &lock.Options{MaxWaiting: waiters})
		inside, leave := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := u.Update(minute(t), 7, func(context.Context, *world.Player) error {
				close(inside)
				<-leave
				return nil
			})
			assert.NoError(t, err)
		})
		<-inside
		places := 0 // of those who wait behind it for the database
		if w.Kind == "" {
			places = 1
		}
		var served, want []int
		for i := range waiters + places {
			wg.Go(func() {
				_, err := u.Update(minute(t), 7, func(context.Context, *world.Player) error { served = append(served, i); return nil })
				assert.NoError(t, err)
			})
			want = append(want, i)
			world.Until(t, "it waits", func() bool { return db.Pool().Waiting() == i+1 })
		}
		calls := 0
		turned := func(_ context.Context, p *world.Player) error { calls++; p.Score++; return nil }
		_, err = u.Update(minute(t), 7, turned)
		assert.ErrorIs(t, err, raceproof.ErrOverloaded)
		assert.NotErrorIs(t, err, raceproof.ErrLocked)
		_, err = u.UpdateMany(minute(t), []any{7, 8}, func(context.Context, players) error { calls++; return nil })
		assert.ErrorIs(t, err, raceproof.ErrOverloaded)
		_, err = lock.New(db, world.Players, &lock.Options{NoWait: true}).Update(minute(t), 7, turned)
		locked(t, err)
		_, err = lock.New(db, world.Players, &lock.Options{WaitAtMost: little(w)}).Update(minute(t), 7, turned)
		locked(t, err)
		assert.Equal(t, waiters+places, db.Pool().Waiting())
		if w.Kind != "" {
			_, err = u.Update(minute(t), 8, turned)
			assert.NoError(t, err, "nobody waits for the other row")
			calls--
		}
		close(leave)
		wg.Wait()
		assert.Zero(t, calls)
		if places == 0 {
			assert.Equal(t, want, served, "in the order in which they came")
		} else { // the two who have their turn at once can overtake each other
			assert.ElementsMatch(t, want, served)
		}
		assert.EqualValues(t, 1, w.Row(7).Score)
		assert.Zero(t, db.Pool().Waiting())
	})
}
