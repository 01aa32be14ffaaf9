package main

import (
	"context"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
)

// naive is WRONG, on purpose: it is the code that this library is there to replace, in the library's own interface.
//
// Between its SELECT and its UPDATE anybody can change the score. The UPDATE then overwrites that change with a number
// that was computed without it, and reports success. A transaction around the two would not mend it: SQLite's default,
// the deferred one, lets two of them read the same score as well, and fails the slower one when it writes.
//
// As it also leaves the version alone, not even the optimistic pattern can notice it: the promise of the other routes
// holds among each other, not for a player who is clicked by this route at the same time.
//
// Nor does it know how to wait: behind another process's lock it waits inside the driver for as long as the
// busy_timeout says, whatever the context says, and then fails with an error that the handler does not know.
type naive struct {
	pool      *sqlx.DB
	afterRead func() // called between the read and the write if a test wants to be there
}

var _ raceproof.Updater[Player, raceproof.Func[Player]] = (*naive)(nil)

func (u *naive) Update(ctx context.Context, key any, change raceproof.Func[Player]) (Player, error) {
	p, err := find(ctx, u.pool, key)
	if err != nil {
		return Player{}, err
	}
	if u.afterRead != nil {
		u.afterRead()
	}
	if err := change(ctx, &p); err != nil {
		return Player{}, err
	}
	if _, err := u.pool.ExecContext(ctx, "UPDATE players SET score = ? WHERE id = ?", p.Score, p.ID); err != nil {
		return Player{}, err
	}
	return p, nil
}
