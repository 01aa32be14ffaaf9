package session

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/fifo"
)

// rowQueues are those of callers who want the same row: in front of the pool, so that a row that many want at once takes
// only some of the connections, and callers of other rows find one.
type rowQueues = fifo.Queues[rowKey]

// A rowKey is a row's table and key. The key is a number, or else a text that tells it from others.
type rowKey struct {
	table, text string
	number      int64
}

// ErrOverloaded is documented in the root package.
var ErrOverloaded = errors.New("raceproof: too many callers are waiting")

// atOnce is how many callers of one row get to the database at the same time: not more than half of the pool.
func (p *Pool) atOnce() int {
	n := p.dialect.RowAtOnce
	if limit := p.db.Stats().MaxOpenConnections; limit > 0 && !p.dialect.OneWriter {
		n = min(limit/2, n)
	}
	return max(n, 1)
}

// Queue waits until it is the caller's turn to ask the database for the lock of a row, behind at most bound others of this
// process, and returns the function that ends it. Within a transaction nobody waits here: a connection is held already.
func (p *Pool) Queue(ctx context.Context, table string, key []any, bound int, w dialect.Wait) (done func(), err error) {
	if p.InTransaction(ctx) {
		return func() {}, nil
	}
	row := rowKey{table: table}
	if n, ok := key[0].(int64); ok && len(key) == 1 {
		row.number = n
	} else {
		row.text = fmt.Sprintf("%#v", key)
	}
	if w.None {
		bound = math.MaxInt // he does not wait, so that there cannot be too many of him
	}
	patience, enough := patienceOf(ctx, w)
	defer enough()
	switch p.rows.Acquire(patience, row, p.atOnce(), bound) {
	case fifo.Left:
		return nil, fmt.Errorf("%w: by the callers before it: %w", ErrLocked, impatience(ctx, patience))
	case fifo.Full:
		return nil, fmt.Errorf("%w: %d for one row", ErrOverloaded, bound)
	}
	return func() { p.rows.Release(row) }, nil
}
