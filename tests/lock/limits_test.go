package lock_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// WaitAtMost is for all rows of an UpdateMany together: each of these is free again before the limit has passed since it was
// asked for, and the second is not before it has passed since the first was.
func TestWaitAtMostForAll(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		warm(t, w)
		limit := time.Second
		if w.Kind == servers.MariaDB {
			limit *= 2 // what is left is rounded up to a second
		}
		_, one := w.Hold(7)
		_, other := w.Hold(8)
		var err error
		var wg sync.WaitGroup
		start := time.Now()
		wg.Go(func() {
			_, err = updater(t, w, &lock.Options{WaitAtMost: limit}).UpdateMany(minute(t), []any{7, 8}, addAll(1))
		})
		world.Until(t, "most of the limit has passed", func() bool { return time.Since(start) > limit*6/10 })
		one()
		world.Until(t, "more than all of it has", func() bool { return time.Since(start) > limit*135/100 })
		other()
		wg.Wait()
		locked(t, err)
		w.Unchanged()
	})
}

// NoWait is an answer, however little is left of the context: nothing is made again for it.
func TestNoWaitAtTheEnd(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		warm(t, w)
		_, rollback := w.Hold(7)
		defer rollback()
		world.Until(t, "the answer comes before the context has ended", func() bool {
			calls, inTime := 0, false
			err := w.DB.Transact(minute(t), func(ctx context.Context) error {
				calls++
				short, cancel := context.WithTimeout(ctx, 48*time.Millisecond)
				defer cancel()
				_, err := lock.Select(short, w.DB, world.Players, 7, &lock.Options{NoWait: true})
				inTime = short.Err() == nil
				return err
			})
			require.Error(t, err)
			if inTime {
				locked(t, err)
				assert.Equal(t, 1, calls)
			}
			return inTime
		})
	})
}

// On SQLite readers take the writers' turn for a moment, when nobody wants it: NoWait is not refused for that.
func TestNoWaitBesideReaders(t *testing.T) {
	each(t, onSQLite, func(t *testing.T, w *world.World) {
		warm(t, w)
		reader := optimistic.New(w.DB, world.Players, nil)
		var reads atomic.Int64
		var done atomic.Bool
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for !done.Load() {
					_, err := reader.Update(minute(t), 8, func(context.Context, *world.Player) error { return nil })
					assert.NoError(t, err)
					reads.Add(1)
				}
			})
		}
		u, refused := updater(t, w, &lock.Options{NoWait: true}), 0
		for range 100 {
			before := reads.Load()
			world.Until(t, "somebody reads", func() bool { return reads.Load() > before })
			start := time.Now()
			if _, err := u.Update(minute(t), 7, add(0)); err != nil && time.Since(start) < 90*time.Millisecond {
				refused++ // at once, and not because a reader was kept from ending its turn by a busy machine
			}
		}
		done.Store(true)
		wg.Wait()
		assert.Zero(t, refused)
	})
}
