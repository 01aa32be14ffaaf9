package lease

import (
	"context"
	"errors"
	"fmt"

	"github.com/raceproof/raceproof"
)

// Fence makes sure that the transaction that ctx carries is committed only while the lease is held: from here to its COMMIT
// nobody can take the lease over, even if its time is over meanwhile; on a Galera cluster one of the two is refused. If the
// lease is lost the transaction fails: Transact returns an error that wraps this one, whatever its function makes of it.
//
// Call it last, before COMMIT: transactions with the fence of one lease wait for each other, at REPEATABLE READ and above on
// PostgreSQL they are refused and made again. The lease must have been acquired before the transaction began, or else it is
// taken for lost at those levels. In a nested Transact that is rolled back the fence is rolled back with it. Renewals do not
// wait for it, but on SQLite, where all writers wait for each other.
//
// The error is raceproof.ErrNoTransaction if ctx carries no transaction of the lease's DB, raceproof.ErrUnsupported if that
// is ReadOnly; then nothing has happened. It wraps raceproof.ErrLeaseLost if the lease is lost, and ErrReleased too if it
// was released. It can be another of the database, a conflict for example, which Transact deals with as it does with that of
// any statement. After any error but the first two, nothing of the transaction can be committed any more.
func (l *Lease) Fence(ctx context.Context) error {
	tx := l.pool().Current(ctx)
	switch {
	case tx == nil:
		return l.about(fmt.Errorf("a fence stands in a transaction: %w", raceproof.ErrNoTransaction))
	case tx.ReadOnly():
		return l.about(fmt.Errorf("%w: a fence is written, and the transaction only reads", raceproof.ErrUnsupported))
	}
	err := l.usable() // the own clock first: it needs no answer
	switch {
	case errors.Is(err, ErrReleased):
		err = l.lost(ErrReleased)
	case err == nil:
		var n int64
		if n, err = tx.Change(ctx, l.texts.fence(l.place, l.token, l.holder)); err != nil {
			err = l.about(fmt.Errorf("fence: %w", err))
		} else if n == 0 {
			err = l.end(l.lost(errTaken))
		}
	}
	if err != nil {
		tx.Fail(err) // also if its caller makes nothing of it
	}
	return err
}
