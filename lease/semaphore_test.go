package lease

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
)

func TestSemaphore(t *testing.T) {
	_, db := open(t)
	three := semaphore(t, db, "a", 3, manual)
	a := try(t, three)
	held(t, semaphore(t, db, "a", 1, manual))
	b := try(t, three)
	c := try(t, three)
	held(t, three)
	require.NoError(t, b.Release(t.Context()))
	d := try(t, three)
	assert.Equal(t, b.place, d.place, "the lowest that is free")
	for _, l := range []*Lease{a, c, d} {
		require.NoError(t, db.Transact(t.Context(), l.Fence))
		require.NoError(t, l.Renew(t.Context()))
		require.NoError(t, l.Release(t.Context()))
	}
	e := try(t, semaphore(t, db, "a", 1, manual))
	held(t, three.with(1))
	assert.Greater(t, e.Token(), d.Token())
}

// with returns the semaphore with another number of places.
func (s *Semaphore) with(n int) *Semaphore {
	other := *s
	other.n = n
	return &other
}

// The number can be changed while places are held: it is how many others there may be, whatever their numbers.
func TestChangedNumber(t *testing.T) {
	pool, db := open(t)
	s := semaphore(t, db, "a", 1, manual)
	var all []*Lease
	for n := 1; n <= 5; n++ {
		all = append(all, try(t, s.with(n)))
		held(t, s.with(n))
	}
	require.NoError(t, all[0].Release(t.Context()))
	require.NoError(t, all[2].Release(t.Context()))
	for n := 1; n <= 3; n++ {
		held(t, s.with(n))
	}
	all[0] = try(t, s.with(4))
	assert.Equal(t, int64(1), all[0].place)
	require.NoError(t, all[0].Release(t.Context()))
	require.NoError(t, all[1].Release(t.Context()))
	require.NoError(t, all[4].Release(t.Context()))
	held(t, s)
	try(t, s.with(2))
	require.NoError(t, all[3].Renew(t.Context()), "who holds one is not asked to leave")
	assert.Len(t, column[int](t, pool, "a", "place"), 5)
}

// Who is refused is told of the holder whose time is over first.
func TestFirstHolder(t *testing.T) {
	_, db := open(t)
	for _, ttl := range []int{30, 20, 40} {
		try(t, semaphore(t, db, "a", 3, &Options{TTL: time.Duration(ttl) * time.Second, Holder: fmt.Sprint(ttl), Manual: true}))
	}
	for n := 1; n <= 3; n++ {
		e := held(t, semaphore(t, db, "a", n, manual))
		assert.Equal(t, "20", e.Holder)
		assert.LessOrEqual(t, e.Left, 20*time.Second)
	}
}

// A place that is not counted because its time is over must not come back to life: its holder's renewal can be under way,
// when there is another place that is free.
func TestAllThatAreOverAreTaken(t *testing.T) {
	pool, db := open(t)
	s := semaphore(t, db, "a", 3, manual)
	a, b, c := try(t, s), try(t, s), try(t, s)
	require.NoError(t, a.Release(t.Context()))
	later(pool, time.Hour, c)
	d := try(t, s.with(2))
	assert.Equal(t, a.place, d.place)
	assert.ErrorIs(t, db.Transact(t.Context(), c.Fence), raceproof.ErrLeaseLost)
	assert.ErrorIs(t, c.Renew(t.Context()), raceproof.ErrLeaseLost)
	require.NoError(t, b.Renew(t.Context()))
	held(t, s.with(2))
}

// What is taken from those whose time is over is given back if there is no place all the same.
func TestRefusedTakesNothing(t *testing.T) {
	pool, db := open(t)
	s := semaphore(t, db, "a", 3, manual)
	a, b, c := try(t, s), try(t, s), try(t, s)
	later(pool, time.Hour, a)
	held(t, s.with(2))
	for _, l := range []*Lease{a, b, c} {
		require.NoError(t, l.Renew(t.Context()))
	}
	// The same, decided behind the look.
	later(pool, time.Hour, a)
	claim, err := s.with(2).newClaim(t.Context())
	require.NoError(t, err)
	var e *HeldError
	assert.ErrorAs(t, claim.seize(t.Context()), &e)
	require.NoError(t, a.Renew(t.Context()))
}

