package galera_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
)

// The parents are players, and each may have so many children.
const (
	parents  = 40
	children = 1
)

// A way to lock a parent and then do something.
type family func(ctx context.Context, db *raceproof.DB, parent int64, o *lock.Options, f func(context.Context) error) error

func byUpdate(ctx context.Context, db *raceproof.DB, parent int64, o *lock.Options, f func(context.Context) error) error {
	_, err := lock.New(db, players, o).Update(ctx, parent, func(ctx context.Context, _ *Player) error { return f(ctx) })
	return err
}

func bySelect(ctx context.Context, db *raceproof.DB, parent int64, o *lock.Options, f func(context.Context) error) error {
	return db.Transact(ctx, func(ctx context.Context) error {
		if _, err := lock.Select(ctx, db, players, parent, o); err != nil {
			return err
		}
		return f(ctx)
	})
}

// Callers on all nodes lock a parent, count its children, and insert one if there are too few. A parent that is locked alone
// has too many then, one that is written first has not.
func updateFirst(t *testing.T, c *cluster) {
	c[0].look.MustExec(`CREATE TABLE children (id BIGINT AUTO_INCREMENT PRIMARY KEY, parent BIGINT NOT NULL, node INT NOT NULL, KEY (parent))`)
	for name, way := range map[string]family{"Update": byUpdate, "Select": bySelect} {
		t.Run(name, func(t *testing.T) {
			assert.Zero(t, broken(t, c, way, &lock.Options{UpdateFirst: true}))
		})
		t.Run(name+", without UpdateFirst", func(t *testing.T) {
			assert.Positive(t, broken(t, c, way, nil))
		})
	}
}

// broken returns how many parents have too many children.
func broken(t *testing.T, c *cluster, way family, o *lock.Options) (n int) {
	t.Helper()
	var dbs []*raceproof.DB
	for _, n := range c {
		dbs = append(dbs, n.unprepared(t))
	}
	for range parents {
		parent := c.row(t)
		var wg, counted sync.WaitGroup
		meet := sync.OnceFunc(counted.Wait)
		counted.Add(len(c))
		for i, db := range dbs {
			wg.Go(func() {
				arrive := sync.OnceFunc(counted.Done)
				defer arrive()
				assert.NoError(t, way(minute(t), db, parent, o, func(ctx context.Context) error {
					var have int
					if err := sqlx.GetContext(ctx, db.Ext(ctx), &have, fmt.Sprintf(`SELECT count(*) FROM children WHERE parent = %d`, parent)); err != nil {
						return err
					}
					if arrive(); o == nil {
						meet() // so that all of them have counted: nothing but the lock could keep them from it
					}
					if have >= children {
						return nil
					}
					_, err := db.Ext(ctx).ExecContext(ctx, fmt.Sprintf(`INSERT INTO children (parent, node) VALUES (%d, %d)`, parent, i))
					return err
				}))
			})
		}
		wg.Wait()
		for _, node := range c {
			var have int
			require.NoError(t, node.look.Get(&have, `SELECT count(*) FROM children WHERE parent = ?`, parent))
			require.Positive(t, have)
			if have > children {
				n++
				break
			}
		}
	}
	t.Logf("%d of %d parents have too many", n, parents)
	return n
}
