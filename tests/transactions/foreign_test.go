package transactions_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	dbatomic "github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// guarded is an update whose condition does not hold.
func guarded(ctx context.Context, w *world.World) error {
	_, err := dbatomic.New(w.DB, world.Players, nil).
		Update(ctx, 7, dbatomic.Set("score", 0).If(dbatomic.F("score").Gt(1000)))
	return err
}

// once is an optimistic update of one attempt that comes too late, outside of a transaction.
func once(ctx context.Context, w *world.World) error {
	u := optimistic.New(w.DB, world.Players, &optimistic.Options{Retry: raceproof.RetryPolicy{MaxAttempts: 1}})
	_, err := u.Update(ctx, 7, func(_ context.Context, p *world.Player) error {
		p.Score++
		_, err := w.Look.Exec(overtake)
		return err
	})
	return err
}

// The code of a refusal says nothing of whose transaction was refused: that of another database's is not made good by
// calling the function again, which would do the rest of its work twice.
func TestForeignCodes(t *testing.T) {
	eachRefusal(t, func(t *testing.T, w *world.World, r refusal) {
		for name, before := range map[string]func(context.Context) error{
			"at once":           nothing,
			"after a statement": func(ctx context.Context) error { return exec(ctx, w.DB, countCid) },
			"after one that failed": func(ctx context.Context) error {
				assert.Error(t, w.DB.Transact(ctx, func(ctx context.Context) error { return exec(ctx, w.DB, violate) }))
				return exec(ctx, w.DB, countCid)
			},
		} {
			foreign(t, w, r, name, before)
		}
	})
}

// Nor does it if the same has happened here before, and was handled.
func TestForeignCodesAfterOwn(t *testing.T) {
	eachRefusal(t, func(t *testing.T, w *world.World, r refusal) {
		if w.Kind == servers.MariaDB && r.want == raceproof.ErrConflict {
			return // it has ended the whole transaction
		}
		foreign(t, w, r, "after one of its own that was handled", func(ctx context.Context) error {
			assert.Error(t, w.DB.Transact(ctx, func(ctx context.Context) error { return r.provoke(t, ctx, w) }))
			return exec(ctx, w.DB, countCid)
		})
	})
}

// foreign fails the test if a refusal in another database has the function called again.
func foreign(t *testing.T, w *world.World, r refusal, about string, before func(context.Context) error) {
	t.Helper()
	if r.name == refusals[0].name || r.level == sql.LevelSerializable {
		return // it has no code, or comes with COMMIT
	}
	other := world.New(t, w.Database, r.options(w.Database))
	other.Look.MustExec(`CREATE TABLE doors (n BIGINT)`)
	calls := 0
	var theirs error
	err := w.DB.Transact(minute(t), func(ctx context.Context) error {
		calls++
		require.NoError(t, before(ctx))
		require.Error(t, other.DB.Transact(ctx, func(ctx context.Context) error {
			theirs = r.provoke(t, ctx, other)
			return theirs
		}, tries(1), raceproof.Isolation(r.level)))
		return fmt.Errorf("elsewhere: %w", theirs)
	}, raceproof.Isolation(r.level), tries(3))
	assert.Equal(t, 1, calls, about)
	assert.ErrorIs(t, err, theirs, about)
	assert.Zero(t, w.Row(9).Level, about)
	w.Reset()
}
