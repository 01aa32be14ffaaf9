package lease_test

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/lease"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A relay is a job that two processes want to do, and what they have said.
type relay struct {
	*testing.T
	w         *world.World
	processes []*process
	stopped   *process // by the test, until it continues it
	kept      int      // stops at which nobody could take the lease over, because the stopped one had a transaction open

	mu     sync.Mutex
	got    []holding // in the order in which it was heard
	looked map[int64]string
	halted map[int64]bool
	lost   map[int64]bool
}

type holding struct {
	by    *process
	token int64
}

func newRelay(t *testing.T, w *world.World, work string, environment ...string) *relay {
	r := &relay{T: t, w: w, looked: map[int64]string{}, halted: map[int64]bool{}, lost: map[int64]bool{}}
	require.NoError(t, lease.CreateTable(minute(t), w.DB))
	w.Look.MustExec(`CREATE TABLE protected (id BIGINT PRIMARY KEY, seq BIGINT NOT NULL, token BIGINT NOT NULL, who VARCHAR(9) NOT NULL)`)
	w.Look.MustExec(`CREATE TABLE written (seq BIGINT PRIMARY KEY, token BIGINT NOT NULL, who VARCHAR(9) NOT NULL)`)
	w.Look.MustExec(`INSERT INTO protected VALUES (1, 0, 0, '')`)
	for i := range 2 {
		r.join(work, fmt.Sprint("p", i), environment)
	}
	return r
}

// join starts one more process.
func (r *relay) join(work, name string, environment []string) *process {
	var p *process
	ready := make(chan struct{})
	p = start(r.T, r.w, work, name, environment, func(line string) {
		<-ready
		r.hear(p, line)
	})
	close(ready)
	r.processes = append(r.processes, p)
	return p
}

func (r *relay) hear(p *process, line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var token int64
	var e, c, f bool
	if _, err := fmt.Sscanf(line, "got %d", &token); err == nil {
		r.got = append(r.got, holding{p, token})
	} else if _, err := fmt.Sscanf(line, "stopping %d", &token); err == nil {
		r.halted[token] = true
	} else if _, err := fmt.Sscanf(line, "looked %d %t %t %t", &token, &e, &c, &f); err == nil {
		r.looked[token] = fmt.Sprint(e, c, f)
	} else if _, err := fmt.Sscanf(line, "lost %d", &token); err == nil {
		r.lost[token] = true
	}
}

// holder returns who has got the lease last.
func (r *relay) holder() (last holding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.got {
		if last.by == nil || h.token > last.token {
			last = h
		}
	}
	return last
}

// until waits for a condition. Who was to stop, and comes to that when it is too late for it, is continued meanwhile: the
// condition can depend on it.
func (r *relay) until(what string, holds func() bool) {
	r.Helper()
	world.Until(r.T, what, func() bool {
		for _, p := range r.processes {
			if p != r.stopped {
				_ = p.cmd.Process.Signal(syscall.SIGCONT) // some were killed
			}
		}
		return holds()
	})
}

// writes waits for n more writes of the row, and until it was heard who writes.
func (r *relay) writes(n int64) holding {
	r.Helper()
	before := number(r.T, r.w, `SELECT seq FROM protected`)
	r.until("the row is written", func() bool { return number(r.T, r.w, `SELECT seq FROM protected`) >= before+n })
	token := number(r.T, r.w, `SELECT token FROM protected`)
	r.until("its writer is heard", func() bool { return r.holder().token >= token })
	return r.holder()
}

// A write is what was committed, in this order.
type write struct {
	Seq, Token int64
	Who        string
}

// end ends the processes, and returns the writes, and how many of them are stale: made by one whose lease had been taken
// over by somebody who has written since.
func (r *relay) end() (writes []write, stale int) {
	for _, p := range r.processes {
		p.kill()
	}
	require.NoError(r, r.w.Look.Select(&writes, `SELECT seq, token, who FROM written ORDER BY seq`))
	highest, who := int64(0), map[int64]string{}
	for i, w := range writes {
		require.Equal(r, int64(i+1), w.Seq, "the order of the writes")
		if w.Token < highest {
			stale++
		}
		highest = max(highest, w.Token)
		if who[w.Token] == "" {
			who[w.Token] = w.Who
		}
		assert.Equal(r, who[w.Token], w.Who, "a token has one holder")
	}
	r.rise()
	return writes, stale
}

// rise fails the test unless tokens rise: for each process, and over all none comes twice.
func (r *relay) rise() {
	r.mu.Lock()
	defer r.mu.Unlock()
	last := map[*process]int64{}
	var all []int64
	for _, h := range r.got {
		assert.Greater(r, h.token, last[h.by])
		last[h.by] = h.token
		all = append(all, h.token)
	}
	slices.Sort(all)
	assert.Len(r, slices.Compact(slices.Clone(all)), len(all), "no token comes twice")
}
