package lease_test

import (
	"context"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

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

// round stops the holder until another has taken over, and continues it: "at random", between its "look" at the lease and the
// transaction, or before the "fence" is sent that it has decided to send.
func (r *relay) round(how string) holding {
	h := r.writes(1)
	if how == "at random" {
		time.Sleep(rand.N(stoppedTTL / 2))
	} else {
		h = r.halt(h, how)
	}
	h.by.signal(r.T, syscall.SIGSTOP) // also if it is about to do so, or was continued since
	r.stopped = h.by
	r.overtaken(h)
	if how == "look" && r.holder().token > h.token { // then nothing holds the other one up
		r.until("the other one writes", func() bool { return number(r.T, r.w, `SELECT token FROM protected`) > h.token })
	}
	h.by.tell(r.T, "look", h.token)
	r.stopped = nil
	r.until("the stopped one looks", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.looked[h.token] != ""
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	assert.Equal(r, "true true true", r.looked[h.token], "Err, its cause and the fence say that it is lost, and do so at the first look")
	return h
}

// halt has the holder stop itself: the next one, if this one loses the lease before it comes to that.
func (r *relay) halt(h holding, how string) (halted holding) {
	r.mu.Lock()
	clear(r.halted)
	r.mu.Unlock()
	h.by.tell(r.T, "halt", how)
	world.Until(r.T, "it stops itself", func() bool { // and is not continued
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
// because of a lock that the stopped one has: SQLite's, the fence, the name's counter if it was late and acquires the lease
// again, or the protected row, if the other one is late and waits for that.
func (r *relay) overtaken(h holding) {
	const many = 25 // times in a row: who is not held up takes over meanwhile
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
		return locked == many
	})
	if locked == many {
		r.kept++
	}
}

// locked tells whether somebody has one of the locks that can hold up a take-over.
func (r *relay) locked() bool {
	if r.w.Kind != "" {
		var free []int64
		require.NoError(r, r.w.Look.Select(&free, `SELECT place FROM raceproof_fence WHERE name = 'job' AND place <= 1 FOR UPDATE SKIP LOCKED`))
		rows := len(free)
		free = nil
		require.NoError(r, r.w.Look.Select(&free, `SELECT id FROM protected FOR UPDATE SKIP LOCKED`))
		return rows+len(free) < 3
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
				h := r.round("look")
				r.until("the stopped one has written, and looked", func() bool {
					r.mu.Lock()
					defer r.mu.Unlock()
					return r.lost[h.token]
				})
			}
			_, stale := r.end()
			assert.Positive(t, stale, "stale writes")
			t.Logf("3 stops, %d stale writes", stale)
		})
	}
}
