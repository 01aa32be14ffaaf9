package serial_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/serial"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// The answer to a group's COMMIT is lost, and then the database cannot be asked any more until the callers have given up. They
// are not told that nothing was changed, whatever it is that has failed last.
func TestSoakDoubt(t *testing.T) {
	for _, name := range []string{"postgres/pgx", "postgres/pq", "mariadb/mysql"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.New(t, databases.Named(name), databases.Options{})
			require.NoError(t, once.CreateTable(t.Context(), w.DB))
			hot := serial.Wrap(once.Wrap(lock.New(w.DB, world.Players, nil)))
			inside, leave := make(chan struct{}), make(chan struct{})
			var enter sync.Once
			var all sync.WaitGroup
			all.Go(func() {
				_, err := hot.Update(t.Context(), 8, func(context.Context, *world.Player) error {
					enter.Do(func() { close(inside) })
					<-leave
					return nil
				})
				assert.NoError(t, err)
			})
			<-inside
			w.Proxy.On(world.IsCommit, 1, faultproxy.Drop())
			var down atomic.Bool
			cut := w.Proxy.On(func(text string) bool { return down.Load() && world.IsBegin(text) }, 1000, faultproxy.Cut())
			var others sync.WaitGroup
			ctx, cancel := context.WithCancelCause(t.Context())
			for range 2 {
				others.Go(func() {
					_, err := hot.Update(ctx, 7, func(_ context.Context, p *world.Player) error {
						down.Store(true)
						p.Score++
						return nil
					})
					assert.ErrorIs(t, err, raceproof.ErrCommitUnknown)
					assert.ErrorIs(t, err, context.Canceled)
					assert.ErrorIs(t, err, errSoak)
				})
			}
			world.Until(t, "they have asked again", func() bool { return cut.Fired() >= 6 })
			cancel(errSoak)
			others.Wait()
			close(leave)
			all.Wait()
			assert.Greater(t, w.Row(7).Score, world.Ada.Score, "it was committed")
			require.NoError(t, hot.Close(t.Context()))
			w.Idle(w.Pool)
		})
	}
}
