package raceproof_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/testdb"
)

// Every verdict is true: with contexts that end at any moment, all patterns on one row, and another process that writes
// as well, the row is what the acknowledged updates make of it, and no other.
func TestVerdictsAreTrue(t *testing.T) {
	for _, mode := range []string{"WAL", "DELETE"} {
		dsn := testdb.File(t, "_journal_mode="+mode)
		pool := testdb.Open(t, dsn)
		pool.MustExec(playersSchema)
		pool.MustExec(ada)
		db, err := raceproof.New(pool)
		require.NoError(t, err)
		all := updaters(db)

		var acknowledged, refused atomic.Int64
		var wg sync.WaitGroup
		for _, u := range all {
			for range 4 {
				wg.Go(func() {
					for range 150 {
						ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.IntN(3000))*time.Microsecond)
						if _, err := u.Update(ctx, 7, 1); err == nil {
							acknowledged.Add(1)
						} else {
							assert.ErrorIs(t, err, context.DeadlineExceeded)
							refused.Add(1)
						}
						cancel()
					}
				})
			}
		}
		outsider := testdb.Open(t, dsn)
		wg.Go(func() {
			for range 150 {
				if _, err := outsider.Exec(`UPDATE players SET score = score + 1, version = version + 1`); err == nil {
					acknowledged.Add(1)
				}
			}
		})
		wg.Wait()
		assert.Positive(t, refused.Load())
		wantPlayer(t, pool, Player{7, "Ada", acknowledged.Load(), acknowledged.Load()})
		testdb.Idle(t, pool)
		t.Logf("%s: %d acknowledged, %d refused", mode, acknowledged.Load(), refused.Load())
	}
}
