package transactions_test

import (
	"context"
	"database/sql"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A sum that is read, computed and written in plain SQL loses nothing where the database refuses what would.
func TestNoLostUpdate(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		enough := []sql.IsolationLevel{sql.LevelSerializable}
		if onPostgres(w.Database) {
			enough = append(enough, sql.LevelRepeatableRead)
		}
		const goroutines, times = 8, 20
		for _, level := range enough {
			var calls atomic.Int64
			var all sync.WaitGroup
			for range goroutines {
				all.Go(func() {
					for range times {
						assert.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
							calls.Add(1)
							n, err := scoreOf(ctx, w.DB, 7)
							if err != nil {
								return err
							}
							return exec(ctx, w.DB, fmt.Sprintf(`UPDATE players SET score = %d WHERE id = 7`, n+1))
						}, raceproof.Isolation(level)))
					}
				})
			}
			all.Wait()
			scores(t, w, 1+goroutines*times, 1, level)
			t.Logf("%v: %d further attempts", level, calls.Load()-goroutines*times)
			w.Reset()
		}
	})
}

// Two who each look at both rows, and take from one of them only if enough is left in both, leave enough: as if they had
// come one after the other. The first attempts of both are held up until each has read, and where that can be until each has
// written.
func TestNoWriteSkew(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		for _, round := range []int{1, 2, 3} {
			var read, written sync.WaitGroup
			read.Add(2)
			written.Add(2)
			var committing, calls atomic.Int64
			var all sync.WaitGroup
			for _, id := range []int64{7, 8} {
				all.Go(func() {
					attempt := 0
					assert.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
						calls.Add(1)
						attempt++
						ada, err := scoreOf(ctx, w.DB, 7)
						if err != nil {
							return err
						}
						bob, err := scoreOf(ctx, w.DB, 8)
						if err != nil {
							return err
						}
						if attempt == 1 && w.Kind != "" {
							read.Done()
							read.Wait()
						}
						if ada+bob < 2 {
							return nil
						}
						err = exec(ctx, w.DB, add(-1, id))
						if attempt == 1 && onPostgres(w.Database) {
							written.Done()
							written.Wait()
						}
						if err == nil {
							committing.Add(1)
						}
						return err
					}, raceproof.Isolation(sql.LevelSerializable)))
				})
			}
			all.Wait()
			assert.Equal(t, int64(1), w.Row(7).Score+w.Row(8).Score, "round %d", round)
			if w.Kind != "" {
				assert.GreaterOrEqual(t, calls.Load(), int64(3), "one of them was refused") // PostgreSQL may refuse more than it must
			}
			if onPostgres(w.Database) {
				assert.GreaterOrEqual(t, committing.Load(), int64(2), "at COMMIT")
			}
			w.Reset()
		}
	})
}

// Half lock one row and then the other, half the other way round, and each round begins with two who have what the other
// one wants. All of it is done in the end, once.
func TestDeadlocks(t *testing.T) {
	each(t, everywhere, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, parameter(d, "deadlock_timeout", "", "1ms"))
		const pairs, rounds = 8, 20
		patterns := []world.Pattern{w.Pattern("lock"), w.Pattern("atomic")}
		for _, p := range patterns { // the table is known by now
			_, err := p.Update(minute(t), 7, world.Award(0))
			require.NoError(t, err)
		}
		w.Reset()
		brisk := raceproof.Retry(raceproof.RetryPolicy{MaxAttempts: 200, MinPause: time.Millisecond, MaxPause: 16 * time.Millisecond})
		var calls atomic.Int64
		for round := range rounds {
			// Whoever is the first to have his first row waits for the first of the other side.
			var first [2]sync.Once
			var met [2]chan struct{}
			met[0], met[1] = make(chan struct{}), make(chan struct{})
			var all sync.WaitGroup
			for i := range 2 * pairs {
				side := i % 2
				ids := [][]int64{{7, 8}, {8, 7}}[side]
				all.Go(func() {
					assert.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
						calls.Add(1)
						for n, id := range ids {
							if _, err := patterns[(i/2+round+n)%2].Update(ctx, id, world.Award(1)); err != nil {
								return err
							}
							if n == 0 && w.Kind != "" { // on SQLite nobody has anything while another writes
								first[side].Do(func() {
									close(met[side])
									<-met[1-side]
								})
							}
						}
						return nil
					}, brisk), "round %d", round)
				})
			}
			all.Wait()
		}
		const sum = 2 * pairs * rounds
		assert.Equal(t, world.Player{ID: 7, Name: "Ada", Score: 1 + sum, Version: sum}, w.Row(7))
		assert.Equal(t, world.Player{ID: 8, Name: "Bob", Score: 1 + sum, Version: sum}, w.Row(8))
		further := calls.Load() - sum
		t.Logf("%d further attempts", further)
		if w.Kind != "" {
			assert.GreaterOrEqual(t, further, int64(rounds), "each round has at least one deadlock")
		} else {
			assert.Zero(t, further)
		}
	})
}
