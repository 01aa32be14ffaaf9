package search

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A program is what each actor sends, whatever happens.
type program [][]Op

// run runs one schedule of it, and returns its decisions and its events.
func (p program) run(choose Chooser) (decisions []Decision, events []int, err error) {
	next := make([]int, len(p))
	last := -1
	for {
		d, some := Decision{Enabled: make([]*Op, len(p)), Waits: make([]bool, len(p)), Last: last}, false
		for i, n := range next {
			if n < len(p[i]) {
				d.Enabled[i], some = &p[i][n], true
			}
		}
		if !some {
			return decisions, events, nil
		}
		if d.Chosen, err = choose(d); err != nil {
			return decisions, events, err
		}
		last = d.Chosen
		next[last]++
		decisions = append(decisions, d)
		events = append(events, last)
	}
}

// trace returns the key of the order of events.
func (p program) trace(events []int) key {
	t, next := newTrace(len(p)), make([]int, len(p))
	for _, actor := range events {
		t = t.then(actor, p[actor][next[actor]])
		next[actor]++
	}
	return t.key
}

// all returns every order of the program's events, with the number of its switches.
func (p program) all(visit func(events []int, switches int)) {
	next := make([]int, len(p))
	var go_ func(events []int, switches int)
	go_ = func(events []int, switches int) {
		left := false
		for i := range p {
			if next[i] == len(p[i]) {
				continue
			}
			left = true
			more := switches
			if n := len(events); n > 0 && events[n-1] != i && next[events[n-1]] < len(p[events[n-1]]) {
				more++
			}
			next[i]++
			go_(append(events[:len(events):len(events)], i), more)
			next[i]--
		}
		if !left {
			visit(events, switches)
		}
	}
	go_(nil, 0)
}

func (p program) orders() float64 {
	var steps []int
	for _, ops := range p {
		steps = append(steps, len(ops))
	}
	return Interleavings(steps)
}

func ops(classes string) (ops []Op) {
	for i, c := range classes {
		ops = append(ops, Op{map[rune]Class{'L': Local, 'R': Read, 'W': Write, 'K': Look, 'D': Define}[c], fmt.Sprint(i, string(c))})
	}
	return ops
}

func parse(actors string) (p program) {
	for _, classes := range strings.Fields(actors) {
		p = append(p, ops(classes))
	}
	return p
}

func TestRuns(t *testing.T) {
	for actors, want := range map[string][2]int{ // schedules run, orders that they stand for
		"WWWW WWWW": {70, 70},
		"RW RW":     {4, 6},
		"RRR RRR":   {1, 20},
		"LRWL LRWL": {4, 70},
		"WW WW WW":  {90, 90},
		"R R R":     {1, 6},
		"RRW RRW":   {6, 20},
		"KKW KKW":   {2, 20},
		"KD KD":     {4, 6},
	} {
		p, s, seen := parse(actors), New(len(strings.Fields(actors))), map[key]bool{}
		require.NoError(t, s.Explore(1000, func(choose Chooser) ([]Decision, error) {
			decisions, events, err := p.run(choose)
			assert.False(t, seen[p.trace(events)], "%s: %v is run twice", actors, events)
			seen[p.trace(events)] = true
			return decisions, err
		}))
		assert.Equal(t, want, [2]int{s.Runs, int(s.Orders)}, actors)
		assert.Equal(t, 0, s.Left(), actors)
	}
}

// random draws a program of two to four actors.
func random(r *rand.Rand) (p program) {
	for range 2 + r.IntN(3) {
		classes := ""
		for range 1 + r.IntN(4) {
			classes += string("LKRWRWD"[r.IntN(7)])
		}
		p = append(p, ops(classes))
	}
	return p
}

// Whatever the program: every order that can differ in its effect is run once, or one that it cannot be told from; and
// they come in the order of how few switches each needs.
func TestComplete(t *testing.T) {
	for seed := range uint64(120) {
		p := random(rand.New(rand.NewPCG(1, seed)))
		if p.orders() > 2000 {
			continue
		}
		fewest, total := map[key]int{}, 0
		p.all(func(events []int, switches int) {
			total++
			k := p.trace(events)
			if least, seen := fewest[k]; !seen || switches < least {
				fewest[k] = switches
			}
		})
		s, run, before := New(len(p)), map[key]bool{}, 0
		require.NoError(t, s.Explore(1<<20, func(choose Chooser) ([]Decision, error) {
			decisions, events, err := p.run(choose)
			k, switches := p.trace(events), Switches(decisions)
			if !run[k] {
				assert.Equal(t, fewest[k], switches, "%v: %v has one with fewer switches", p, events)
			}
			assert.GreaterOrEqual(t, switches, before)
			run[k], before = true, switches
			return decisions, err
		}))
		assert.Len(t, run, len(fewest), "%v", p)
		assert.EqualValues(t, total, s.Orders, "%v", p)
		assert.Equal(t, len(run), s.Runs, "%v: some that were run are alike", p)
	}
}

// The first failure is one with the fewest switches of all that fail.
func TestFewestSwitchesFirst(t *testing.T) {
	p := parse("RRW WRW LRW")
	fails := func(events []int) bool { // actor 2 ends before 0 has sent its second, and 1 is between
		text := strings.Trim(fmt.Sprint(events), "[]")
		return strings.Contains(text, "0 1 2 1")
	}
	fewest := 1000
	p.all(func(events []int, switches int) {
		if fails(events) {
			fewest = min(fewest, switches)
		}
	})
	bad := errors.New("bad")
	s := New(3)
	err := s.Explore(1<<20, func(choose Chooser) ([]Decision, error) {
		decisions, _, _ := p.run(choose)
		if Switches(decisions) == fewest {
			return decisions, bad
		}
		assert.Less(t, Switches(decisions), fewest)
		return decisions, nil
	})
	assert.ErrorIs(t, err, bad)
}

