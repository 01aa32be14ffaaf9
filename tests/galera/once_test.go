package galera_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/once"
)

// Work with one key that is asked for on all nodes at once is done once: each node lets its own caller insert the key, and
// certification lets one of them commit.
func onceOnAllNodes(t *testing.T, c *cluster) {
	const keys = 40
	require.NoError(t, once.CreateTable(minute(t), c[0].unprepared(t)))
	id := c.row(t)
	bf, failed := c.count(t, "wsrep_local_bf_aborts"), c.count(t, "wsrep_local_cert_failures")
	var mu sync.Mutex
	told := map[string]map[Player]int{}
	var wg sync.WaitGroup
	for _, n := range c {
		db := n.unprepared(t)
		award := patterns(db, ignore)[2]
		for range 2 {
			wg.Go(func() {
				for i := range keys {
					key := fmt.Sprint("award ", i)
					row, err := once.Do(minute(t), db, key, func(ctx context.Context) (Player, error) {
						return award.Update(ctx, id, 1)
					})
					if !assert.NoError(t, err, n.name) {
						return
					}
					mu.Lock()
					if told[key] == nil {
						told[key] = map[Player]int{}
					}
					told[key][row]++
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	c.is(t, Player{id, keys, keys})
	scores := map[int64]bool{}
	for key, rows := range told {
		assert.Len(t, rows, 1, "%s: all are told the same", key)
		for row, n := range rows {
			assert.Equal(t, 2*len(c), n, key)
			scores[row.Score] = true
		}
	}
	assert.Len(t, scores, keys, "each key's work was done")
	t.Logf("%d aborted by another node, %d not certified", c.count(t, "wsrep_local_bf_aborts")-bf, c.count(t, "wsrep_local_cert_failures")-failed)
}
