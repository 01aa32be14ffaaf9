package galera_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/lock"
)

func probe(t *testing.T) string {
	t.Helper()
	d, err := dialect.ByName("mysql")
	require.NoError(t, err)
	return d.Probe
}

// Two callers hold the lock of one row at once if they are on two nodes, and the function of one of them runs again. On
// one node the second waits for the first.
func locksOfNodes(t *testing.T, c *cluster) {
	for name, nodes := range map[string][2]*node{"on two nodes": {c[0], c[1]}, "on one node": {c[0], c[0]}} {
		t.Run(name, func(t *testing.T) {
			apart := nodes[0] != nodes[1]
			id := c.row(t)
			var runs atomic.Int64
			inside, leave := make(chan struct{}, 3), make(chan struct{})
			var wg sync.WaitGroup
			results := make([]Player, 2)
			update := func(i int) {
				u := lock.New(nodes[i].db(t), players, nil)
				wg.Go(func() {
					p, err := u.Update(minute(t), id, func(_ context.Context, p *Player) error {
						runs.Add(1)
						inside <- struct{}{}
						<-leave
						p.Score++
						return nil
					})
					results[i] = p
					assert.NoError(t, err)
				})
			}
			update(0)
			<-inside
			update(1)
			if apart {
				<-inside // while the first is there
			} else {
				until(t, "the second waits for the lock", func() bool { return nodes[1].waits(t) })
			}
			before := runs.Load()
			close(leave)
			wg.Wait()
			if apart {
				assert.EqualValues(t, 2, before)
				assert.EqualValues(t, 3, runs.Load())
			} else {
				assert.EqualValues(t, 1, before)
				assert.EqualValues(t, 2, runs.Load())
			}
			assert.ElementsMatch(t, []Player{{id, 1, 1}, {id, 2, 2}}, results)
			c.is(t, Player{id, 2, 2})
		})
	}
}

// waits tells whether a statement waits for a lock on the node.
func (n *node) waits(t *testing.T) bool {
	t.Helper()
	var engine, name, status string
	require.NoError(t, n.look.QueryRow(`SHOW ENGINE INNODB STATUS`).Scan(&engine, &name, &status))
	return strings.Contains(status, "LOCK WAIT")
}
