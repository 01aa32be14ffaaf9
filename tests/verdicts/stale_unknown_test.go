package verdicts_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// What has become of the last attempt is not known, so the call cannot have met nothing but conflicts: that the attempts
// before have is no news to a caller, who would take it for a reason to make the update again.
func TestStaleThenUnknown(t *testing.T) {
	each(t, onPostgres, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		u := optimistic.New(w.DB, world.Players, nil)
		for _, kind := range []string{"cancelled", "deadline"} {
			_, err := u.Update(minute(t), 7, world.Promote(1).Func) // what is looked at once only has been
			require.NoError(t, err)
			ctx, cancel := context.WithCancel(minute(t))
			if kind == "deadline" {
				ctx, cancel = context.WithTimeout(ctx, 1500*time.Millisecond)
			}
			calls := 0
			var tx *sqlx.Tx
			_, err = u.Update(ctx, 7, func(_ context.Context, p *world.Player) error {
				p.Score++
				switch calls++; calls {
				case 1:
					_, err := w.Look.Exec(`UPDATE players SET version = version + 1 WHERE id = 7`)
					return err
				case 2:
					tx = w.Look.MustBegin()
					tx.MustExec(`LOCK TABLE players IN ACCESS EXCLUSIVE MODE`)
					if kind == "cancelled" {
						go func() {
							w.Waiting()
							cancel()
						}()
					}
				}
				return nil
			})
			about := []any{"%s: %v", kind, err}
			assert.Equal(t, 2, calls, about...)
			assert.ErrorIs(t, err, ctx.Err(), about...)
			told := raceproof.ErrCommitUnknown
			if d.Name == "postgres/pq" { // which has the server cancel the statement, and waits for its answer
				told = raceproof.ErrConflict
			}
			for _, verdict := range []error{raceproof.ErrCommitUnknown, raceproof.ErrConflict} {
				assert.Equal(t, verdict == told, errors.Is(err, verdict), about...)
			}
			if tx != nil {
				require.NoError(t, tx.Rollback())
			}
			cancel()
			w.Idle(w.Pool)
		}
	})
}
