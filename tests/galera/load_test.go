package galera_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
)

// The load: callers on each node that is named, and updates of each of them.
const (
	callers = 3
	updates = 40
)

// lost returns an error unless every update that was acknowledged is one of its own, and all are in the row.
func lost(row Player, scores []int64) (err error) {
	if n := int64(len(scores)); row.Score != n || row.Version != n {
		err = fmt.Errorf("the row is %+v after %d updates", row, n)
	}
	told := map[int64]int{}
	for _, score := range scores {
		if told[score]++; told[score] > 1 {
			err = errors.Join(err, fmt.Errorf("%d callers were told that the score is %d", told[score], score))
		}
	}
	return err
}

// Callers change one row, by one of the patterns or by all of them. No update is lost if they are all on one node, which
// is how the documentation of Galera would have it.
func noneLost(t *testing.T, c *cluster) {
	for _, name := range loads {
		t.Run(name, func(t *testing.T) {
			id := c.row(t)
			scores := c.load(t, name, id, (*node).db, c[0], c[0], c[0])
			assert.NoError(t, lost(c[0].player(t, id), scores))
		})
	}
}

// Nor if they are on all nodes, if nothing is prepared on the server: see galeraLoses.
func allNodes(t *testing.T, c *cluster) {
	for _, name := range loads {
		t.Run(name, func(t *testing.T) {
			id := c.row(t)
			scores := c.load(t, name, id, (*node).unprepared, c[:]...)
			assert.NoError(t, lost(c[0].player(t, id), scores))
		})
	}
}

// Every pattern alone, and all of them together.
var loads = []string{"lock", "optimistic", "atomic", "mixed"}

// load has callers on nodes add to the score of a row, and returns the scores that they were told.
func (c *cluster) load(t *testing.T, name string, id int64, open func(*node, *testing.T) *raceproof.DB, nodes ...*node) (scores []int64) {
	t.Helper()
	bf, failed := c.count(t, "wsrep_local_bf_aborts"), c.count(t, "wsrep_local_cert_failures")
	began := time.Now()
	var mu sync.Mutex
	runs := 0
	seen := func(context.Context, Player) {
		mu.Lock()
		defer mu.Unlock()
		runs++
	}
	var wg sync.WaitGroup
	for _, n := range nodes {
		of := patterns(open(n, t), seen)
		for caller := range callers {
			p := of[caller%len(of)]
			if i := slices.IndexFunc(of, func(p pattern) bool { return p.name == name }); i >= 0 {
				p = of[i]
			}
			wg.Go(func() {
				for range updates {
					row, err := p.Update(minute(t), id, 1)
					if !assert.NoError(t, err, "%s on %s", p.name, n.name) {
						return
					}
					mu.Lock()
					scores = append(scores, row.Score)
					mu.Unlock()
				}
			})
		}
	}
	wg.Wait()
	require.Len(t, scores, len(nodes)*callers*updates)
	c.is(t, c[0].player(t, id))
	t.Logf("%d updates in %v; functions ran %d times; %d aborted by another node, %d not certified", len(scores),
		time.Since(began).Round(time.Millisecond), runs, c.count(t, "wsrep_local_bf_aborts")-bf,
		c.count(t, "wsrep_local_cert_failures")-failed)
	return scores
}

// galeraLoses shows what the library can do nothing about: callers on all nodes have the database add, in transactions of
// their own, without this library, and count what is committed. A part of it is not there. It takes prepared statements,
// which the driver makes of all that have arguments. Once a version does better, this test fails, and the documentation
// need not warn of it any more.
func galeraLoses(t *testing.T, c *cluster) {
	id, committed := c.row(t), atomic.Int64{}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		var wg sync.WaitGroup
		for _, n := range c {
			pool := n.open(t, n.address(), "raceproof", "")
			for range callers {
				wg.Go(func() {
					for range updates {
						if err := byHand(t.Context(), pool, id); err == nil {
							committed.Add(1)
						} else if !assert.EqualValues(t, conflict.code, code(err), "%v", err) {
							return
						}
					}
				})
			}
		}
		wg.Wait()
		if row := c[0].player(t, id); row.Score < committed.Load() {
			t.Logf("of %d updates by hand %d are there", committed.Load(), row.Score)
			return
		}
	}
	t.Errorf("all of %d updates by hand are there", committed.Load())
}

func byHand(ctx context.Context, pool *sqlx.DB, id int64) error {
	tx, err := pool.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err = tx.Exec(`UPDATE players SET score = score + 1, version = version + 1 WHERE id = ?`, id); err != nil {
		return err
	}
	var p Player
	if err = tx.Get(&p, `SELECT * FROM players WHERE id = ?`, id); err != nil {
		return err
	}
	return tx.Commit()
}

// count adds up what the nodes have counted.
func (c *cluster) count(t *testing.T, variable string) (sum int) {
	t.Helper()
	for _, n := range c {
		value, err := strconv.Atoi(n.status(variable))
		require.NoError(t, err)
		sum += value
	}
	return sum
}

// The control of noneLost: what is read on two nodes and then written on both is lost on one, and no node says so.
func naiveLoses(t *testing.T, c *cluster) {
	id := c.row(t)
	var scores []int64
	for _, n := range c[:2] {
		scores = append(scores, n.player(t, id).Score+1)
	}
	for i, n := range c[:2] {
		n.player(t, id) // so that it has the other's change, or it could refuse its own
		n.change(t, `UPDATE players SET score = ?, version = version + 1 WHERE id = ?`, scores[i], id)
	}
	assert.Error(t, lost(c[0].player(t, id), scores))
	c.is(t, Player{id, 1, 2})
}
