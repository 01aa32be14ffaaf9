package once_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// The context ends while the answer to COMMIT is withheld: Do says soon that it does not know, and the next call does.
func TestContextEndsDuringCommit(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		const soon = 150 * time.Millisecond
		for _, p := range w.Patterns() {
			u := once.Wrap(p.Updater)
			took, want := time.Hour, int64(0)
			for range 5 { // a machine that stalls does so not every time
				if took <= soon {
					break
				}
				want++
				key := time.Now().String()
				rule := w.Proxy.On(world.IsCommit, 1, faultproxy.Withhold())
				ctx, cancel := context.WithCancelCause(minute(t))
				done := make(chan error, 1)
				go func() {
					_, err := u.Update(once.WithKey(ctx, key), 7, world.Award(1))
					done <- err
				}()
				<-rule.Answered()
				ended := time.Now()
				cancel(errCause)
				err := <-done
				took = min(took, time.Since(ended))
				for _, is := range []error{raceproof.ErrCommitUnknown, context.Canceled, errCause} {
					assert.ErrorIs(t, err, is, p.Name)
				}
				calls := w.Calls.Load()
				row, err := u.Update(once.WithKey(minute(t), key), 7, world.Award(1))
				require.NoError(t, err, p.Name)
				changed := world.Player{ID: 7, Name: "Ada", Score: 1 + want, Version: want}
				assert.Equal(t, changed, row, p.Name)
				assert.Equal(t, changed, w.Row(7), p.Name)
				assert.Equal(t, calls, w.Calls.Load(), "%s: the function is not called again", p.Name)
			}
			assert.LessOrEqual(t, took, soon, p.Name)
			w.Reset()
		}
	}, onServers...)
}

// COMMIT is still on its way when its caller has gone. The next call waits until it arrives, or is known never to, and
// tells the truth in either case.
func TestCommitIsUnderWay(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		x := newWire(t, w)
		_, slow := w.Open(x.options())
		for _, arrives := range []bool{true, false} {
			key, calls := map[bool]string{true: "arrives", false: "is lost"}[arrives], 0
			work := func(db *raceproof.DB) func(context.Context) (world.Player, error) {
				return func(ctx context.Context) (world.Player, error) {
					calls++
					return award(w, db)(ctx)
				}
			}
			h := x.hold(t)
			ctx, cancel := context.WithCancelCause(minute(t))
			gone := make(chan error, 1)
			go func() {
				_, err := once.Do(ctx, slow, key, work(slow))
				gone <- err
			}()
			<-h.there
			cancel(errCause)
			assert.ErrorIs(t, <-gone, raceproof.ErrCommitUnknown, key)

			var row world.Player
			done := make(chan error, 1)
			go func() {
				var err error
				row, err = once.Do(minute(t), w.DB, key, work(w.DB))
				done <- err
			}()
			w.Waiting()
			select {
			case err := <-done:
				require.Fail(t, "it has not waited", "%s: %v", key, err)
			default:
			}
			h.fate <- arrives
			require.NoError(t, <-done, key)
			changed := world.Player{ID: 7, Name: "Ada", Score: 2, Version: 1}
			assert.Equal(t, changed, row, key)
			assert.Equal(t, changed, w.Row(7), key)
			want := 1
			if !arrives {
				want = 2
			}
			assert.Equal(t, want, calls, "%s: calls", key)
			w.Reset()
		}
	}, onServers...)
}