// The database's clock was set back: who has seen for all the holder's time that it was not renewed may take it over.
func TestClockSetBack(t *testing.T) {
	pool, db := open(t)
	s := semaphore(t, db, "a", 1, &Options{TTL: 20 * time.Second, Holder: "dead", Manual: true})
	dead := try(t, s)
	later(pool, -time.Hour, dead)
	waiter := semaphore(t, db, "a", 1, manual)
	clock := newFake()
	waiter.clock = clock
	claim, err := waiter.newClaim(t.Context())
	require.NoError(t, err)
	refused := func() {
		t.Helper()
		_, err := claim.try(t.Context())
		var e *HeldError
		require.ErrorAs(t, err, &e)
		assert.Equal(t, HeldError{"a", "dead", 20 * time.Second}, *e, "no more than the TTL can be left")
	}
	refused()
	clock.pass(20 * time.Second)
	refused()
	clock.pass(200 * time.Millisecond)
	refused()
	require.NoError(t, dead.Renew(t.Context()))
	later(pool, -time.Hour, dead)
	clock.pass(time.Millisecond)
	refused() // it was renewed: it is not the same any more
	clock.pass(20*time.Second + 200*time.Millisecond)
	refused()
	clock.pass(time.Millisecond)
	l, err := claim.try(t.Context())
	require.NoError(t, err)
	assert.ErrorIs(t, dead.Renew(t.Context()), raceproof.ErrLeaseLost)
	require.NoError(t, l.Release(t.Context()))
}

// An attempt that comes after a COMMIT whose answer was lost finds the place that it has taken, and takes it again.
func TestSeizeTwice(t *testing.T) {
	pool, db := open(t)
	s := semaphore(t, db, "a", 3, manual)
	try(t, s)
	claim, err := s.with(2).newClaim(t.Context())
	require.NoError(t, err)
	require.NoError(t, claim.seize(t.Context()))
	place, token := claim.place, claim.token
	require.NoError(t, claim.seize(t.Context()))
	assert.Equal(t, place, claim.place)
	assert.Equal(t, token+1, claim.token)
	assert.Len(t, column[int](t, pool, "a", "place"), 2)
}

func TestResolve(t *testing.T) {
	_, db := open(t)
	s := semaphore(t, db, "a", 1, manual)
	lost := fmt.Errorf("%w: the answer is lost", raceproof.ErrCommitUnknown)
	down := errors.New("the server is down")
	refused := &HeldError{Name: "a"}
	for _, c := range []struct {
		errs  []error
		want  error
		calls int
	}{
		{[]error{nil}, nil, 1},
		{[]error{down}, down, 1},
		{[]error{lost, lost, nil}, nil, 3},
		{[]error{lost, down, down, nil}, nil, 4},
		{[]error{lost, down, refused}, refused, 3},
	} {
		calls := 0
		err := s.resolve(t.Context(), func() error { calls++; return c.errs[calls-1] })
		assert.ErrorIs(t, err, c.want)
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
		assert.Equal(t, c.calls, calls)
	}
	// It ends, and says that it is not known.
	cause := errors.New("the caller has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	calls := 0
	err := s.resolve(ctx, func() error {
		if calls++; calls == 3 {
			cancel(cause)
		}
		return []error{lost, down, down}[calls-1]
	})
	for _, want := range []error{raceproof.ErrCommitUnknown, down, context.Canceled, cause} {
		assert.ErrorIs(t, err, want)
	}
	calls = 0
	db.Close()
	err = s.resolve(t.Context(), func() error { calls++; return []error{lost, down}[calls-1] })
	assert.ErrorIs(t, err, raceproof.ErrCommitUnknown)
}

// Never more than may be hold a name, in two processes at once.
func TestNeverMore(t *testing.T) {
	pool, db := open(t)
	other, err := raceproof.New(pool)
	require.NoError(t, err)
	for n := 1; n <= 3; n++ {
		var holders, last atomic.Int64
		var wg sync.WaitGroup
		for i := range 8 {
			s := semaphore(t, []*raceproof.DB{db, other}[i%2], fmt.Sprint("a", n), n, nil)
			wg.Go(func() {
				for range 5 {
					l, err := s.Acquire(t.Context())
					if !assert.NoError(t, err) {
						return
					}
					assert.LessOrEqual(t, holders.Add(1), int64(n))
					if n == 1 {
						assert.Greater(t, l.Token(), last.Swap(l.Token()))
					}
					assert.NoError(t, s.db.Transact(t.Context(), l.Fence))
					holders.Add(-1)
					assert.NoError(t, l.Release(t.Context()))
				}
			})
		}
		wg.Wait()
		assert.LessOrEqual(t, len(column[int](t, pool, fmt.Sprint("a", n), "place")), n)
	}
}
