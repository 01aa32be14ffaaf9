package sessions

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/databases"
)

// A pool has no limit unless it is given one, and the smallest is 1: callers of a row get their turn in front of either.
func TestRowsAreLockedWhateverThePoolsLimit(t *testing.T) {
	onServers(t, func(t *testing.T, d databases.Database) {
		pool := d.Fresh(t).Open(databases.Options{})
		create(pool)
		for _, limit := range []int{0, 1} {
			pool.SetMaxOpenConns(limit)
			db, err := raceproof.New(pool)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			_, err = lock.New(db, players, nil).Update(ctx, 7, award)
			assert.NoError(t, err, "limit %d", limit)
			cancel()
			db.Close()
		}
	})
}
