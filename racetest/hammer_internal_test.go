package racetest

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the search leaves out must not change a verdict: it is compared with trying everything, on short histories whose
// operations do not commute, are often alike, and often do nothing.
func TestHammerSearchAgreesWithTryingEverything(t *testing.T) {
	l := Load[int, string, int]{Step: stepOfThree, Search: time.Minute}.withDefaults()
	var found [2]int
	for seed := range uint64(4000) {
		tally := randomTally(rand.New(rand.NewPCG(seed, 0)))
		want := orderExists(tally.Operations, make([]bool, len(tally.Operations)), 0)
		got := judge(l, tally)
		if want {
			found[0]++
			require.NoError(t, got, "seed %d: %+v", seed, tally.Operations)
			continue
		}
		found[1]++
		var no *NotLinearizable
		require.ErrorAs(t, got, &no, "seed %d: %+v", seed, tally.Operations)
	}
	assert.Greater(t, min(found[0], found[1]), 500, "linearizable and not: %v", found)
}

func stepOfThree(s int, in string) (int, int) {
	switch in {
	case "add":
		s = (s + 1) % 3
	case "double":
		s = s * 2 % 3
	case "clear":
		s = 0
	}
	return s, s
}

// randomTally runs operations in a random order, and then spoils one answer, maybe.
func randomTally(r *rand.Rand) Tally[string, int] {
	var t Tally[string, int]
	n, state := 3+r.IntN(5), 0
	for i := range n {
		at := 10*i + 5
		op := Operation[string, int]{Caller: i, In: []string{"add", "double", "clear", "read"}[r.IntN(4)]}
		op.Call, op.Return = time.Duration(max(0, at-r.IntN(25))), time.Duration(at+1+r.IntN(25))
		if r.IntN(3) == 0 {
			op.Err, op.Unknown, op.Return = errors.New("lost"), true, 0
		}
		if !op.Unknown || r.IntN(2) == 0 {
			state, op.Out = stepOfThree(state, op.In)
		}
		t.Operations = append(t.Operations, op)
	}
	if r.IntN(2) == 0 {
		op := &t.Operations[r.IntN(n)]
		op.Out = (op.Out + 1) % 3
	}
	slices.SortStableFunc(t.Operations, func(a, b Operation[string, int]) int { return cmp.Compare(a.Call, b.Call) })
	t.Elapsed = time.Duration(10*n + 100)
	return t
}

// orderExists tries every order, and of each unknown operation that it is done and that it is not.
func orderExists(ops []Operation[string, int], placed []bool, state int) bool {
	left := false
	for i, op := range ops {
		left = left || !placed[i] && !op.Unknown
	}
	if !left {
		return true
	}
	for i, op := range ops {
		if placed[i] || endedBefore(ops, placed, op.Call) {
			continue
		}
		next, out := stepOfThree(state, op.In)
		if !op.Unknown && out != op.Out {
			continue
		}
		placed[i] = true
		exists := orderExists(ops, placed, next)
		placed[i] = false
		if exists {
			return true
		}
	}
	return false
}

func endedBefore(ops []Operation[string, int], placed []bool, call time.Duration) bool {
	for i, op := range ops {
		if !placed[i] && !op.Unknown && op.Return < call {
			return true
		}
	}
	return false
}

func TestHammerSearchEndsWhenItsMemoryIsFull(t *testing.T) {
	for _, answer := range []int{1, 2} { // the right one, and a wrong one
		t.Run(fmt.Sprint(answer), func(t *testing.T) {
			l := Load[int, string, int]{Step: stepOfThree}.withDefaults()
			search := &hammerSearch[int, string, int]{Load: l}
			search.taken.Store(hammerMemory + 1)
			tally := Tally[string, int]{Operations: []Operation[string, int]{{In: "add", Out: answer, Return: 1}}, Elapsed: 1}
			err := search.judge(tally)
			require.ErrorIs(t, err, ErrUndecided)
			assert.ErrorContains(t, err, "with its memory full")
			var no *NotLinearizable
			assert.False(t, errors.As(err, &no))
		})
	}
}

// The orders that are tried first have few unknown operations in a row; they must not be the only ones.
func TestHammerSearchPlacesManyUnknownOperationsInARow(t *testing.T) {
	load := Load[int, int, int]{Step: func(s, in int) (int, int) { return s + in, s + in }}
	for sum, exists := range map[int]bool{0: true, 15: true, 63: true, 64: false} {
		tally := Tally[int, int]{Elapsed: 20}
		for _, in := range []int{1, 2, 4, 8, 16, 32} {
			tally.Operations = append(tally.Operations, Operation[int, int]{In: in, Err: errNoReturn, Unknown: true})
		}
		tally.Operations = append(tally.Operations, Operation[int, int]{In: 0, Out: sum, Call: 10, Return: 20})
		assert.Equal(t, exists, judge(load.withDefaults(), tally) == nil, sum)
	}
}
