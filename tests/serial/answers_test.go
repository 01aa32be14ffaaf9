package serial_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// The answer to a group's COMMIT is lost: who has changed something does not know, who has not does.
func TestAnswerLost(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		n := int64(0)
		for _, p := range patterns(w, tallies) {
			open := gate(t, p)
			rule := commit(w, faultproxy.Drop())
			var c crowd
			changes := func(key int) func() {
				return func() {
					r, err := p.Update(minute(t), key, plus(1))
					assert.ErrorIs(t, err, raceproof.ErrCommitUnknown, p.name)
					assert.Zero(t, r, p.name)
				}
			}
			c.queue(t, p, changes(1))
			c.queue(t, p, changes(2))
			c.queue(t, p, changes(1))
			c.queue(t, p, func() {
				_, err := p.Update(minute(t), 99, plus(1))
				assert.ErrorIs(t, err, raceproof.ErrNotFound, p.name)
				assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.name)
			})
			if p.name != "atomic" {
				c.queue(t, p, func() {
					_, err := p.Update(minute(t), 1, itself(func(context.Context, *Tally) error { return errOwn }))
					assert.Equal(t, errOwn, err, p.name)
				})
				c.queue(t, p, func() {
					_, err := p.Update(minute(t), 3, itself(func(context.Context, *Tally) error { return nil }))
					if err != nil { // he has changed nothing, and need not be told that
						assert.ErrorIs(t, err, raceproof.ErrCommitUnknown, p.name)
					}
				})
			}
			c.queue(t, p, changes(1))
			open()
			c.Wait()
			assert.Equal(t, 1, rule.Fired(), p.name)
			n += 3
			assert.Equal(t, n, tally(t, w, 1).N, "%s: it was committed", p.name)
			assert.Equal(t, n/3, tally(t, w, 2).N, p.name)
		}
	})
}

// COMMIT never comes to the server.
func TestCommitCut(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		for _, p := range patterns(w, tallies) {
			open := gate(t, p)
			rule := commit(w, faultproxy.Cut())
			var c crowd
			for i := range 3 {
				c.queue(t, p, func() {
					_, err := p.Update(minute(t), 1+i%2, plus(1))
					assert.ErrorIs(t, err, raceproof.ErrCommitUnknown, p.name)
				})
			}
			open()
			c.Wait()
			assert.Equal(t, 1, rule.Fired(), p.name)
			assert.Zero(t, tally(t, w, 1).N, p.name)
		}
	})
}

// The same of a group that changes a single row, which can be one statement: its answer is lost, or it never comes there.
func TestWriteLost(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		for _, p := range patterns(w, tallies)[1:] {
			before := tally(t, w, 1).N
			open := gate(t, p)
			rule := w.Proxy.On(changesN, 1, faultproxy.Drop())
			unknown, made := 0, 0
			var mu sync.Mutex
			var c crowd
			for range 3 {
				c.queue(t, p, func() {
					_, err := p.Update(minute(t), 1, plus(1))
					mu.Lock()
					defer mu.Unlock()
					if errors.Is(err, raceproof.ErrCommitUnknown) {
						unknown++
					} else if assert.NoError(t, err, p.name) {
						made++
					}
				})
			}
			open()
			c.Wait()
			assert.Equal(t, 1, rule.Fired(), p.name)
			after := tally(t, w, 1).N - before
			assert.LessOrEqual(t, int64(made), after, p.name)
			assert.LessOrEqual(t, after, int64(made+unknown), p.name)
		}
	})
}

// ofOnce is lock, each update exactly once.
func ofOnce(t *testing.T, w *world.World) pattern[Tally] {
	t.Helper()
	require.NoError(t, once.CreateTable(minute(t), w.DB))
	return wrapped("once", once.Wrap(lock.New(w.DB, tallies, nil)), function, nil)
}

// An updater of package once finds out: every update is made exactly once, whatever becomes of the answers.
func TestOnce(t *testing.T) {
	actions := map[string]faultproxy.Action{"lost": faultproxy.Drop(), "cut": faultproxy.Cut(), "answered": faultproxy.Delay(0)}
	each(t, onServers, func(t *testing.T, w *world.World) {
		p := ofOnce(t, w)
		n := int64(0)
		for name, action := range actions {
			for _, given := range []bool{false, true} {
				about := fmt.Sprintf("%s, keys %v", name, given)
				open := gate(t, p)
				rule := commit(w, action)
				var c crowd
				rows := make([]Tally, 4)
				for i := range rows {
					c.queue(t, p, func() {
						ctx := minute(t)
						if given {
							ctx = once.WithKey(ctx, fmt.Sprint(about, i))
						}
						var err error
						rows[i], err = p.Update(ctx, 1, plus(1))
						assert.NoError(t, err, about)
					})
				}
				open()
				c.Wait()
				assert.Equal(t, 1, rule.Fired(), about)
				seen := map[int64]bool{}
				for _, r := range rows {
					seen[r.N] = true
				}
				assert.Len(t, seen, 4, about)
				n += 4
				assert.Equal(t, Tally{ID: 1, N: n, Version: n}, tally(t, w, 1), about)
			}
		}
	})
}

// Callers with one key in one group get one row, and it was changed once.
func TestOnceSameKey(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		p := ofOnce(t, w)
		var mu sync.Mutex
		var rows []Tally
		mine := func() {
			r, err := p.Update(once.WithKey(minute(t), "mine"), 1, plus(1))
			assert.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			rows = append(rows, r)
		}
		other := func() { _, err := p.Update(minute(t), 1, plus(1)); assert.NoError(t, err) }
		open := gate(t, p)
		var c crowd
		for _, call := range []func(){mine, other, mine, other} {
			c.queue(t, p, call)
		}
		c.queue(t, p, func() {
			_, err := p.Update(once.WithKey(minute(t), "mine"), 2, plus(1))
			assert.ErrorIs(t, err, once.ErrKeyReused)
		})
		open()
		c.Wait()
		assert.Equal(t, []Tally{{ID: 1, N: 1, Version: 1}, {ID: 1, N: 1, Version: 1}}, rows)
		assert.EqualValues(t, 3, tally(t, w, 1).N)
		assert.Zero(t, tally(t, w, 2).N)
	})
}

// The connection of a group is killed while a function of it runs: all are served in the end, once.
func TestKilled(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		statement := "SELECT pg_terminate_backend"
		if w.Kind == servers.MariaDB {
			statement = "KILL "
		}
		p := byLock(w, tallies)
		var kills atomic.Int64
		calls := make([]func(), 5)
		for i := range calls {
			calls[i] = of(t, p, 1, func(ctx context.Context, r *Tally) error {
				if i == 2 && kills.Add(1) == 1 {
					w.Kill(ctx, statement)
				}
				r.N++
				return nil
			})
		}
		serve(t, p, calls...)
		assert.Equal(t, Tally{ID: 1, N: 5, Version: 5}, tally(t, w, 1))
		assert.EqualValues(t, 2, kills.Load(), "his function was called again")
	})
}
