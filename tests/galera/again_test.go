package galera_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A transaction that another node has overtaken is made again, whether it finds out at a statement or at COMMIT.
func transactionsAgain(t *testing.T, c *cluster) {
	db := c[0].db(t)
	for _, p := range patterns(db, ignore) {
		for _, atCommit := range []bool{false, true} {
			lost, other := c.row(t), c.row(t)
			calls := 0
			require.NoError(t, db.Transact(minute(t), func(ctx context.Context) error {
				calls++
				if _, err := p.Update(ctx, lost, 1); err != nil {
					return err
				}
				if calls == 1 && !atCommit {
					c[1].overtake(t, c[0], lost)
				}
				_, err := p.Update(ctx, other, 1)
				if calls == 1 && atCommit {
					c[1].overtake(t, c[0], lost)
				}
				return err
			}), p.name)
			assert.Equal(t, 2, calls, p.name)
			c.is(t, Player{lost, 101, 2})
			c.is(t, Player{other, 1, 1})
		}
	}
}
