package lock_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// Hooks that update the row of the update that they belong to: its turn is over by then, so that they do not wait for it,
// though the pool is so narrow that there are no turns to spare.
func TestHooksWantTheRow(t *testing.T) {
	const callers = 2 // as many as have their turn at once on SQLite; on servers that is one here
	each(t, everywhere, func(t *testing.T, w *world.World) {
		warm(t, w)
		w.Pool.SetMaxOpenConns(3)
		u := updater(t, w, nil)
		for name, update := range map[string]func(context.Context, raceproof.Func[world.Player]) (id int64, err error){
			"Update": func(ctx context.Context, f raceproof.Func[world.Player]) (int64, error) {
				_, err := u.Update(ctx, 7, f)
				return 7, err
			},
			"UpdateMany": func(ctx context.Context, f raceproof.Func[world.Player]) (int64, error) {
				_, err := u.UpdateMany(ctx, []any{8, 7}, func(ctx context.Context, rows players) error { return f(ctx, rows[1]) })
				return 7, err
			},
			"Upsert": func(ctx context.Context, f raceproof.Func[world.Player]) (int64, error) {
				_, err := u.Upsert(ctx, 9, named("Cid"), f)
				return 9, err
			},
		} {
			for ending, end := range map[string]error{"commit": nil, "rollback": errOwn} {
				about := name + ", " + ending
				register := w.DB.AfterCommit
				if end != nil {
					register = w.DB.AfterRollback
				}
				ctx, cancel := context.WithTimeout(t.Context(), slow)
				var hooks, wg sync.WaitGroup
				hooks.Add(callers)
				for range callers {
					wg.Go(func() {
						_, err := update(ctx, func(ctx context.Context, p *world.Player) error {
							p.Score++
							return errors.Join(end, register(ctx, func(ctx context.Context) {
								hooks.Done()
								hooks.Wait() // for all the others to be here too
								_, err := update(ctx, add(1))
								assert.NoError(t, err, about)
							}))
						})
						if !assert.ErrorIs(t, err, end, about) {
							hooks.Done() // that of the hook which was not called
						}
					})
				}
				wg.Wait()
				cancel()
			}
		}
		assert.EqualValues(t, 1+2*(callers+callers+callers), w.Row(7).Score, "two of the three with a commit, of a hook and not; with a rollback only the hook's")
	})
}
