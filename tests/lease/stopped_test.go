package lease_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/lease"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// torture says whether to run what takes too long for every change.
var torture = os.Getenv("RACEPROOF_TORTURE") != ""

// withProcesses are the databases that processes are started for.
var withProcesses = []string{"sqlite/mattn", "postgres/pgx", "mariadb/mysql"}

// stops is how often a holder is stopped in all.
func stops() int {
	if torture {
		return 1000
	}
	return 100
}

// A relay is a job that two processes want to do, and what they have said.
type relay struct {
	*testing.T
	w         *world.World
	processes []*process
	kept      int // stops at which nobody could take the lease over, because the stopped one had a transaction open

	mu     sync.Mutex
	got    []holding // in the order in which it was heard
	looked map[int64]string
	halted map[int64]bool
}

type holding struct {
	by    *process
	token int64
}

func newRelay(t *testing.T, w *world.World, work string, environment ...string) *relay {
	r := &relay{T: t, w: w, looked: map[int64]string{}, halted: map[int64]bool{}}
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

func (r *relay) until(what string, holds func() bool) { world.Until(r.T, what, holds) }

// writes waits for n more writes of the row, and for a holder.
func (r *relay) writes(n int64) holding {
	r.Helper()
	before := number(r.T, r.w, `SELECT seq FROM protected`)
	r.until("the row is written", func() bool { return number(r.T, r.w, `SELECT seq FROM protected`) >= before+n })
	return r.holder()
}

// round stops the holder until another has taken over, and continues it: "at random", between its "look" at the lease and the
// transaction, or before the "fence" is sent that it has decided to send.
func (r *relay) round(how string) {
	r.resume()
	h := r.writes(1)
	if how == "at random" {
		time.Sleep(rand.N(stoppedTTL / 2))
		h.by.signal(r.T, syscall.SIGSTOP)
	} else {
		h = r.halt(h, how)
	}
	r.overtaken(h)
	if how == "look" && r.holder().token > h.token { // then nothing holds the other one up
		r.until("the other one writes", func() bool { return number(r.T, r.w, `SELECT token FROM protected`) > h.token })
	}
	h.by.tell(r.T, "look", h.token)
	r.until("the stopped one looks", func() bool {
		h.by.signal(r.T, syscall.SIGCONT) // again, if it had not come to stop itself yet
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.looked[h.token] != ""
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(r, "true true true", r.looked[h.token], "Err, its cause and the fence say that it is lost, and do so at the first look")
}

// resume continues those who have stopped themselves too late for the last round.
func (r *relay) resume() {
	r.mu.Lock()
	clear(r.halted)
	r.mu.Unlock()
	for _, p := range r.processes {
		_ = p.cmd.Process.Signal(syscall.SIGCONT) // some were killed
	}
}

// halt has the holder stop itself: the next one, if this one loses the lease before it comes to that.
func (r *relay) halt(h holding, how string) (halted holding) {
	h.by.tell(r.T, "halt", how)
	r.until("it stops itself", func() bool {
		if next := r.holder(); next.by != h.by {
			h.by.tell(r.T, "halt", "nowhere")
			next.by.tell(r.T, "halt", how)
			h = next
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, g := range r.got {
			if r.halted[g.token] {
				halted = g
			}
		}
		return halted.by != nil
	})
	return halted
}

// overtaken waits until somebody else has the lease, and the stopped one's time is over; or until it is clear that nobody can,
// because a transaction of the stopped one has the fence, or SQLite's lock.
func (r *relay) overtaken(h holding) {
	began, next, locked := time.Now(), 2*stoppedTTL, 0
	r.until("another has taken over", func() bool {
		since := time.Since(began)
		switch {
		case since < stoppedTTL:
			return false
		case r.holder().token > h.token:
			return true
		case since < next:
			return false
		}
		next = since + 20*time.Millisecond
		if locked++; !r.locked() {
			locked = 0
		}
		return locked == 10
	})
	if locked == 10 {
		r.kept++
	}
}

// locked tells whether nobody can take the lease over at the moment.
func (r *relay) locked() bool {
	if r.w.Kind != "" {
		var places []int64
		require.NoError(r, r.w.Look.Select(&places, `SELECT place FROM raceproof_fence WHERE place = 1 FOR UPDATE SKIP LOCKED`))
		return len(places) == 0
	}
	c, err := r.w.Look.Connx(context.Background())
	require.NoError(r, err)
	defer func() { _ = c.Close() }()
	for _, statement := range []string{`PRAGMA busy_timeout = 0`, `BEGIN IMMEDIATE`, `ROLLBACK`, `PRAGMA busy_timeout = 5000`} {
		if _, err := c.ExecContext(context.Background(), statement); err != nil {
			return true
		}
	}
	return false
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

// A holder that is stopped for longer than its TTL, at any moment, commits nothing once another has taken over, and sees that
// at its first look.
func TestHolderIsStopped(t *testing.T) {
	for _, name := range withProcesses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, world.New(t, databases.Named(name), databases.Options{}), "fenced")
			moments := []string{"at random", "look", "at random", "fence"}
			if r.w.Kind == "" { // there is no wire, and a transaction has the lock from its BEGIN
				moments = []string{"at random", "look", "at random"}
			}
			n := stops()/len(withProcesses) + 1
			for i := range n {
				r.round(moments[i%len(moments)])
			}
			writes, stale := r.end()
			assert.Zero(t, stale, "stale writes")
			assert.Less(t, r.kept, n/2, "most are taken over")
			t.Logf("%d stops, at %d of them nobody could take over; %d writes by %d holders, %d stale", n, r.kept, len(writes), len(r.got), stale)
		})
	}
}

// Without the fence the same holders, stopped between their look at the lease and the write, do harm.
func TestHolderIsStoppedWithoutFence(t *testing.T) {
	for _, name := range withProcesses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRelay(t, world.New(t, databases.Named(name), databases.Options{}), "unfenced")
			for range 3 {
				r.round("look")
				r.writes(2)
			}
			_, stale := r.end()
			assert.Positive(t, stale, "stale writes")
			t.Logf("3 stops, %d stale writes", stale)
		})
	}
}
