package main

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// In the short form of a measurement a way by hand is left out
//   - with a larger pool, if with the pool before it reached less than this part of the best one's speed, and
//   - from the second round on, if two others were faster in the first one.
const hopeless, finalists = 0.6, 2

// enterContests starts every contender for the workloads in which callers meet, in every setting of a host's database.
func enterContests(h *host) (races []*race, err error) {
	for _, s := range systems(h.database) {
		for _, s.pattern = range patterns {
			first := len(races)
			for _, w := range workloads {
				races = append(races, &race{setting: s, workload: w, host: h})
			}
			for _, c := range contestants(h.database, s.pattern) {
				cl, err := c.start(h, rows, s)
				if err != nil {
					return races, err
				}
				for _, r := range races[first:] {
					if c.suits(r.workload) {
						r.entrants = append(r.entrants, &entrant{contender: c, client: cl, rows: rows})
					}
				}
				cl.sleep()
			}
		}
	}
	return races, nil
}

// suits tells whether there are callers for all connections of a way by hand. If not, a smaller pool does the same.
func (c contender) suits(w workload) bool {
	return c.family != handFamily || c.pool <= max(few, w.callers)
}

// contend gives every contender its turn, in another order than in the round before.
func (r *race) contend(number int, o options, crew *crew) error {
	if err := r.host.ready(r.setting); err != nil {
		return err
	}
	n := len(r.entrants)
	for i := range n {
		i = (i + number*n/3) % n // in the first round smaller pools come first
		if number%2 == 1 {
			i = n - 1 - i
		}
		e := r.entrants[i]
		if !o.long && number == 0 && r.isHopeless(e) {
			e.out = true
		}
		if e.out {
			continue
		}
		d := r.workload.length(o.turn)
		if !o.long && number == 0 && e.family == handFamily {
			d /= 2 // it is mostly to be found out which are the fastest
		}
		s, err := e.contest(r.workload, d, crew)
		if err != nil {
			return fmt.Errorf("%s with callers %s: %w", r.setting, r.workload, err)
		}
		e.samples = append(e.samples, s)
	}
	if !o.long && number == 0 {
		r.sift()
	}
	return nil
}

// isHopeless tells whether a way by hand was much slower than others with the pool before.
func (r *race) isHopeless(e *entrant) bool {
	best, before := 0.0, 0.0
	for _, other := range r.entrants {
		if other.family != handFamily || len(other.samples) == 0 {
			continue
		}
		best = max(best, other.speed())
		if other.variant() == e.variant() && other.pool < e.pool {
			before = other.speed()
		}
	}
	return e.family == handFamily && e.pool > 4 && before < hopeless*best
}

// sift leaves the fastest by hand in the race, ours, and nobody else.
func (r *race) sift() {
	hands := r.family(handFamily)
	slices.SortStableFunc(hands, func(a, b *entrant) int { return cmp.Compare(b.speed(), a.speed()) })
	for _, e := range hands[finalists:] {
		e.out = true
	}
	for _, e := range r.family(peerFamily) {
		e.out = true
	}
}

// family returns the entrants of a family that have run.
func (r *race) family(f family) (members []*entrant) {
	for _, e := range r.entrants {
		if e.family == f && len(e.samples) > 0 {
			members = append(members, e)
		}
	}
	return members
}

// A rushing is what it came to that a crowd came to one row at once.
type rushing struct {
	acknowledged int
	elapsed      time.Duration
}

// A stampede is the crowds of one setting.
type stampede struct {
	setting setting
	by      []*entrant
	times   map[*entrant][]rushing
}

// crowds lets a crowd come to one row of ours, and of what was the fastest by hand with most callers; in the long form
// also to the others that are not by hand.
func crowds(races []*race, o options) (all []stampede, err error) {
	for _, r := range races {
		if r.workload != busiest {
			continue
		}
		if err := r.host.ready(r.setting); err != nil {
			return nil, err
		}
		s := stampede{setting: r.setting, times: map[*entrant][]rushing{}}
		for _, e := range r.entrants {
			if e.key == oursSerial || e == r.hand() || o.long && e.family != handFamily {
				s.by = append(s.by, e)
			}
		}
		for range o.crowds {
			if err := s.run(o.limit); err != nil {
				return nil, fmt.Errorf("%s with a crowd: %w", r.setting, err)
			}
		}
		all = append(all, s)
	}
	return all, nil
}

// run lets a crowd come to each.
func (s stampede) run(limit time.Duration) error {
	for _, e := range s.by {
		n, elapsed, err := e.rush(crowd, limit)
		if err != nil {
			return err
		}
		s.times[e] = append(s.times[e], rushing{n, elapsed})
	}
	return nil
}
