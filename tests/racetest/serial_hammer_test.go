package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/serial"
)

// A call adds to a row, through one of the updaters.
type call struct {
	Row, N int64
	By     int
	Fails  bool
}

// told is the row after a caller's own change.
type told struct{ Balance, Version int64 }

// A crowd is one updater for many callers.
type crowd interface {
	raceproof.Updater[Account, call]
	Stats() serial.Stats
	Close(context.Context) error
}

type bound struct {
	raceproof.Updater[Account, call]
	of interface {
		Stats() serial.Stats
		Close(context.Context) error
	}
}

func (b bound) Stats() serial.Stats             { return b.of.Stats() }
func (b bound) Close(ctx context.Context) error { return b.of.Close(ctx) }

func crowdOf[C any](u raceproof.Updater[Account, C], change func(call) C) crowd {
	s := serial.Wrap(u)
	return bound{raceproof.Bind(s, change), s}
}

var errFails = errors.New("the function fails")

func plusOf(c call) raceproof.Func[Account] {
	return func(_ context.Context, a *Account) error {
		a.Balance += c.N
		if c.Fails {
			return errFails
		}
		return nil
	}
}

func plusOfInSQL(c call) atomic.Change {
	if c.Fails {
		return plusInSQL(c.N).If(atomic.F("balance").Lt(0))
	}
	return plusInSQL(c.N)
}

var crowds = map[string]func(*raceproof.DB) crowd{
	"lock":   func(db *raceproof.DB) crowd { return crowdOf(lock.New(db, accounts, nil), plusOf) },
	"atomic": func(db *raceproof.DB) crowd { return crowdOf(atomic.New(db, accounts, nil), plusOfInSQL) },
	"optimistic": func(db *raceproof.DB) crowd {
		return crowdOf(optimistic.New(db, accounts, nil), plusOf)
	},
}

const hotRows = 3

// A hammered is a load of many callers on few rows through updaters that all of them share.
type hammered struct {
	w       *world
	db      *raceproof.DB
	by      []crowd
	grouped []uint64 // by each of them, in the end
}

func (h *hammered) load(make ...func(*raceproof.DB) crowd) racetest.Load[told, call, told] {
	return racetest.Load[told, call, told]{
		Open:    h.w.connector,
		Callers: 32, Calls: 20, Pool: 8, Seed: 1,
		Setup: func(ctx context.Context, pool *sql.DB) (err error) {
			for _, statement := range []string{empties(pool) + `accounts`, `INSERT INTO accounts VALUES (0, 0, 0), (1, 0, 0), (2, 0, 0)`} {
				if _, err := pool.ExecContext(ctx, statement); err != nil {
					return err
				}
			}
			h.db, err = raceproof.New(sqlx.NewDb(pool, h.w.Driver))
			for _, crowd := range make {
				h.by = append(h.by, crowd(h.db))
			}
			return err
		},
		Next: func(r *rand.Rand) call {
			return call{Row: r.Int64N(hotRows), N: 1 + r.Int64N(9), By: r.IntN(len(make)), Fails: r.IntN(10) == 0}
		},
		Do: func(ctx context.Context, _ *sql.DB, c call) (told, error) {
			a, err := h.by[c.By].Update(ctx, c.Row, c)
			if err == nil && c.Fails {
				err = fmt.Errorf("it has not failed, and was told %v", a)
			} else if err == nil && a.ID != c.Row {
				err = fmt.Errorf("was told another row: %v", a)
			}
			return told{a.Balance, a.Version}, err
		},
		Unknown: func(err error) bool {
			return !errors.Is(err, errFails) && !errors.Is(err, raceproof.ErrConditionFailed) && !errors.Is(err, raceproof.ErrConflict)
		},
		Step: func(s told, c call) (told, told) {
			s = told{s.Balance + c.N, s.Version + 1}
			return s, s
		},
		Key:   func(c call) string { return fmt.Sprint(c.Row) },
		Check: h.counted,
	}
}

// counted is the Check: rows and versions are what was told, nothing is under way any more, and there were groups.
func (h *hammered) counted(ctx context.Context, pool *sql.DB, t racetest.Tally[call, told]) error {
	for _, by := range h.by {
		if err := by.Close(ctx); err != nil {
			return err
		}
		h.grouped = append(h.grouped, by.Stats().Grouped)
	}
	h.db.Close()
	if t.Unknown > 0 {
		return fmt.Errorf("%d operations are unknown, and nothing was lost", t.Unknown)
	}
	for id := range int64(hotRows) {
		var is, want told
		for _, op := range t.Operations {
			if op.Err == nil && op.In.Row == id {
				want = told{want.Balance + op.In.N, want.Version + 1}
			}
		}
		err := pool.QueryRowContext(ctx, fmt.Sprintf(`SELECT balance, version FROM accounts WHERE id = %d`, id)).Scan(&is.Balance, &is.Version)
		if err == nil && is != want {
			err = fmt.Errorf("row %d is %v, want %v", id, is, want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// What all callers are told is what they could have been told one after the other.
func TestHammerServed(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for _, names := range [][]string{{"lock"}, {"atomic"}, {"optimistic"}, {"lock", "lock"}, {"atomic", "lock"}, {"optimistic", "atomic"}} {
			t.Run(fmt.Sprint(names), func(t *testing.T) {
				h := &hammered{w: w}
				var by []func(*raceproof.DB) crowd
				for _, name := range names {
					by = append(by, crowds[name])
				}
				tally := racetest.Hammer(t, h.load(by...))
				assert.Greater(t, tally.Done, 300)
				assert.Greater(t, tally.Refused, 20)
				for i, u := range h.by {
					assert.Positive(t, h.grouped[i])
					t.Logf("%s: %+v", names[i], u.Stats())
				}
			})
		}
	})
}

// forgetful serves a group such that each caller is given the row as the first of all has found it.
type forgetful struct {
	*lock.Updater[Account]
}

func (u forgetful) Grouping() (*row.Grouping[Account, raceproof.Func[Account]], error) {
	g, err := u.Updater.Grouping()
	var mu sync.Mutex
	first := map[int64]int64{}
	g.Func = func(f raceproof.Func[Account]) raceproof.Func[Account] {
		if f == nil {
			return nil
		}
		return func(ctx context.Context, a *Account) error {
			mu.Lock()
			defer mu.Unlock()
			if balance, known := first[a.ID]; known {
				a.Balance = balance
			} else {
				first[a.ID] = a.Balance
			}
			return f(ctx, a)
		}
	}
	return g, err
}

// The load finds a group that loses updates.
func TestHammerServedBroken(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		h := &hammered{w: w}
		_, err := racetest.RunLoad(t.Context(), h.load(func(db *raceproof.DB) crowd {
			return crowdOf(forgetful{lock.New(db, accounts, nil)}, plusOf)
		}))
		var no *racetest.NotLinearizable
		require.ErrorAs(t, err, &no)
		var counted *racetest.CheckError
		assert.ErrorAs(t, err, &counted)
	})
}
