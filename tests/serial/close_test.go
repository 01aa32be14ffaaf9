package serial_test

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// Close serves all who were there before, and refuses all who come later.
func TestCloseDrains(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		for _, p := range patterns(w, tallies) {
			before := tally(t, w, 1).N
			open := gate(t, p)
			var c crowd
			for range 5 {
				c.queue(t, p, func() { _, err := p.Update(minute(t), 1, plus(1)); assert.NoError(t, err, p.name) })
			}
			closed := make(chan error, 2)
			for range 2 {
				go func() { closed <- p.Close(minute(t)) }()
			}
			world.Until(t, "nobody is let in", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond) // for who is
				defer cancel()
				_, err := p.Update(ctx, 99, plus(1))
				assert.Error(t, err)
				return isClosed(err)
			})
			assert.Empty(t, closed, "%s: some are still there", p.name)
			open()
			c.Wait()
			for range 2 {
				assert.NoError(t, <-closed, p.name)
			}
			assert.Equal(t, before+5, tally(t, w, 1).N, p.name)
			_, err := p.Update(minute(t), 1, plus(1))
			assert.ErrorIs(t, err, raceproof.ErrClosed, p.name)
			assert.ErrorIs(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
				_, err := p.Update(ctx, 1, plus(1))
				return err
			}), raceproof.ErrClosed, p.name)
			assert.NoError(t, p.Close(minute(t)), p.name)
			_, err = p.bare.Update(minute(t), 1, plus(1))
			assert.NoError(t, err, "%s: the DB is open", p.name)
		}
	})
}

// With a context that has ended Close refuses who waits, of whom nothing is done. Who is being served is.
func TestCloseRefuses(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		for _, p := range patterns(w, tallies) {
			before := tally(t, w, 1)
			open := gate(t, p)
			var c crowd
			for range 5 {
				c.queue(t, p, func() {
					r, err := p.Update(minute(t), 1, plus(1))
					assert.ErrorIs(t, err, raceproof.ErrClosed, p.name)
					assert.Zero(t, r, p.name)
				})
			}
			ended, end := context.WithCancelCause(minute(t))
			end(errCause)
			err := p.Close(ended)
			assert.ErrorIs(t, err, context.Canceled, p.name)
			assert.ErrorIs(t, err, errCause, p.name)
			c.Wait()
			assert.Zero(t, p.Stats().Waiting, p.name)
			open()
			assert.NoError(t, p.Close(minute(t)), p.name)
			assert.Equal(t, before, tally(t, w, 1), p.name)
		}
	})
}

// Close in the middle of a load: each caller is served or refused, and nobody and nothing is left of it.
func TestCloseInTheMiddle(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		for _, p := range patterns(w, tallies) {
			before := tally(t, w, 1).N
			made := make([]int64, 16)
			var c crowd
			for i := range made {
				c.Go(func() {
					for {
						if _, err := p.Update(minute(t), 1, plus(1)); err != nil {
							assert.ErrorIs(t, err, raceproof.ErrClosed, p.name)
							return
						}
						made[i]++
					}
				})
			}
			world.Until(t, "groups are made", func() bool { return p.Stats().Groups > 5 })
			assert.NoError(t, p.Close(minute(t)), p.name)
			c.Wait()
			sum := int64(0)
			for _, n := range made {
				sum += n
			}
			assert.Equal(t, before+sum, tally(t, w, 1).N, p.name)
			w.Idle(w.Pool)
		}
	})
}

// No goroutine is left of any of it. It is the one test that is not run beside others.
func TestNoGoroutineIsLeft(t *testing.T) {
	for _, d := range slices.DeleteFunc(databases.All(), func(d databases.Database) bool { return !everywhere(d) }) {
		t.Run(d.Name, func(t *testing.T) { leavesNone(t, prepare(t, d)) })
	}
}

func leavesNone(t *testing.T, w *world.World) {
	before := runtime.NumGoroutine()
	for _, p := range patterns(w, tallies) {
		var calls []func()
		for range 8 {
			calls = append(calls, func() { _, err := p.Update(t.Context(), 1, plus(1)); assert.NoError(t, err) })
		}
		serve(t, p, calls...)
		assert.NoError(t, p.Close(t.Context()))
	}
	w.DB.Close()
	_ = w.Pool.Close()
	_ = w.Look.Close()
	world.Until(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
}
