package galera_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lease"
)

// Never more hold a name than may, on all nodes together, and who has lost it commits nothing.
func leasesOnAllNodes(t *testing.T, c *cluster) {
	require.NoError(t, lease.CreateTable(minute(t), c[0].unprepared(t)))
	for n := 1; n <= 2; n++ {
		id := c.row(t)
		name := fmt.Sprint("job ", n)
		bf, failed := c.count(t, "wsrep_local_bf_aborts"), c.count(t, "wsrep_local_cert_failures")
		var holders, last, done atomic.Int64
		var wg sync.WaitGroup
		for _, node := range c {
			// One is without preparing, as it should be, and others are as they come.
			for _, db := range []*raceproof.DB{node.unprepared(t), node.db(t)} {
				s, err := lease.NewSemaphore(db, name, n, &lease.Options{Manual: true})
				require.NoError(t, err)
				wg.Go(func() {
					for range 10 {
						l, err := s.Acquire(minute(t))
						if !assert.NoError(t, err) {
							return
						}
						assert.LessOrEqual(t, holders.Add(1), int64(n))
						if n == 1 {
							assert.Greater(t, l.Token(), last.Swap(l.Token()))
						}
						assert.NoError(t, db.Transact(minute(t), func(ctx context.Context) error {
							if _, err := db.Ext(ctx).ExecContext(ctx, fmt.Sprintf(`UPDATE players SET score = score + 1 WHERE id = %d`, id)); err != nil {
								return err
							}
							return l.Fence(ctx)
						}))
						done.Add(1)
						holders.Add(-1)
						assert.NoError(t, l.Release(minute(t)))
					}
				})
			}
		}
		wg.Wait()
		assert.Equal(t, int64(60), done.Load())
		if n == 1 {
			c.is(t, Player{id, 60, 0})
		}
		t.Logf("%d places: %d aborted by another node, %d not certified", n, c.count(t, "wsrep_local_bf_aborts")-bf, c.count(t, "wsrep_local_cert_failures")-failed)
	}
}

// A lease is taken over on another node while a transaction has its fence: one of the two is refused. Either the transaction is
// committed before, or it is not committed.
func fencesOfNodes(t *testing.T, c *cluster) {
	manual := &lease.Options{Manual: true}
	for _, first := range []string{"the transaction", "the other node"} {
		id := c.row(t)
		here, there := c[0].unprepared(t), c[1].unprepared(t)
		a, err := lease.TryAcquire(minute(t), here, "fence "+first, manual)
		require.NoError(t, err)
		var b *lease.Lease
		calls := 0
		take := func() {
			c[1].change(t, `UPDATE raceproof_lease SET expires = expires - INTERVAL 1 HOUR WHERE holder IS NOT NULL`)
			b, err = lease.Acquire(minute(t), there, "fence "+first, manual)
			require.NoError(t, err)
		}
		err = here.Transact(minute(t), func(ctx context.Context) error {
			calls++
			if _, err := here.Ext(ctx).ExecContext(ctx, fmt.Sprintf(`UPDATE players SET score = score + 1 WHERE id = %d`, id)); err != nil {
				return err
			}
			if err := a.Fence(ctx); err != nil {
				return errors.Join(err)
			}
			if first == "the other node" && calls == 1 {
				take()
			}
			return nil
		})
		if first == "the other node" {
			assert.ErrorIs(t, err, raceproof.ErrLeaseLost)
			assert.Equal(t, 2, calls, "it was refused, and then it was lost")
			c.is(t, Player{id, 0, 0})
		} else {
			require.NoError(t, err)
			take()
			c.is(t, Player{id, 1, 0})
		}
		assert.Greater(t, b.Token(), a.Token())
		assert.ErrorIs(t, a.Release(minute(t)), raceproof.ErrLeaseLost)
		require.NoError(t, b.Release(minute(t)))
	}
}
