package search

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A table has registers that actors lock, read, write and unlock. A statement is a letter and the number of its register:
// a locks it, u unlocks it, r and w read and write it without a lock. c locks
// two registers one after the other, and unlocks them when it has both; s is told whether a register is locked.
type table struct {
	programs [][]string
	next     []int
	waits    []string // of each actor, the lock that it waits for
	queue    map[byte][]int
	holder   map[byte]int // the actor, from 1
	seen     []int
	values   map[byte]int
	text     []string // what each is about to send: it depends on what it has seen
}

func newTable(programs [][]string) *table {
	n := len(programs)
	return &table{programs, make([]int, n), make([]string, n), map[byte][]int{}, map[byte]int{}, make([]int, n), map[byte]int{}, make([]string, n)}
}

func (t *table) decision(last int) (d Decision, some bool) {
	d = Decision{Last: last}
	for i := range t.programs {
		var op *Op
		if t.waits[i] == "" && t.next[i] < len(t.programs[i]) {
			statement := t.programs[i][t.next[i]]
			class := Write
			if statement[0] == 'r' {
				class = Read
			}
			op, some = &Op{class, fmt.Sprint(statement, t.seen[i])}, true
		}
		d.Enabled = append(d.Enabled, op)
		d.Waits = append(d.Waits, t.waits[i] != "")
	}
	return d, some
}

func (t *table) do(actor int) {
	statement := t.programs[actor][t.next[actor]]
	register := statement[1]
	switch statement[0] {
	case 'a':
		if t.holder[register] != 0 {
			t.waits[actor] = statement
			t.queue[register] = append(t.queue[register], actor)
			return
		}
		t.lock(actor, register)
	case 'c':
		if t.holder[register] != 0 || t.holder[statement[2]] != 0 {
			if t.holder[register] == 0 {
				t.lock(actor, register)
				register = statement[2]
			}
			t.waits[actor] = statement
			t.queue[register] = append(t.queue[register], actor)
			return
		}
	case 's':
		t.seen[actor] = t.seen[actor]*31 + 3
		if t.holder[register] != 0 {
			t.seen[actor]++
		}
	case 'u':
		t.holder[register] = 0
		if q := t.queue[register]; len(q) > 0 {
			t.queue[register] = q[1:]
			t.waits[q[0]] = ""
			if t.lock(q[0], register); t.programs[q[0]][t.next[q[0]]][0] == 'c' {
				t.holder = map[byte]int{} // it is the only one that has two
			}
			t.next[q[0]]++
		}
	case 'r':
		t.seen[actor] = t.seen[actor]*31 + t.values[register] + 1
	case 'w':
		t.values[register] = t.values[register]*37 + t.seen[actor] + actor + 1
	}
	t.next[actor]++
}

func (t *table) lock(actor int, register byte) {
	t.holder[register] = actor + 1
	t.seen[actor] = t.seen[actor]*31 + t.values[register] + 7
}

func (t *table) outcome() string { return fmt.Sprint(t.values, t.seen, t.waits) }

// play runs a schedule.
func play(programs [][]string, choose Chooser) (decisions []Decision, outcome string, err error) {
	t, last := newTable(programs), -1
	for {
		d, some := t.decision(last)
		if !some {
			return decisions, t.outcome(), nil
		}
		if d.Chosen, err = choose(d); err != nil {
			return decisions, "", err
		}
		last = d.Chosen
		decisions = append(decisions, d)
		t.do(last)
	}
}

// outcomes returns those of all schedules, and the number of schedules.
func outcomes(programs [][]string) (all map[string]bool, schedules int) {
	all = map[string]bool{}
	var try func(path []int)
	try = func(path []int) {
		if schedules > 800 {
			return
		}
		step, branch := 0, []int(nil)
		_, outcome, err := play(programs, func(d Decision) (int, error) {
			if step < len(path) {
				step++
				return path[step-1], nil
			}
			for i, op := range d.Enabled {
				if op != nil {
					branch = append(branch, i)
				}
			}
			return 0, assert.AnError
		})
		if err == nil {
			all[outcome] = true
			schedules++
		}
		for _, i := range branch {
			try(append(slices.Clone(path), i))
		}
	}
	try(nil)
	return all, schedules
}

// drawn returns programs that lock registers in order, so that nobody waits for ever.
func drawn(r *rand.Rand) (programs [][]string) {
	for range 2 + r.IntN(2) {
		var p []string
		for range 1 + r.IntN(2) {
			switch register := string("xy"[r.IntN(2)]); r.IntN(4) {
			case 0:
				p = append(p, "r"+register)
			case 1:
				p = append(p, "ax", "ay", "wx", "uy", "ux")
			default:
				p = append(p, "a"+register, "r"+register, "w"+register, "u"+register)
			}
		}
		programs = append(programs, p)
	}
	return programs
}

// With locks as well, whatever there is to come out comes out of the schedules that are run.
func TestLocks(t *testing.T) {
	for _, quiet := range []bool{false, true} {
		t.Run(fmt.Sprint("quiet ", quiet), func(t *testing.T) { testLocks(t, quiet) })
	}
}

func testLocks(t *testing.T, quiet bool) {
	tried, runs, orders := 0, 0, 0
	for seed := range uint64(16) {
		programs := drawn(rand.New(rand.NewPCG(3, seed)))
		all, schedules := outcomes(programs)
		if schedules > 800 {
			continue
		}
		found := map[string]bool{}
		s := New(len(programs))
		s.Quiet = quiet
		require.NoError(t, s.Explore(1<<20, func(choose Chooser) ([]Decision, error) {
			decisions, outcome, err := play(programs, choose)
			found[outcome] = true
			return decisions, err
		}), "%v", programs)
		assert.Equal(t, all, found, "%v", programs)
		tried, runs, orders = tried+1, runs+s.Runs, orders+schedules
	}
	assert.Greater(t, tried, 6)
	assert.Less(t, runs, orders)
}

// Who waits may have a lock already, and others can tell, whoever is first.
func TestLockedWhileWaiting(t *testing.T) {
	programs := [][]string{{"ay", "wy", "uy"}, {"sx"}, {"cxy"}}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		var p [][]string
		for _, i := range order {
			p = append(p, programs[i])
		}
		all, _ := outcomes(p)
		found := map[string]bool{}
		require.NoError(t, New(3).Explore(1<<20, func(choose Chooser) ([]Decision, error) {
			decisions, outcome, err := play(p, choose)
			found[outcome] = true
			return decisions, err
		}))
		assert.Equal(t, all, found, "%v", p)
	}
}

// How many schedules it takes when everybody waits for one lock.
func TestWaiting(t *testing.T) {
	for _, c := range []struct {
		actors, runs int
		quiet        bool
	}{{2, 10, false}, {3, 210, false}, {2, 4, true}, {3, 36, true}} {
		programs := slices.Repeat([][]string{{"ax", "rx", "wx", "rx", "ux"}}, c.actors)
		s := New(c.actors)
		s.Quiet = c.quiet
		require.NoError(t, s.Explore(1<<20, func(choose Chooser) ([]Decision, error) {
			decisions, _, err := play(programs, choose)
			return decisions, err
		}))
		_, schedules := outcomes(programs)
		assert.Equal(t, c.runs, s.Runs)
		assert.InEpsilon(t, schedules, s.Orders, 0.1) // of what waits it is known when it waits at the latest only
	}
}
