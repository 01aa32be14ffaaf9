package search

import (
	"errors"
	"fmt"
)

// A Decision is a moment of a schedule in which an actor was chosen.
type Decision struct {
	Enabled []*Op  // by actor, what it would send; nil if it cannot go on
	Waits   []bool // by actor, whether that is because it waits for a lock; otherwise it has ended
	Chance  bool   // something was decided before that may be decided otherwise the next time
	Last    int    // who was chosen before, or -1
	Chosen  int
}

// A Switch is a choice that interrupts an actor which could have gone on.
func (d Decision) Switch() bool {
	return d.Last >= 0 && d.Chosen != d.Last && d.Enabled[d.Last] != nil
}

// Switches counts them.
func Switches(decisions []Decision) (n int) {
	for _, d := range decisions {
		if d.Switch() {
			n++
		}
	}
	return n
}

// Calmly is the choice that switches only when it must.
func Calmly(d Decision) int {
	if d.Last >= 0 && d.Enabled[d.Last] != nil {
		return d.Last
	}
	for i, op := range d.Enabled {
		if op != nil {
			return i
		}
	}
	panic("nobody can go on")
}

// A Chooser says who goes on. It returns an error if what it wants is not possible.
type Chooser func(Decision) (int, error)

// A Runner runs one schedule from the start, and returns its decisions. An error of it, but for ErrMissed, ends the search,
// and is returned by it. Of a schedule that an error has ended it returns the decisions so far.
type Runner func(Chooser) ([]Decision, error)

// ErrMissed is the error of a Runner that could not come to where it was to: what somebody else decides has come otherwise
// each time. The search goes on without what is behind that.
var ErrMissed = errors.New("the schedule was not met again")

// Diverged is the error of a Chooser that meets another state than it has met before under the same schedule.
type Diverged struct {
	Actor int
	Step  int    // from 0
	Want  string // what the actor was about to send then; "" if it had ended
	Got   string // and now; "" if it cannot go on now
}

func (d *Diverged) Error() string {
	return fmt.Sprintf("at choice %d actor %d was about to send %q, and now it is %q", d.Step+1, d.Actor, d.Want, d.Got)
}

// A node is a state, and the way to it with the fewest switches: what was chosen last decides what a switch is.
type node struct {
	parent   *node
	trace    *trace
	actor    int // whose op led here; -1 at the start
	op       Op
	depth    int
	switches int
}

// then returns the node after a choice, if its statement does not wait and nobody goes on who has waited.
func (n *node) then(actor int, op Op, enabled []*Op) *node {
	d := Decision{Enabled: enabled, Last: n.actor, Chosen: actor}
	next := &node{n, n.trace.then(actor, op), actor, op, n.depth + 1, n.switches}
	if d.Switch() {
		next.switches++
	}
	return next
}

// path returns the nodes after the start up to this one.
func (n *node) path() []*node {
	path := make([]*node, n.depth)
	for ; n.parent != nil; n = n.parent {
		path[n.depth-1] = n
	}
	return path
}

// place is where a node is: how it was reached does not matter but for who was last.
type place struct {
	key  key
	last int
}

// A Search tries all schedules that differ in what they can lead to, those with fewer switches first.
//
// Its parts are known by what happened before them. Two orders of the same events that commute lead to the same state, so
// only one of them is run. What an actor does next depends on what it was told, which depends on what happened before that
// and did not commute with it. So from runs that have come through the parts of a state it is known what can go on there.
//
// It takes the nodes with the least number of switches first. What is enabled at a node is learned by running a schedule
// that comes through it and goes on, down to its end, without a switch that is not needed; the other ways from the nodes
// that it comes through are work for later.
type Search struct {
	work    [][]*node      // by switches; the first of a list is next
	visited map[place]bool // whose successors are in work, or were
	enabled map[key][]*Op  // what can go on in a state that is known
	next    map[key]*Op    // what an actor does after an event, nil if it ends
	leaves  map[key]bool   // states at which a schedule has ended
	actual  map[key]*trace // what traces turned out to be, by what they would be if nobody waited
	Quiet   bool           // a statement that waits has no effect while it does
	Runs    int            // schedules run
	Orders  float64        // how many orders of the same statements they stand for
}

