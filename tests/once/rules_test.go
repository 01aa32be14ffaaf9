package once_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// never is work that must not be done.
func never(t *testing.T) func(context.Context) (world.Player, error) {
	return func(context.Context) (world.Player, error) {
		assert.Fail(t, "it is called")
		return world.Player{}, nil
	}
}

func TestStoredResult(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		want := world.Player{ID: 7, Name: "Ada", Score: 2, Version: 1}
		row, err := once.Do(minute(t), w.DB, "a", award(w, w.DB))
		require.NoError(t, err)
		assert.Equal(t, want, row)
		_, err = award(w, w.DB)(minute(t)) // the row goes on, what is stored does not
		require.NoError(t, err)
		_, other := w.Open(databases.Options{})
		for _, db := range []*raceproof.DB{w.DB, other} {
			row, err = once.Do(minute(t), db, "a", never(t))
			require.NoError(t, err)
			assert.Equal(t, want, row)
		}

		_, err = once.Do(minute(t), w.DB, "a", func(context.Context) ([]string, error) { return nil, errMine })
		assert.ErrorContains(t, err, `once: key "a": what is stored is no []string`)
		row, err = once.Do(minute(t), w.DB, "a", never(t))
		require.NoError(t, err)
		assert.Equal(t, want, row, "still")
		assert.Equal(t, int64(2), gained(w))

		large := strings.Repeat("ä\x00\"", 1<<20/4)
		for range 2 {
			got, err := once.Do(minute(t), w.DB, "large", func(context.Context) (string, error) {
				stored := large
				large = ""
				return stored, nil
			})
			require.NoError(t, err)
			assert.True(t, got == strings.Repeat("ä\x00\"", 1<<20/4), "%d bytes", len(got))
		}
	})
}

// Each key is another one, byte for byte.
func TestKeys(t *testing.T) {
	long := strings.Repeat("x", 254)
	same := []string{"a", "A", "a ", " a", "a\x00", "a\x00\x00", "\x00", "ä", "a\u0308", "\xe4", "\xff", "\xff\xfe", "'", `\`, `\'`, "1", "01",
		"%", "_", long, long + "x", long + "y", long + " ", strings.Repeat("\x00", 255), strings.Repeat("\xff", 255)}
	onAll(t, func(t *testing.T, w *world.World) {
		for range 2 {
			for i, key := range same {
				got, err := once.Do(minute(t), w.DB, key, func(context.Context) (int, error) { return i, nil })
				require.NoError(t, err, "%q", key)
				assert.Equal(t, i, got, "%q", key)
			}
		}
		assert.Equal(t, len(same), keys(t, w))
		for _, key := range []string{"", long + "xx", strings.Repeat("ä", 128)} {
			_, err := once.Do(minute(t), w.DB, key, never(t))
			assert.ErrorIs(t, err, once.ErrKey, "%d bytes", len(key))
		}
		assert.Equal(t, len(same), keys(t, w))
	})
}

func TestKeyReused(t *testing.T) {
	type request struct{ Points int }
	onAll(t, func(t *testing.T, w *world.World) {
		_, err := once.Do(minute(t), w.DB, "a", award(w, w.DB), once.Payload(request{1}))
		require.NoError(t, err)
		_, err = once.Do(minute(t), w.DB, "a", never(t), once.Payload(request{1}))
		require.NoError(t, err)
		for _, opts := range [][]once.Option{nil, {once.Payload(request{2})}, {once.Payload(nil)}} {
			_, err = once.Do(minute(t), w.DB, "a", never(t), opts...)
			assert.ErrorIs(t, err, once.ErrKeyReused)
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
		}
		_, err = once.Do(minute(t), w.DB, "b", award(w, w.DB))
		require.NoError(t, err)
		_, err = once.Do(minute(t), w.DB, "b", never(t), once.Payload(nil))
		assert.ErrorIs(t, err, once.ErrKeyReused, "no payload is one of its own")
		u := once.Wrap(w.Pattern("atomic").Updater)
		_, err = u.Update(once.WithKey(minute(t), "c"), 7, world.Award(1))
		require.NoError(t, err)
		_, err = u.Update(once.WithKey(minute(t), "c"), 8, world.Award(1))
		assert.ErrorIs(t, err, once.ErrKeyReused, "another row")
		assert.Equal(t, int64(3), gained(w))
		assert.Equal(t, world.Bob, w.Row(8))
	})
}

