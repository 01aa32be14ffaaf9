package racetest

import (
	"fmt"
	"math"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
)

// hammerMemory is how many bytes of states the searches of all keys may take. One that has to try everything takes half a
// gigabyte per second: it would fill the machine's memory before its time is over.
const hammerMemory = 2 << 30

// hammerSearch is what the searches of all keys share. The first that fails ends the others.
type hammerSearch[S, I, O any] struct {
	Load[S, I, O]
	illegal atomic.Pointer[hammerHistory[S, I, O]] // the first history found that no order explains
	broken  atomic.Pointer[error]                  // Step or Equal has panicked: no verdict counts
	taken   atomic.Int64                           // bytes of states, about
}

// over tells whether the searches have to end: place lets nothing pass then, and what comes of that is no verdict.
func (s *hammerSearch[S, I, O]) over() bool {
	return s.illegal.Load() != nil || s.broken.Load() != nil || s.full()
}

func (s *hammerSearch[S, I, O]) full() bool { return s.taken.Load() > hammerMemory }

// hammerHistory is what was asked for and answered on one key.
type hammerHistory[S, I, O any] struct {
	*hammerSearch[S, I, O]
	key        string
	operations []*hammerOperation[I, O] // by the time of their call
	known      int                      // how many of them are not unknown
	classes    []int                    // of each class of unknown operations that ask for the same, how many
	last       int64                    // a time after everything
	most       int                      // how many unknown ones may be placed between two known ones
	result     porcupine.CheckResult
}

// hammerOperation is an operation as the search sees it.
type hammerOperation[I, O any] struct {
	Operation[I, O]
	class, rank int // of an unknown one: which class it belongs to, and how many of that were called before it
}

// hammerState is a state in the search, with what is done already.
type hammerState[S any] struct {
	state S
	known int   // how many operations are placed that are not unknown
	taken []int // of each class of unknown ones, how many; never changed in place
	run   int   // how many unknown ones are placed since the last known one, as far as that is limited
}

// judge returns nil if the history of each key is linearizable.
func judge[S, I, O any](l Load[S, I, O], t Tally[I, O]) error {
	return (&hammerSearch[S, I, O]{Load: l}).judge(t)
}

func (s *hammerSearch[S, I, O]) judge(t Tally[I, O]) error {
	histories := s.histories(t)
	start := time.Now()
	var all sync.WaitGroup
	for _, h := range histories {
		all.Go(func() {
			if h.result = h.decide(); h.result == porcupine.Illegal {
				s.illegal.CompareAndSwap(nil, h)
			}
		})
	}
	all.Wait()
	if broken := s.broken.Load(); broken != nil {
		return *broken
	}
	if h := s.illegal.Load(); h != nil {
		s.illegal.Store(nil) // or the search that finds out more would be over before it starts
		s.taken.Store(0)
		return h.explain()
	}
	return s.undecided(histories, time.Since(start))
}

// undecided returns an error if there is a history that is neither linearizable nor not: it names the first by key.
func (s *hammerSearch[S, I, O]) undecided(histories map[string]*hammerHistory[S, I, O], took time.Duration) error {
	var first *hammerHistory[S, I, O]
	keys := 0
	for _, h := range histories {
		if h.result == porcupine.Ok {
			continue
		}
		if keys++; first == nil || h.key < first.key {
			first = h
		}
	}
	if first == nil {
		return nil
	}
	limit := fmt.Sprintf("after %v", took.Round(time.Millisecond))
	if s.full() {
		limit += ", with its memory full"
	}
	return fmt.Errorf("%w: %d of %d keys are left, %s; key %q has %d operations, %d of them unknown",
		ErrUndecided, keys, len(histories), limit, first.key, len(first.operations), len(first.operations)-first.known)
}

// histories returns the history of each key. Refused operations are in none.
func (s *hammerSearch[S, I, O]) histories(t Tally[I, O]) map[string]*hammerHistory[S, I, O] {
	histories := map[string]*hammerHistory[S, I, O]{}
	for _, op := range t.Operations {
		if op.Err != nil && !op.Unknown {
			continue
		}
		key := s.Key(op.In)
		h := histories[key]
		if h == nil {
			h = &hammerHistory[S, I, O]{hammerSearch: s, key: key, last: int64(t.Elapsed) + 1}
			histories[key] = h
		}
		h.add(&hammerOperation[I, O]{Operation: op})
	}
	return histories
}