// What actors send depends on what they have read: a register that a write adds to. The outcomes of the schedules that are
// run are all that there are, and nothing is predicted that does not come.
func TestOutcomes(t *testing.T) {
	for seed := range uint64(100) {
		p := random(rand.New(rand.NewPCG(2, seed)))
		if p.orders() > 2000 {
			continue
		}
		all, found := map[string]bool{}, map[string]bool{}
		p.all(func(events []int, _ int) { all[p.outcome(events)] = true })
		require.NoError(t, New(len(p)).Explore(1<<20, func(choose Chooser) ([]Decision, error) {
			m := newMemory(p)
			decisions, events, err := p.run(func(d Decision) (int, error) {
				for i, op := range d.Enabled {
					if op != nil {
						d.Enabled[i] = &Op{op.Class, fmt.Sprint(op.Text, m.seen[i])}
					}
				}
				chosen, err := choose(d)
				m.do(chosen)
				return chosen, err
			})
			found[p.outcome(events)] = true
			return decisions, err
		}), "%v", p)
		assert.Equal(t, all, found, "%v", p)
	}
}

// A memory is a register, and what each actor has seen of it.
type memory struct {
	p     program
	next  []int
	seen  []int
	value int
	shape int
}

func newMemory(p program) *memory { return &memory{p, make([]int, len(p)), make([]int, len(p)), 1, 1} }

func (m *memory) do(actor int) {
	switch m.p[actor][m.next[actor]].Class {
	case Look:
		m.seen[actor] = m.seen[actor]*31 + m.shape
	case Read:
		m.seen[actor] = m.seen[actor]*31 + m.value
	case Define:
		m.value = m.value*31 + m.seen[actor] + actor + 1
		m.shape = m.shape*37 + m.value
	case Write:
		m.value = m.value*31 + m.seen[actor] + actor + 1
		m.seen[actor] = m.seen[actor]*31 + m.value
	}
	m.next[actor]++
}

func (p program) outcome(events []int) string {
	m := newMemory(p)
	for _, actor := range events {
		m.do(actor)
	}
	return fmt.Sprint(m.value, m.shape, m.seen)
}

func TestLimit(t *testing.T) {
	p, s := parse("WWWW WWWW"), New(2)
	runs := 0
	require.NoError(t, s.Explore(10, func(choose Chooser) ([]Decision, error) {
		runs++
		decisions, _, err := p.run(choose)
		return decisions, err
	}))
	assert.Equal(t, 10, runs)
	assert.Equal(t, 10, s.Runs)
	assert.Positive(t, s.Left())
	assert.LessOrEqual(t, s.Left(), 60)
}

// What cannot be met again is left out, and the search goes on.
func TestMissed(t *testing.T) {
	p, s, runs, missed := parse("WW WW"), New(2), 0, 0
	require.NoError(t, s.Explore(100, func(choose Chooser) ([]Decision, error) {
		if runs++; runs == 3 {
			missed++
			return nil, ErrMissed
		}
		decisions, _, err := p.run(choose)
		return decisions, err
	}))
	assert.Equal(t, 1, missed)
	assert.Greater(t, s.Runs, 3)
	assert.Less(t, s.Runs, 7)
	assert.Equal(t, 0, s.Left())
}

// An actor that sends something else under the same schedule is found out.
func TestDiverged(t *testing.T) {
	runs := 0
	err := New(2).Explore(100, func(choose Chooser) ([]Decision, error) {
		runs++
		p := parse("WWW WWW")
		if runs == 3 {
			p[1][0].Text = "other"
		}
		decisions, _, err := p.run(choose)
		return decisions, err
	})
	var d *Diverged
	require.ErrorAs(t, err, &d)
	assert.Equal(t, Diverged{Actor: 1, Step: 1, Want: "0W", Got: "other"}, *d)
	assert.ErrorContains(t, err, `at choice 2 actor 1 was about to send "0W", and now it is "other"`)
}

// With a seed the same schedule is drawn; and any three statements are drawn in every order that they can have, which is
// what a depth of 3 is for.
func TestRandom(t *testing.T) {
	p := parse("WWW WWW WW")
	draw := func(seed uint64) (names []string) {
		_, events, err := p.run(Random(rand.New(rand.NewPCG(seed, 0)), 3, 8, 3))
		require.NoError(t, err)
		next := make([]int, len(p))
		for _, actor := range events {
			names = append(names, fmt.Sprintf("%c%d", 'a'+actor, next[actor]))
			next[actor]++
		}
		return names
	}
	drawn := map[string]bool{}
	triples := func(names []string, visit func(string)) {
		for i, one := range names {
			for j, two := range names[i+1:] {
				for _, three := range names[i+j+2:] {
					visit(one + two + three)
				}
			}
		}
	}
	for seed := range uint64(1500) {
		names := draw(seed)
		assert.Equal(t, names, draw(seed))
		triples(names, func(s string) { drawn[s] = true })
	}
	possible := map[string]bool{}
	p.all(func(events []int, _ int) {
		var names []string
		next := make([]int, len(p))
		for _, actor := range events {
			names = append(names, fmt.Sprintf("%c%d", 'a'+actor, next[actor]))
			next[actor]++
		}
		triples(names, func(s string) { possible[s] = true })
	})
	assert.Len(t, drawn, len(possible))
	assert.Greater(t, len(possible), 100)
}

func TestInterleavings(t *testing.T) {
	assert.EqualValues(t, 70, Interleavings([]int{4, 4}))
	assert.EqualValues(t, 1680, Interleavings([]int{3, 3, 3}))
	assert.EqualValues(t, 1, Interleavings([]int{5}))
}
