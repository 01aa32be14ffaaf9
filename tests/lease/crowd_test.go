package lease_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lease"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

const (
	crowdPlaces    = 3
	crowdProcesses = 5
	crowdEach      = 10 // contenders in a process
	crowdTTL       = time.Second
	stay           = 50 * time.Millisecond // at most, inside
)

// crowdTime is for how long they contend.
func crowdTime() time.Duration {
	if torture {
		return 30 * time.Second
	}
	return 3 * time.Second
}

// crowd is a process with contenders for the places of a semaphore.
func crowd(db *raceproof.DB, name string) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	s, err := lease.NewSemaphore(db, "room", crowdPlaces, &lease.Options{TTL: crowdTTL, Holder: name})
	check(err)
	var wg sync.WaitGroup
	for range crowdEach {
		wg.Go(func() {
			for ctx.Err() == nil {
				visit(ctx, db, s, name)
			}
		})
	}
	wg.Wait()
}

// visit enters the room once, and leaves it. Who enters counts who is inside. All of it is in the order of the commits, because
// who enters, leaves or kills has the row of the door until it is committed.
//
// A visitor who has lost the lease is inside no more when another has its place, though he may not know it yet: he counts
// as long as his token is one that could still be committed with. So he is noted as lost, and there must be few.
func visit(ctx context.Context, db *raceproof.DB, s *lease.Semaphore, name string) {
	l, err := s.Acquire(ctx)
	if ctx.Err() != nil && err != nil || errors.Is(err, raceproof.ErrLeaseLost) {
		return
	}
	check(err)
	through := func(fence func(context.Context) error, statements ...string) error {
		return goThrough(db, fence, statements)
	}
	err = through(l.Fence,
		fmt.Sprintf(`INSERT INTO inside (token, who) VALUES (%d, '%s')`, l.Token(), name),
		`INSERT INTO counted (who, n) SELECT '`+name+`', count(*) FROM inside WHERE token IN (SELECT token FROM raceproof_fence WHERE place > 0)`)
	if err == nil {
		time.Sleep(rand.N(stay))
		err = through(l.Fence, fmt.Sprintf(`DELETE FROM inside WHERE token = %d`, l.Token()))
	}
	switch {
	case errors.Is(err, raceproof.ErrLeaseLost):
		check(through(nil, fmt.Sprintf(`DELETE FROM inside WHERE token = %d`, l.Token()), `UPDATE door SET lost = lost + 1`))
	default:
		check(err)
	}
	if err := l.Release(context.Background()); err != nil && !errors.Is(err, raceproof.ErrLeaseLost) && !errors.Is(err, raceproof.ErrLocked) {
		panic(err)
	}
}

// goThrough makes a transaction that has the door. SQLite's own waiting has no order, so that one can wait in vain.
func goThrough(db *raceproof.DB, fence func(context.Context) error, statements []string) error {
	for {
		err := db.Transact(context.Background(), func(ctx context.Context) error {
			for _, statement := range append([]string{`UPDATE door SET uses = uses + 1`}, statements...) {
				if _, err := db.Ext(ctx).ExecContext(ctx, statement); err != nil {
					return err
				}
			}
			if fence == nil {
				return nil
			}
			return fence(ctx)
		})
		if !errors.Is(err, raceproof.ErrLocked) {
			return err
		}
	}
}

// A room is where they meet.
type room struct {
	*testing.T
	w         *world.World
	processes []*process
	longest   time.Duration
}

func (r *room) join() {
	r.processes = append(r.processes, start(r.T, r.w, "crowd", fmt.Sprint("p", len(r.processes)), nil, func(string) {}))
}