// together lets 16 goroutines come with one key, half of them with another pool, as from another process. The first whose
// work is called goes on when others wait for the key.
func together(t *testing.T, w *world.World, f func(ctx context.Context, call int64, db *raceproof.DB) (world.Player, error)) (rows []world.Player, errs []error, calls int64) {
	_, other := w.Open(databases.Options{})
	for _, db := range []*raceproof.DB{w.DB, other} {
		_, err := once.Do(minute(t), db, "first", func(context.Context) (int, error) { return 1, nil }) // is connected by now
		require.NoError(t, err)
	}
	var counted, began atomic.Int64
	rows, errs = make([]world.Player, callers), make([]error, callers)
	var wg sync.WaitGroup
	for i := range callers {
		db := []*raceproof.DB{w.DB, other}[i%2]
		wg.Go(func() {
			began.Add(1)
			rows[i], errs[i] = once.Do(minute(t), db, "together", func(ctx context.Context) (world.Player, error) {
				call := counted.Add(1)
				if call == 1 {
					world.Until(t, "all are here", func() bool { return began.Load() == callers })
					if w.Kind != "" {
						w.WaitingAre(8)
					}
				}
				return f(ctx, call, db)
			})
		})
	}
	wg.Wait()
	return rows, errs, counted.Load()
}

func TestOneOfManyRuns(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		rows, errs, calls := together(t, w, func(ctx context.Context, _ int64, db *raceproof.DB) (world.Player, error) {
			return award(w, db)(ctx)
		})
		for i := range rows {
			assert.NoError(t, errs[i])
			assert.Equal(t, world.Player{ID: 7, Name: "Ada", Score: 2, Version: 1}, rows[i])
		}
		assert.Equal(t, int64(1), calls)
		assert.Equal(t, int64(1), gained(w))
	})
}

// If the one that runs fails, another one of those that wait runs.
func TestAnotherRuns(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		rows, errs, calls := together(t, w, func(ctx context.Context, call int64, db *raceproof.DB) (world.Player, error) {
			row, err := award(w, db)(ctx)
			if err == nil && call <= 2 {
				err = errMine
			}
			return row, err
		})
		failed := 0
		for i := range rows {
			if errs[i] != nil {
				assert.Equal(t, errMine, errs[i], "as it is")
				failed++
				continue
			}
			assert.Equal(t, world.Player{ID: 7, Name: "Ada", Score: 2, Version: 1}, rows[i])
		}
		assert.Equal(t, 2, failed)
		assert.GreaterOrEqual(t, calls, int64(3)) // more if the database has taken some who waited for a deadlock
		assert.Equal(t, int64(1), gained(w))
	})
}

// Who waits for the one that runs does so no longer than his context lasts.
func TestWaitEndsWithContext(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		_, other := w.Open(databases.Options{})
		_, err := once.Do(minute(t), other, "first", func(context.Context) (int, error) { return 1, nil })
		require.NoError(t, err)
		there, leave := make(chan struct{}), make(chan struct{})
		done := make(chan error, 1)
		go func() {
			_, err := once.Do(minute(t), w.DB, "a", func(ctx context.Context) (world.Player, error) {
				close(there)
				<-leave
				return award(w, w.DB)(ctx)
			})
			done <- err
		}()
		<-there
		for _, db := range []*raceproof.DB{w.DB, other} {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errCause)
			_, err = once.Do(ctx, db, "a", never(t))
			cancel()
			for _, want := range []error{context.DeadlineExceeded, errCause} {
				assert.ErrorIs(t, err, want)
			}
			if w.Kind != servers.MariaDB { // which counts in seconds, so that the context ends before it says anything
				assert.ErrorIs(t, err, raceproof.ErrLocked)
			}
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
			ctx, stop := context.WithCancelCause(minute(t))
			time.AfterFunc(20*time.Millisecond, func() { stop(errCause) })
			_, err = once.Do(ctx, db, "a", never(t))
			for _, want := range []error{context.Canceled, errCause} {
				assert.ErrorIs(t, err, want)
			}
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
		}
		select {
		case err := <-done:
			require.Fail(t, "nobody was waited for", fmt.Sprint(err))
		default:
		}
		close(leave)
		require.NoError(t, <-done)
		row, err := once.Do(minute(t), other, "a", never(t))
		require.NoError(t, err)
		assert.Equal(t, int64(2), row.Score)
		assert.Equal(t, int64(1), gained(w))
	})
}