func (h *hammerHistory[S, I, O]) add(op *hammerOperation[I, O]) {
	defer func() { h.operations = append(h.operations, op) }()
	if !op.Unknown {
		h.known++
		return
	}
	for _, other := range h.operations {
		if other.Unknown && reflect.DeepEqual(other.In, op.In) {
			op.class, op.rank = other.class, h.classes[other.class]
			h.classes[op.class]++
			return
		}
	}
	op.class = len(h.classes)
	h.classes = append(h.classes, 1)
}

// decide searches first among the orders in which unknown operations stand alone: if they are few, most often there is one,
// and those orders are few. Only if there is none, the others count.
func (h *hammerHistory[S, I, O]) decide() porcupine.CheckResult {
	end := time.Now().Add(h.Search)
	for _, h.most = range []int{1, 2, math.MaxInt} {
		left := max(time.Until(end), 1) // porcupine takes 0 for no limit
		result := porcupine.CheckOperationsTimeout(h.model(), h.entries(), left)
		if result != porcupine.Illegal {
			return result
		}
		if h.over() {
			return porcupine.Unknown
		}
	}
	return porcupine.Illegal
}

// entries returns the history as porcupine takes it. An unknown operation ends after everything, and has a line of its own
// in the report, because its caller goes on.
func (h *hammerHistory[S, I, O]) entries() []porcupine.Operation {
	var entries []porcupine.Operation
	line := h.Callers
	for _, op := range h.operations {
		e := porcupine.Operation{ClientId: op.Caller, Input: op, Call: int64(op.Call), Return: int64(op.Return)}
		if op.Unknown {
			e.ClientId, e.Return = line, h.last
			e.Metadata = fmt.Sprintf("caller %d was told: %v", op.Caller, op.Err)
			line++
		}
		entries = append(entries, e)
	}
	return entries
}

func (h *hammerHistory[S, I, O]) model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return &hammerState[S]{state: h.Init, taken: make([]int, len(h.classes))} },
		Step: func(state, input, _ any) (bool, any) {
			return h.place(state.(*hammerState[S]), input.(*hammerOperation[I, O]))
		},
		// Porcupine compares states only after the same operations, so known and taken are the same.
		Equal: func(a, b any) bool {
			x, y := a.(*hammerState[S]), b.(*hammerState[S])
			return x.run == y.run && reflect.DeepEqual(x.state, y.state)
		},
		DescribeOperation: func(input, _ any) string { return input.(*hammerOperation[I, O]).short() },
		DescribeState:     func(state any) string { return inShort(state.(*hammerState[S]).state) },
	}
}

// place tells whether an operation can come next, and what the state is then.
func (h *hammerHistory[S, I, O]) place(at *hammerState[S], op *hammerOperation[I, O]) (ok bool, next *hammerState[S]) {
	if h.over() {
		return false, nil
	}
	finished := false
	defer func() {
		if !finished {
			err := fmt.Errorf("Load.Step or Equal panicked, or ended its goroutine, at %s: %v\n%s", op.short(), recover(), debug.Stack())
			h.broken.CompareAndSwap(nil, &err)
			ok, next = false, nil
		}
	}()
	if op.Unknown {
		ok, next = h.placeUnknown(at, op)
	} else if state, out := h.Step(at.state, op.In); h.Equal(out, op.Out) {
		ok, next = true, &hammerState[S]{state: state, known: at.known + 1, taken: at.taken}
	}
	finished = true
	if ok {
		// The set of what is placed is a bit each; the rest is what maps, pointers and an int for a state take.
		h.taken.Add(int64(len(h.operations)/8 + 8*len(h.classes) + 200))
	}
	return ok, next
}

// placeUnknown is place for an unknown operation. Three things keep the search short, and leave no order out that matters:
// Once all others are placed, nobody can tell whether it was done, so it was not. Of those that ask for the same, the one
// that was called first is done first: of two done the other way around, each may have the other's place. And where it
// would not change the state, it is not done: it may as well be done never.
func (h *hammerHistory[S, I, O]) placeUnknown(at *hammerState[S], op *hammerOperation[I, O]) (bool, *hammerState[S]) {
	if at.known == h.known {
		return true, at
	}
	if at.taken[op.class] != op.rank || at.run == h.most {
		return false, nil
	}
	state, _ := h.Step(at.state, op.In)
	if reflect.DeepEqual(state, at.state) {
		return false, nil
	}
	taken := slices.Clone(at.taken)
	taken[op.class]++
	next := &hammerState[S]{state: state, known: at.known, taken: taken}
	if h.most < math.MaxInt {
		next.run = at.run + 1
	}
	return true, next
}

// short returns what was asked for and answered as text.
func (op *hammerOperation[I, O]) short() string {
	if op.Unknown {
		return inShort(op.In) + " → unknown"
	}
	return inShort(op.In) + " → " + inShort(op.Out)
}
