package search

import "math/rand/v2"

// Random returns a chooser that draws a schedule (Burckhardt et al., ASPLOS 2010): actors have priorities, the highest that
// can goes on, and at depth-1 moments, drawn among the first steps, the one that would go on gets the lowest of all.
func Random(r *rand.Rand, actors, steps, depth int) Chooser {
	priorities := r.Perm(actors)
	lower := map[int]bool{}
	for range depth - 1 {
		lower[r.IntN(max(steps, 1))] = true
	}
	step, lowest := 0, -1
	return func(d Decision) (int, error) {
		if best := highest(d, priorities); lower[step] {
			priorities[best] = lowest
			lowest--
		}
		step++
		return highest(d, priorities), nil
	}
}

func highest(d Decision, priorities []int) int {
	best := -1
	for i, op := range d.Enabled {
		if op != nil && (best < 0 || priorities[i] > priorities[best]) {
			best = i
		}
	}
	return best
}
