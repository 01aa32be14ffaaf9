package serial_test

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

func plus(n int64) change[Tally] {
	return change[Tally]{
		func(_ context.Context, r *Tally) error { r.N += n; return nil },
		atomic.Set("n", atomic.F("n").Add(n)),
	}
}

func tally(t *testing.T, w *world.World, id int64) (r Tally) {
	t.Helper()
	require.NoError(t, w.Look.Get(&r, w.Look.Rebind(`SELECT * FROM tallies WHERE id = ?`), id))
	return r
}

// Each gets his own row, in the order in which they came, across rows; there is one transaction for all of them.
func TestEachHisOwn(t *testing.T) {
	const callers = 24 // of four rows
	each(t, everywhere, func(t *testing.T, w *world.World) {
		for _, p := range patterns(w, tallies) {
			before := [5]Tally{}
			for key := range before[1:] {
				before[key+1] = tally(t, w, int64(key+1))
			}
			got := make([]Tally, callers)
			var calls []func()
			for i := range callers {
				calls = append(calls, func() {
					var err error
					got[i], err = p.Update(minute(t), 1+i%4, plus(1))
					assert.NoError(t, err, p.name)
				})
			}
			together(t, p, calls...)
			for i, r := range got {
				want := before[1+i%4]
				want.N += int64(i/4 + 1)
				want.Version += int64(i/4 + 1)
				assert.Equal(t, want, r, "%s: caller %d", p.name, i)
			}
			for key := range 4 {
				assert.Equal(t, got[callers-4+key], tally(t, w, int64(key+1)), p.name)
			}
			assert.Equal(t, callers, p.Stats().LargestGroup, p.name)
		}
	})
}

// Functions are called in the order in which their callers came.
func TestFirstComeFirstServed(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		for _, p := range patterns(w, tallies)[:2] {
			var order, want []int
			var calls []func()
			for i := range 20 {
				want = append(want, i)
				calls = append(calls, func() {
					_, err := p.Update(minute(t), 1+i%3, itself(func(_ context.Context, r *Tally) error { order = append(order, i); r.N++; return nil }))
					assert.NoError(t, err, p.name)
				})
			}
			together(t, p, calls...)
			assert.True(t, slices.Equal(want, order), "%s: %v", p.name, order)
		}
	})
}

// One transaction, and one COMMIT, is sent for all rows of a group.
func TestOneTransaction(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		for _, p := range patterns(w, tallies) {
			open := gate(t, p)
			commits, begins := w.Sent(world.IsCommit), w.Sent(world.IsBegin)
			var c crowd
			for i := range 12 {
				c.queue(t, p, func() {
					_, err := p.Update(minute(t), 1+i%4, plus(1))
					assert.NoError(t, err, p.name)
				})
			}
			open()
			c.Wait()
			// The group before it can have one too, unless it has nothing to write or writes it by one statement.
			assert.Contains(t, []int{1, 2}, commits(), p.name)
			assert.LessOrEqual(t, begins(), 1, p.name)
		}
	})
}
