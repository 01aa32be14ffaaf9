package serial_test

import (
	"bytes"
	"context"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// goroutine names the goroutine that it is called on.
func goroutine() string {
	stack := make([]byte, 64)
	line, _, _ := bytes.Cut(stack[:runtime.Stack(stack, false)], []byte(" ["))
	return string(line)
}

// What a function gives to AfterCommit is called after the group's COMMIT, once, on its caller's goroutine, and can update the
// row itself; what one that fails has given to AfterRollback is called, and no other.
func TestHooks(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		for _, p := range patterns(w, tallies)[:2] {
			before := tally(t, w, 1).N
			rolled, committed := make([]int, 6), make([]int, 6)
			var calls []func()
			for i := range committed {
				var fails error
				if i%3 == 1 {
					fails = errOwn
				}
				calls = append(calls, func() {
					mine := goroutine()
					_, err := p.Update(minute(t), 1, itself(func(ctx context.Context, r *Tally) error {
						r.N++
						value := r.N
						assert.NoError(t, w.DB.AfterCommit(ctx, func(ctx context.Context) {
							committed[i]++
							assert.Equal(t, mine, goroutine(), p.name)
							assert.GreaterOrEqual(t, tally(t, w, 1).N, value, "%s: it is committed", p.name)
							_, err := p.Update(ctx, 1, plus(1))
							assert.NoError(t, err, p.name)
						}))
						assert.NoError(t, w.DB.AfterRollback(ctx, func(ctx context.Context) {
							rolled[i]++
							assert.Equal(t, mine, goroutine(), p.name)
							_, err := p.Update(ctx, 2, plus(1))
							assert.NoError(t, err, p.name)
						}))
						return fails
					}))
					assert.Equal(t, fails, err, p.name)
				})
			}
			serve(t, p, calls...)
			assert.Equal(t, []int{1, 0, 1, 1, 0, 1}, committed, p.name)
			assert.Equal(t, []int{0, 1, 0, 0, 1, 0}, rolled, p.name)
			assert.Equal(t, before+8, tally(t, w, 1).N, p.name)
		}
	})
}

// What was given in a function of a group that was given up is rolled back, and what is given when it is called again is
// committed.
func TestHooksAgain(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		p := byLock(w, tallies)
		open := gate(t, p)
		// What is written of the group never comes to the server.
		rule := w.Proxy.On(isWrite, 1, faultproxy.Cut())
		committed, rolled := make([]int, 3), make([]int, 3)
		var c crowd
		for i := range committed {
			c.queue(t, p, of(t, p, 1, func(ctx context.Context, r *Tally) error {
				r.N++
				assert.NoError(t, w.DB.AfterCommit(ctx, func(context.Context) { committed[i]++ }))
				assert.NoError(t, w.DB.AfterRollback(ctx, func(context.Context) { rolled[i]++ }))
				return nil
			}))
		}
		open()
		c.Wait()
		assert.Equal(t, 1, rule.Fired())
		assert.Equal(t, []int{1, 1, 1}, committed)
		assert.Equal(t, []int{1, 1, 1}, rolled)
		assert.Equal(t, Tally{ID: 1, N: 3, Version: 3}, tally(t, w, 1))
	})
}