// New returns a search over the schedules of this many actors.
func New(actors int) *Search {
	start := &node{trace: newTrace(actors), actor: -1}
	return &Search{
		work:    [][]*node{{start}},
		visited: map[place]bool{},
		enabled: map[key][]*Op{},
		next:    map[key]*Op{},
		leaves:  map[key]bool{},
		actual:  map[key]*trace{},
	}
}

// Explore runs schedules until all are tried, the limit is reached, or one has an error.
func (s *Search) Explore(limit int, run Runner) error {
	for {
		n := s.pick()
		if n == nil {
			return nil
		}
		if s.Runs == limit {
			s.push(n)
			return nil
		}
		delete(s.visited, place{n.trace.key, n.actor}) // follow visits it
		s.Runs++
		decisions, err := run(s.along(n))
		if errors.Is(err, ErrMissed) {
			continue
		}
		if err != nil {
			return err
		}
		if err := s.follow(n, decisions); err != nil {
			return err
		}
	}
}

// pick returns the first node that a schedule must be run for, having put what follows the known ones into work.
func (s *Search) pick() *node {
	for {
		n := s.pop()
		if n == nil {
			return nil
		}
		s.correct(n)
		if s.visited[place{n.trace.key, n.actor}] {
			continue
		}
		s.visited[place{n.trace.key, n.actor}] = true
		if !s.known(n) || s.unseen(n) {
			return n
		}
		enabled := s.enabled[n.trace.key]
		for actor, op := range enabled {
			if op != nil {
				s.push(n.then(actor, *op, enabled))
			}
		}
	}
}

// unseen tells whether all have ended at a known node that no schedule has come to: its parts are known, not what comes of them
// together. With the classes that there are a schedule always has; nothing would say so if it were otherwise.
func (s *Search) unseen(n *node) bool {
	for _, op := range s.enabled[n.trace.key] {
		if op != nil {
			return false
		}
	}
	return !s.leaves[n.trace.key]
}

func (s *Search) pop() *node {
	for i, list := range s.work {
		if len(list) > 0 {
			s.work[i] = list[1:]
			return list[0]
		}
	}
	return nil
}

func (s *Search) push(n *node) {
	for len(s.work) <= n.switches {
		s.work = append(s.work, nil)
	}
	s.work[n.switches] = append(s.work[n.switches], n)
}

// Left returns how many schedules are known of and were not run. Each can lead to others.
func (s *Search) Left() (left int) {
	seen := map[key]bool{}
	for _, list := range s.work {
		for _, n := range list {
			if k := n.trace.key; !seen[k] && (!s.known(n) || s.unseen(n)) {
				seen[k] = true
				left++
			}
		}
	}
	return left
}

// along chooses the way to the node, and then switches only when it must.
func (s *Search) along(n *node) Chooser {
	path := n.path()
	step := 0
	return func(d Decision) (int, error) {
		if d.Last < 0 {
			step = 0 // the schedule is tried again
		}
		if step >= len(path) {
			return Calmly(d), nil
		}
		want := path[step]
		op := d.Enabled[want.actor]
		if op == nil || *op != want.op {
			diverged := &Diverged{Actor: want.actor, Step: step, Want: want.op.Text}
			if op != nil {
				diverged.Got = op.Text
			}
			return 0, diverged
		}
		step++
		return want.actor, nil
	}
}

// correct gives a node that was put into work the trace that it turns out to have, as far as that is known. If somebody has
// begun to wait with the same statement after the same events, then he waits here as well; also if the rest has happened while
// he waited, where waiting is quiet.
func (s *Search) correct(n *node) {
	if n.parent == nil {
		return
	}
	if actual := s.actual[n.trace.key]; actual != nil {
		n.trace = actual
		return
	}
	tried := n.parent.trace.try(n.actor, n.op, s.Quiet)
	if _, known := s.enabled[tried.key]; known {
		n.trace = tried
	}
}

