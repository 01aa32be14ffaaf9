package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/fifo"
)

// rowQueues are those of callers who want the same row: in front of the pool, so that a row that many want at once takes
// only some of the connections, and callers of other rows find one.
type rowQueues = fifo.Queues[rowKey]

// A rowKey is a row's table and key.
type rowKey struct {
	table string
	KeyID
}

// A KeyID tells keys of one table apart: it is a number, or else a text.
type KeyID struct {
	text   string
	number int64
}

// KeyIDOf returns that of a key, whose values are as drivers take them.
func KeyIDOf(key []any) KeyID {
	if len(key) == 1 {
		switch v := key[0].(type) {
		case int64:
			return KeyID{number: v}
		case string:
			return KeyID{text: "s" + v}
		case []byte:
			return KeyID{text: "b" + string(v)}
		}
	}
	return KeyID{text: fmt.Sprintf("%#v", key)}
}

// Size is how many bytes the text of a key takes.
func (k KeyID) Size() int { return len(k.text) }

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

// Turns are those of one caller to ask the database for the locks of rows. They are to be ended.
type Turns struct {
	pool *Pool
	rows []rowKey
}

// Turns returns none.
func (p *Pool) Turns() *Turns { return &Turns{pool: p} }

// Wait waits until it is the caller's turn, behind at most bound others of this process. Within a transaction nobody waits
// here: a connection is held already.
func (t *Turns) Wait(ctx context.Context, table string, key []any, bound int, w dialect.Wait) error {
	p := t.pool
	if p.InTransaction(ctx) {
		return nil
	}
	row := rowKey{table, KeyIDOf(key)}
	patience, enough := patienceOf(ctx, w)
	defer enough()
	outcome := fifo.Left
	if !w.None { // else he is none of those who wait
		outcome = p.rows.Acquire(patience, row, p.atOnce(), bound)
	} else if p.rows.TryAcquire(row, p.atOnce()) {
		outcome = fifo.Served
	}
	switch outcome {
	case fifo.Left:
		return fmt.Errorf("%w: by the callers before it: %w", ErrLocked, impatience(ctx, patience))
	case fifo.Full:
		return fmt.Errorf("%w: %d for one row", ErrOverloaded, bound)
	}
	t.rows = append(t.rows, row)
	return nil
}

// End gives the turns to whoever is next. It can be called more than once.
func (t *Turns) End() {
	for _, row := range t.rows {
		t.pool.rows.Release(row)
	}
	t.rows = nil
}