// At most three of fifty contenders in five processes are in a room at once, and the places of those who are killed there come
// back.
func TestCrowd(t *testing.T) {
	for _, name := range withProcesses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &room{T: t, w: world.New(t, databases.Named(name), databases.Options{})}
			require.NoError(t, lease.CreateTable(minute(t), r.w.DB))
			r.w.Look.MustExec(`CREATE TABLE door (uses BIGINT NOT NULL, lost BIGINT NOT NULL)`)
			r.w.Look.MustExec(`INSERT INTO door VALUES (0, 0)`)
			r.w.Look.MustExec(`CREATE TABLE inside (token BIGINT PRIMARY KEY, who VARCHAR(9) NOT NULL)`)
			r.w.Look.MustExec(`CREATE TABLE counted (who VARCHAR(9) NOT NULL, n BIGINT NOT NULL)`)
			began := time.Now()
			for range crowdProcesses {
				r.join()
			}
			world.Until(t, "the room is full", func() bool { return number(t, r.w, `SELECT COALESCE(MAX(n), 0) FROM counted`) >= crowdPlaces })
			kills := 0
			for ; kills < 3 || time.Since(began) < crowdTime(); kills++ {
				r.longest = max(r.longest, r.comesBack(r.killInside()))
				r.join()
			}
			took := time.Since(began)
			finish(t, r.processes)
			r.is(took, kills)
		})
	}
}

// killInside kills a process while some of it are in the room, and returns their tokens. Nobody enters or leaves meanwhile.
func (r *room) killInside() (tokens []int64) {
	var who string
	world.Until(r.T, "somebody is inside", func() bool {
		err := r.throughDoor(func(tx *sqlx.Tx) error {
			var inside []string
			if err := tx.Select(&inside, `SELECT who FROM inside GROUP BY who ORDER BY count(*) DESC`); err != nil || len(inside) == 0 {
				return err
			}
			who = inside[0]
			for _, p := range r.processes {
				if p.name == who {
					p.kill()
				}
			}
			if err := tx.Select(&tokens, fmt.Sprintf(`SELECT token FROM inside WHERE who = '%s'`, who)); err != nil {
				return err
			}
			_, err := tx.Exec(fmt.Sprintf(`DELETE FROM inside WHERE who = '%s'`, who))
			return err
		})
		require.NoError(r, err)
		return len(tokens) > 0
	})
	return tokens
}

// throughDoor makes a transaction that has the door.
func (r *room) throughDoor(do func(*sqlx.Tx) error) error {
	tx, err := r.w.Look.Beginx()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.Exec(`UPDATE door SET uses = uses + 1`); err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// comesBack returns how long it is until others have the places.
func (r *room) comesBack(tokens []int64) time.Duration {
	began := time.Now()
	query, args, err := sqlx.In(`SELECT count(*) FROM raceproof_fence WHERE place > 0 AND token IN (?)`, tokens)
	require.NoError(r, err)
	world.Until(r.T, "others have the places", func() bool {
		var n int
		require.NoError(r, r.w.Look.Get(&n, r.w.Look.Rebind(query), args...))
		return n == 0
	})
	took := time.Since(began)
	assert.Less(r, took, crowdTTL+5*time.Second, "a machine can be slow")
	return took
}

// is judges what was counted.
func (r *room) is(took time.Duration, kills int) {
	visits, most := number(r.T, r.w, `SELECT count(*) FROM counted`), number(r.T, r.w, `SELECT max(n) FROM counted`)
	lost, left := number(r.T, r.w, `SELECT lost FROM door`), number(r.T, r.w, `SELECT count(*) FROM inside`)
	assert.Equal(r, int64(crowdPlaces), most, "the most who were inside at once")
	assert.Less(r, lost, visits/2, "visitors who have lost their leases, which a slow machine takes from them")
	assert.Zero(r, left)
	var by []int64
	require.NoError(r, r.w.Look.Select(&by, `SELECT count(*) FROM counted GROUP BY who ORDER BY who`))
	r.Logf("%d visits in %v (%.0f/s), by the processes %d, at most %d at once, %d lost; %d processes were killed, places came back after %v at most",
		visits, took, float64(visits)/took.Seconds(), by, most, lost, kills, r.longest)
}
