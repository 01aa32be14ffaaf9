package serial_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// send sends a statement in the context's transaction.
func send(ctx context.Context, w *world.World, statement string) error {
	_, err := w.DB.Ext(ctx).ExecContext(ctx, statement)
	return err
}

// writes changes two other rows by statements of the function's own: one of its own DB, and one of another updater.
func writes(ctx context.Context, w *world.World, other raceproof.Updater[Tally, raceproof.Func[Tally]]) error {
	_, err := other.Update(ctx, 3, func(_ context.Context, r *Tally) error { r.N++; return nil })
	return errors.Join(send(ctx, w, `UPDATE tallies SET n = n + 1 WHERE id = 4`), err)
}

// thrown is where a function panics.
func thrown() error { panic("at the disco") }

// recovered returns what a call panics with, and the stack that it does so with.
func recovered(call func()) (value any, stack string) {
	defer func() {
		if value = recover(); value != nil {
			stack = string(debug.Stack())
		}
	}()
	call()
	return nil, ""
}

// What ends one caller's function, and what he has to see of it.
var endings = []struct {
	name string
	end  func() error
	seen func(t *testing.T, call func() error)
}{
	{"fails", func() error { return errOwn }, func(t *testing.T, call func() error) {
		assert.True(t, call() == errOwn, "his own error, as it is")
	}},
	{"panics", thrown, func(t *testing.T, call func() error) {
		value, stack := recovered(func() { _ = call() })
		assert.Equal(t, "at the disco", value)
		assert.Contains(t, stack, "serial_test.thrown", "with the function in the stack")
	}},
	{"ends its goroutine", func() error { runtime.Goexit(); return nil }, func(t *testing.T, call func() error) {
		exited := true
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = call()
			exited = false
		}()
		<-done
		assert.True(t, exited)
	}},
}

// A function that fails, panics or ends its goroutine takes back what it has done, by itself, by statements and by other
// updaters, and nothing of the others'.
func TestOneEnds(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		other := lock.New(w.DB, tallies, nil)
		p := byLock(w, tallies)
		n := map[int64]int64{}
		for _, ending := range endings {
			for _, sends := range []bool{false, true} {
				about := fmt.Sprintf("%s, statements %v", ending.name, sends)
				call := func(key int, end func() error) func() error {
					return func() error {
						_, err := p.Update(minute(t), key, itself(func(ctx context.Context, r *Tally) error {
							r.N += 10
							if sends {
								assert.NoError(t, writes(ctx, w, other), about)
							}
							return end()
						}))
						return err
					}
				}
				good := func() error { return nil }
				var calls []func()
				for i := range 6 {
					if i%3 == 1 {
						calls = append(calls, func() { ending.seen(t, call(1+i%2, ending.end)) })
						continue
					}
					n[int64(1+i%2)] += 10
					if sends {
						n[3], n[4] = n[3]+1, n[4]+1
					}
					calls = append(calls, func() { assert.NoError(t, call(1+i%2, good)(), about) })
				}
				if ending.name == "fails" { // the others' callers are counted out
					together(t, p, calls...)
				} else {
					besides(t, p, calls...)
				}
				for key, want := range n {
					assert.Equal(t, want, tally(t, w, key).N, "%s: row %d", about, key)
				}
			}
		}
	})
}

// besides queues callers of whom some do not come to be counted.
func besides[T any](t *testing.T, p pattern[T], calls ...func()) {
	t.Helper()
	open := gate(t, p)
	groups, alone := p.Stats().Groups, p.Stats().Alone
	var c crowd
	for _, call := range calls {
		c.queue(t, p, call)
	}
	open()
	c.Wait()
	assert.Equal(t, groups+2, p.Stats().Groups, "one group after the other")
	assert.Equal(t, alone, p.Stats().Alone, "nobody alone")
}

// What the rows of an optimistic updater's group were read as is not what a function that ends has made of them.
func TestOneEndsOptimistic(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		p := patterns(w, tallies)[1]
		n := int64(0)
		for _, ending := range endings {
			update := func(end func() error) func() error {
				return func() error {
					_, err := p.Update(minute(t), 1, itself(func(_ context.Context, r *Tally) error { r.N += 10; return end() }))
					return err
				}
			}
			good := func() { assert.NoError(t, update(func() error { return nil })()) }
			besides(t, p, good, func() { ending.seen(t, update(ending.end)) }, good)
			n += 20
			assert.Equal(t, n, tally(t, w, 1).N, ending.name)
		}
	})
}

// Mistakes are told to who has made them, as without the wrap, and to nobody else.
func TestMistakes(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		n := int64(0)
		for _, p := range patterns(w, tallies) {
			wrong := []func(context.Context, raceproof.Updater[Tally, change[Tally]]) error{
				func(ctx context.Context, u raceproof.Updater[Tally, change[Tally]]) error {
					_, err := u.Update(ctx, 99, plus(1))
					assert.ErrorIs(t, err, raceproof.ErrNotFound, p.name)
					return err
				},
				func(ctx context.Context, u raceproof.Updater[Tally, change[Tally]]) error {
					_, err := u.Update(ctx, "one", plus(1))
					assert.NotErrorIs(t, err, raceproof.ErrNotFound, p.name)
					return err
				},
				func(ctx context.Context, u raceproof.Updater[Tally, change[Tally]]) error {
					_, err := u.Update(ctx, nil, plus(1))
					return err
				},
				func(ctx context.Context, u raceproof.Updater[Tally, change[Tally]]) error {
					_, err := u.Update(ctx, 1, change[Tally]{})
					return err
				},
			}
			var wants []error
			for _, call := range wrong {
				want := call(minute(t), p.bare)
				require.Error(t, want, p.name)
				wants = append(wants, want)
			}
			var c crowd
			open := gate(t, p)
			for i, call := range wrong {
				c.queue(t, p, func() { _, err := p.Update(minute(t), 1, plus(1)); assert.NoError(t, err, p.name) })
				n++
				see := func() {
					err := call(minute(t), p)
					if assert.Error(t, err, p.name) {
						assert.Equal(t, wants[i].Error(), err.Error(), p.name)
					}
				}
				if i == 0 || i == 3 && p.name == "atomic" { // what is wrong is seen when it is his turn
					c.queue(t, p, see)
				} else {
					c.Go(see)
				}
			}
			open()
			c.Wait()
			assert.Equal(t, n, tally(t, w, 1).N, p.name)
		}
	})
}
