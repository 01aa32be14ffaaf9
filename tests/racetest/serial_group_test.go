package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/serial"
)

// grouped is what package serial wraps.
type grouped[C any] interface {
	raceproof.Updater[Account, C]
	DB() *raceproof.DB
	Table() string
	Err() error
	Grouping() (*row.Grouping[Account, C], error)
}

// A gated updater has its first caller hold up the others, who so become a group. Nobody but a group sends the first
// statement.
type gated[C any] struct {
	grouped[C]
	relay      *relay
	before     int64 // statements that were sent before
	here, open chan struct{}
}

var errNoGroup = errors.New("the callers are no group")

// gate is the first caller's key.
type gate struct{}

func (g *gated[C]) Update(ctx context.Context, key any, change C) (a Account, err error) {
	if _, is := key.(gate); is {
		close(g.here)
		<-g.open
		return a, errNoGroup
	}
	if g.relay.sent.Load() == g.before {
		return a, errNoGroup
	}
	return g.grouped.Update(ctx, key, change)
}

// together makes two updates of row 1 in a group.
func together[C any](ctx context.Context, r *relay, u grouped[C], changes ...C) (errs []error) {
	for {
		g := &gated[C]{u, r, r.sent.Load(), make(chan struct{}), make(chan struct{})}
		hot := serial.Wrap(g)
		errs = make([]error, len(changes))
		var callers sync.WaitGroup
		callers.Go(func() { _, _ = hot.Update(ctx, gate{}, changes[0]) })
		<-g.here
		for i, change := range changes {
			callers.Go(func() { _, errs[i] = hot.Update(ctx, 1, change) })
			for hot.Stats().Waiting == i && hot.Stats().Alone == 1 && r.sent.Load() == g.before {
				runtime.Gosched()
			}
		}
		close(g.open)
		callers.Wait()
		if err := hot.Close(ctx); err != nil {
			return append(errs, err)
		}
		if !errors.Is(errs[0], errNoGroup) { // or they have waited for too long for each other
			return errs
		}
	}
}

// group is an actor: callers of one updater, who are served together.
type group func(*world, ...int64) func(context.Context, *sql.DB) error

func groupOf[C any](of func(*raceproof.DB) grouped[C], change func(*raceproof.DB, int64) C) group {
	return func(w *world, amounts ...int64) func(context.Context, *sql.DB) error {
		return w.relayed(func(ctx context.Context, db *raceproof.DB, r *relay) error {
			var changes []C
			for _, n := range amounts {
				changes = append(changes, change(db, n))
			}
			return errors.Join(together(ctx, r, of(db), changes...)...)
		})
	}
}

func plusIn(_ *raceproof.DB, n int64) raceproof.Func[Account] { return plus(n) }

var groups = map[string]group{
	"lock": groupOf(func(db *raceproof.DB) grouped[raceproof.Func[Account]] { return lock.New(db, accounts, nil) }, plusIn),
	"lock, with statements": groupOf(func(db *raceproof.DB) grouped[raceproof.Func[Account]] { return lock.New(db, accounts, nil) },
		func(db *raceproof.DB, n int64) raceproof.Func[Account] {
			return func(ctx context.Context, a *Account) error {
				a.Balance += n
				return own(ctx, db, `UPDATE accounts SET balance = balance + 0 WHERE id = 2`)
			}
		}),
	"atomic": groupOf(func(db *raceproof.DB) grouped[atomic.Change] { return atomic.New(db, accounts, nil) },
		func(_ *raceproof.DB, n int64) atomic.Change { return plusInSQL(n) }),
	"optimistic": groupOf(func(db *raceproof.DB) grouped[raceproof.Func[Account]] { return optimistic.New(db, accounts, nil) }, plusIn),
}

// A group beside one who is not served, and beside another group.
func TestGroups(t *testing.T) {
	others := map[string]string{"lock": "atomic", "lock, with statements": "lock", "atomic": "optimistic", "optimistic": "lock"}
	each(t, func(t *testing.T, w *world) {
		for name, group := range groups {
			t.Run(name, func(t *testing.T) {
				s := brief(12, racetest.Scenario{Open: w.connector, Setup: rows, Check: has(118, 100)})
				s.Actors = racetest.Actors{"a": group(w, 5, 3), "b": w.adds(patterns[others[name]], 10)}
				racetest.Explore(t, s)
				s.Check = has(125, 100)
				s.Actors["b"] = group(w, 10, 7)
				racetest.Explore(t, s)
			})
		}
	})
}

// careless are groups that neither lock their rows nor compare them.
type careless struct {
	*lock.Updater[Account]
}

func (u careless) Grouping() (*row.Grouping[Account, raceproof.Func[Account]], error) {
	g, err := u.Updater.Grouping()
	g.Locks = nil
	return g, err
}

// A group that loses updates is found.
func TestCarelessGroup(t *testing.T) {
	unversioned := raceproof.MustTable[Account]("accounts", raceproof.WithoutVersion())
	each(t, func(t *testing.T, w *world) {
		group := groupOf(func(db *raceproof.DB) grouped[raceproof.Func[Account]] {
			return careless{lock.New(db, unversioned, nil)}
		}, plusIn)
		f := caught(t, racetest.Scenario{
			Open: w.connector, Setup: rows, Check: has(118, 100),
			Actors: racetest.Actors{"a": group(w, 5, 3), "b": w.adds(patterns["lock"], 10)},
		}, racetest.Invariant)
		assert.ErrorContains(t, f, "[108 100]")
	})
}
