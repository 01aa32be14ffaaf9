package once_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// onPrivate runs a test on databases of servers that it may kill.
func onPrivate(t *testing.T, test func(*testing.T, *servers.Server, *world.World)) {
	for _, kind := range servers.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			server := databases.Server(t, kind)
			for _, name := range onServers {
				if d := databases.Named(name); d.Kind == kind {
					t.Run(name, func(t *testing.T) { test(t, server, prepare(t, d.At(server.DSN("")))) })
				}
			}
		})
	}
}

func restart(t *testing.T, server *servers.Server, w *world.World) {
	t.Helper()
	require.NoError(t, server.Restart())
	world.Until(t, "the server answers", func() bool { return w.Look.Ping() == nil })
}

// The answer to COMMIT is lost, or COMMIT itself, and then the server is down for a second: Do goes on asking as long as
// its context lasts.
func TestServerIsDownAfterCommit(t *testing.T) {
	t.Parallel()
	onPrivate(t, func(t *testing.T, server *servers.Server, w *world.World) {
		x := newWire(t, w)
		_, db := w.Open(x.options())
		for _, c := range []struct {
			name      string
			committed bool
			lasts     bool // until the server is there again
		}{
			{"made, lasts", true, true}, {"lost, lasts", false, true}, {"made, ends", true, false}, {"lost, ends", false, false},
		} {
			w.Reset()
			var calls atomic.Int64
			db, answered, lose, made := db, (<-chan struct{})(nil), func() {}, int64(0)
			if c.committed {
				rule := w.Proxy.On(world.IsCommit, 1, faultproxy.Withhold())
				db, answered, lose, made = w.DB, rule.Answered(), rule.Lose, 1
			} else {
				answered = x.hold(t).there // the server's end ends it
			}
			do := func(ctx context.Context) (world.Player, error) {
				return once.Do(ctx, db, c.name, func(ctx context.Context) (world.Player, error) {
					calls.Add(1)
					return award(w, db)(ctx)
				})
			}
			ctx, cancel := context.WithCancelCause(minute(t))
			var row world.Player
			done := make(chan error, 1)
			go func() {
				var err error
				for row, err = do(ctx); err != nil && !errors.Is(err, raceproof.ErrCommitUnknown); row, err = do(ctx) {
					if calls.Load() > 0 { // else it was a connection that the last case has killed
						break
					}
				}
				done <- err
			}()
			<-answered
			require.NoError(t, server.Kill())
			lose()
			select {
			case err := <-done:
				require.Fail(t, "it has given up", "%s: %v", c.name, err)
			case <-time.After(time.Second): // it is down for so long
			}
			var err error
			if !c.lasts {
				cancel(errCause)
				err = <-done
				for _, want := range []error{raceproof.ErrCommitUnknown, context.Canceled, errCause} {
					assert.ErrorIs(t, err, want, c.name)
				}
			}
			restart(t, server, w)
			if c.lasts {
				err = <-done
			} else {
				assert.Equal(t, made, gained(w), c.name)
				world.Until(t, "it is told", func() bool { // first of all, that connections are dead
					row, err = do(minute(t))
					return err == nil || calls.Load() > 1
				})
			}
			require.NoError(t, err, c.name)
			changed := world.Player{ID: 7, Name: "Ada", Score: 2, Version: 1}
			assert.Equal(t, changed, row, c.name)
			assert.Equal(t, changed, w.Row(7), c.name)
			assert.Equal(t, 2-made, calls.Load(), "%s: calls", c.name)
			cancel(nil)
		}
	})
}

// Whatever a server is doing when it is killed, callers who ask again with the same key until they are told end up with
// each update made once, and were never told that one was not made that was.
func TestServerIsKilled(t *testing.T) {
	t.Parallel()
	const updates, kills = 600, 3
	onPrivate(t, func(t *testing.T, server *servers.Server, w *world.World) {
		var done, refused, unknown atomic.Int64
		numbers := make(chan int)
		var wg sync.WaitGroup
		_, db := w.Open(databases.Options{}) // past the proxy, which would log each time that it cannot connect
		patterns := w.PatternsOf(db)
		for range callers {
			wg.Go(func() {
				for i := range numbers {
					u, key := once.Wrap(patterns[i%len(patterns)].Updater), fmt.Sprint("award ", i)
					wasUnknown := false
					for last, limit := time.Now().Add(asked), patience; time.Now().Before(last); limit = min(2*limit, longest) { // who is not told is missed in the end
						ctx, cancel := context.WithTimeout(t.Context(), limit)
						_, err := u.Update(once.WithKey(ctx, key), 7+int64(i)%2, world.Award(1))
						cancel()
						if err == nil {
							done.Add(1)
							break
						}
						if errors.Is(err, raceproof.ErrCommitUnknown) {
							wasUnknown = true
							unknown.Add(1)
						} else if !wasUnknown {
							refused.Add(1)
							for ; ; time.Sleep(time.Millisecond) { // until there is somebody to ask
								is, failed := tryTaken(w, key)
								if failed == nil {
									assert.False(t, is, "it was said not to be made, and is: %v", err)
									break
								}
							}
						}
					}
				}
			})
		}
		for i := range updates {
			numbers <- i
			if i%(updates/(kills+1)) == updates/(kills+1)-1 && i < updates-callers {
				require.NoError(t, server.Kill())
				restart(t, server, w)
			}
		}
		close(numbers)
		wg.Wait()
		assert.Equal(t, int64(updates), done.Load())
		assert.Equal(t, int64(updates), w.Row(7).Score+w.Row(8).Score-2)
		assert.Equal(t, int64(updates), w.Row(7).Version+w.Row(8).Version)
		assert.Positive(t, refused.Load()+unknown.Load())
		t.Logf("%s: %d updates, %d kills, %d times told that nothing was done, %d times that it is not known", w.Name, updates, kills,
			refused.Load(), unknown.Load())
	})
}
