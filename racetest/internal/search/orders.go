package search

// tooMany bounds the work of counting; beyond it only the schedule itself is counted.
const tooMany = 1 << 18

// orders counts the orders of the events of a schedule in which only such have changed places as commute: the schedules
// that need not be run because this one was.
func orders(actors int, path []*node) float64 {
	perActor := make([][]*node, actors)
	for _, n := range path {
		perActor[n.actor] = append(perActor[n.actor], n)
	}
	states := 1
	for _, events := range perActor {
		if states *= len(events) + 1; states > tooMany {
			return 1
		}
	}
	// An event can come when all has come that its clock says had to. Counted is backwards over all sets of events that have
	// come, each written as a number with one digit an actor.
	counts := make([]float64, states)
	came := make([]int, actors)
	counts[states-1] = 1
	for set := states - 2; set >= 0; set-- {
		rest := set
		for i, events := range perActor {
			came[i] = rest % (len(events) + 1)
			rest /= len(events) + 1
		}
		weight := 1
		for i, events := range perActor {
			if came[i] < len(events) && ready(events[came[i]], came) {
				counts[set] += counts[set+weight]
			}
			weight *= len(events) + 1
		}
	}
	return counts[0]
}

func ready(event *node, came []int) bool {
	for i, n := range event.trace.actors[event.actor].clock {
		if i != event.actor && int(n) > came[i] {
			return false
		}
	}
	return true
}

// Interleavings returns in how many orders actors can send this many statements each, if nothing keeps them from it.
func Interleavings(steps []int) float64 {
	total, orders := 0, 1.0
	for _, n := range steps {
		for i := 1; i <= n; i++ {
			total++
			orders = orders * float64(total) / float64(i)
		}
	}
	return orders
}