// follow learns from a schedule that has come through the node: from there on, every other choice is work. Its error is a
// [Diverged] if something else was learned before.
func (s *Search) follow(n *node, decisions []Decision) error {
	actors := len(n.trace.actors)
	start := &node{trace: newTrace(actors), actor: -1}
	if err := s.learn(start, decisions); err != nil {
		return err
	}
	for _, before := range n.path() {
		if err := s.resolve(before, decisions); err != nil {
			return err
		}
	}
	for _, d := range decisions[n.depth:] {
		s.enabled[n.trace.key] = d.Enabled
		if here := (place{n.trace.key, n.actor}); !s.visited[here] {
			s.visited[here] = true
			for actor, op := range d.Enabled {
				if op != nil && actor != d.Chosen {
					s.push(n.then(actor, *op, d.Enabled))
				}
			}
		}
		n = n.then(d.Chosen, *d.Enabled[d.Chosen], d.Enabled)
		if err := s.resolve(n, decisions); err != nil {
			return err
		}
	}
	s.visited[place{n.trace.key, n.actor}] = true
	s.enabled[n.trace.key] = make([]*Op, actors)
	if !s.leaves[n.trace.key] {
		s.leaves[n.trace.key] = true
		s.Orders += orders(actors, n.path())
	}
	return nil
}

// resolve gives a node the trace that its choice has led to, and learns what its actors do next.
func (s *Search) resolve(n *node, decisions []Decision) error {
	t := n.parent.trace
	was, is := decisions[n.depth-1], at(decisions, n.depth, len(t.actors))
	var went []int // on, who had waited
	var tries []part
	for actor := range t.actors {
		if actor != n.actor && was.Waits[actor] && !is.Waits[actor] && t.actors[actor].tried != nil {
			went, tries = append(went, actor), append(tries, t.actors[actor])
		}
	}
	predicted := n.parent.trace.then(n.actor, n.op).key
	if is.Waits[n.actor] {
		t = t.try(n.actor, n.op, s.Quiet)
	} else {
		t = t.add(n.actor, n.op, 1, tries)
	}
	for _, actor := range went {
		t = t.add(actor, *t.actors[actor].tried, 0, nil)
	}
	n.trace = t
	s.actual[predicted] = t
	return s.learn(n, decisions)
}

// at returns a decision, or after the last that all have ended.
func at(decisions []Decision, i, actors int) Decision {
	if i < len(decisions) {
		return decisions[i]
	}
	chance := len(decisions) > 0 && decisions[len(decisions)-1].Chance
	return Decision{Enabled: make([]*Op, actors), Waits: make([]bool, actors), Chance: chance}
}

// known tells whether it is known what can go on at the node: because it was there, or because for each actor it is known
// what comes after the last that it has done.
func (s *Search) known(n *node) bool {
	if _, known := s.enabled[n.trace.key]; known {
		return true
	}
	enabled := make([]*Op, len(n.trace.actors))
	for i, event := range n.trace.actors {
		op, known := s.next[event.key]
		if !known {
			return false
		}
		enabled[i] = op
	}
	s.enabled[n.trace.key] = enabled
	return true
}

// learn takes note of what comes after the last events of the actors. That depends on nothing but the event and what
// happened before it: with a statement that has not come back, because it waits for a lock, on what others do as well. Its
// error is a [Diverged] if something else has come before.
func (s *Search) learn(n *node, decisions []Decision) error {
	d := at(decisions, n.depth, len(n.trace.actors))
	for actor, event := range n.trace.actors {
		if d.Waits[actor] || d.Chance {
			continue
		}
		if before, known := s.next[event.key]; known && text(before) != text(d.Enabled[actor]) {
			return &Diverged{Actor: actor, Step: n.depth, Want: text(before), Got: text(d.Enabled[actor])}
		}
		s.next[event.key] = d.Enabled[actor]
	}
	return nil
}

func text(op *Op) string {
	if op == nil {
		return ""
	}
	return op.Text
}
