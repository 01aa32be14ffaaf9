package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// A part of what is measured.
type part string

const (
	onePart   part = "one"
	manyPart  part = "many"
	crowdPart part = "crowd"
)

var allParts = []part{onePart, manyPart, crowdPart}

// results are all that was measured.
type results struct {
	env      environment
	options  options
	hosts    []*host
	one      []*race // with one caller
	many     []*race // with callers who meet
	stampede []stampede
	took     time.Duration
}

// measureAll measures the parts one after the other, because a server has not enough connections for all at once.
func measureAll(hosts []*host, o options, parts []part) (found *results, err error) {
	start := time.Now()
	found = &results{env: findEnvironment(hosts), options: o, hosts: hosts}
	if slices.Contains(parts, onePart) {
		prepared := func(h *host) ([]*race, error) { return prepare(h, o.long) }
		found.one, err = rounds(hosts, o, prepared, func(r *race, number int) error { return r.round(number, o.time) })
		if err = errors.Join(err, closeAll(found.one)); err != nil {
			return nil, err
		}
	}
	if slices.Contains(parts, manyPart) {
		var crew crew
		found.many, err = rounds(hosts, o, enterContests, func(r *race, number int) error { return r.contend(number, o, &crew) })
		if err == nil && slices.Contains(parts, crowdPart) {
			found.stampede, err = crowds(found.many, o)
		}
		if err = errors.Join(err, closeAll(found.many)); err != nil {
			return nil, err
		}
	}
	found.took = time.Since(start)
	return found, nil
}

// rounds makes races ready and runs all rounds. A round goes through all settings, so that what slows the machine down
// for a while does so for one round of many settings and not for all rounds of one.
func rounds(hosts []*host, o options, prepare func(*host) ([]*race, error), round func(*race, int) error) (races []*race, err error) {
	start := time.Now()
	for _, h := range hosts {
		more, err := prepare(h)
		races = append(races, more...)
		if err != nil {
			return races, fmt.Errorf("%s: %w", h.database.title(), err)
		}
	}
	fmt.Fprintf(os.Stderr, "%v: the contenders are ready\n", time.Since(start).Round(time.Second))
	for number := range o.rounds {
		for _, r := range races {
			if err := round(r, number); err != nil {
				return races, err
			}
		}
		fmt.Fprintf(os.Stderr, "%v: round %d of %d is over\n", time.Since(start).Round(time.Second), number+1, o.rounds)
	}
	return races, nil
}
