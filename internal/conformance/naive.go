package conformance

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
)

// naive is what services write before they know better: read the row, compute, write everything back. It breaks every
// promise of the contract, and shows that each check can fail.
type naive struct {
	ext  func(context.Context) sqlx.ExtContext
	meet func() // called between read and write
}

// Update writes on its way out, whatever happened, looks at no context, and counts versions without comparing them.
func (n naive) Update(ctx context.Context, key any, f raceproof.Func[Account]) (a Account, err error) {
	ctx = context.WithoutCancel(ctx)
	e := n.ext(ctx)
	err = sqlx.GetContext(ctx, e, &a, e.Rebind(`SELECT id, balance, note, version FROM accounts WHERE id = ?`), key)
	if err != nil {
		return a, errors.New("an error like any other")
	}
	n.meet()
	defer func() {
		_, failed := e.ExecContext(ctx, e.Rebind(`UPDATE accounts SET balance = ?, note = ?, version = ? WHERE id = ?`),
			a.Balance, a.Note, a.Version+1, key)
		err = errors.Join(err, failed)
	}()
	if f == nil {
		return a, nil
	}
	return a, f(ctx, &a)
}

// naiveSeats takes half a key for the whole.
type naiveSeats struct{ pool *sqlx.DB }

func (n naiveSeats) Update(ctx context.Context, key any, f raceproof.Func[Seat]) (s Seat, err error) {
	s.Flight = key.(raceproof.Key)[0].(string)
	if len(key.(raceproof.Key)) > 1 {
		s.Number = key.(raceproof.Key)[1].(string)
	}
	if err := f(ctx, &s); err != nil {
		return s, err
	}
	_, err = n.pool.ExecContext(ctx, n.pool.Rebind(`UPDATE seats SET passenger = ? WHERE flight = ?`), s.Passenger, s.Flight)
	return s, err
}

// naivePattern makes the naive updaters on a pool. If meet is set, the first two updates wait for each other between
// their read and their write, so that one of them is lost for certain. If they join, they take part in transactions.
func naivePattern(pool *sqlx.DB, meet, join bool) Pattern {
	between := runtime.Gosched
	if meet {
		between = rendezvous()
	}
	accounts := func(db *raceproof.DB) raceproof.Updater[Account, raceproof.Func[Account]] {
		if join {
			return naive{db.Ext, between}
		}
		return naive{func(context.Context) sqlx.ExtContext { return pool }, between}
	}
	return ofFunc("naive", accounts,
		func(*raceproof.DB) raceproof.Updater[Seat, raceproof.Func[Seat]] { return naiveSeats{pool} }, accounts)
}

// rendezvous returns a function whose first two callers wait for each other.
func rendezvous() func() {
	arrivals, both := make(chan struct{}, 2), make(chan struct{})
	return func() {
		select {
		case arrivals <- struct{}{}:
			if len(arrivals) == cap(arrivals) {
				close(both)
			}
			<-both
		default:
			runtime.Gosched()
		}
	}
}

// tries is how often a control that depends on chance may be lucky.
const tries = 100

// Controls runs every check on the naive updater, and fails if it passes one. open should open databases that do not
// wait long for locks.
func Controls(t *testing.T, open Open) {
	for _, c := range checks {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for range tries {
				if c.tryNaive(t, open) != nil {
					return
				}
			}
			t.Errorf("the naive updater passes")
		})
	}
}

func (c check) tryNaive(t testing.TB, open Open) error {
	var pool *sqlx.DB
	once := func(t testing.TB) *sqlx.DB {
		pool = open(t)
		return pool
	}
	s := newSubject(t, once, Pattern{})
	s.Pattern = naivePattern(pool, false, c.joins)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	return c.run(ctx, s)
}

// NaiveLoses has two callers of the naive updater add 1 at the same time, and fails unless both are told that it was
// done and one of the updates is gone.
func NaiveLoses(t *testing.T, open Open) {
	pool := open(t)
	s := newSubject(t, func(testing.TB) *sqlx.DB { return pool }, naivePattern(pool, true, false))
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	u := s.Add(s.db)
	told := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := u.Update(ctx, 1, 1)
			told <- err
		}()
	}
	if err := errors.Join(<-told, <-told); err != nil {
		t.Fatal(err)
	}
	if err := s.is(Account{ID: 1, Balance: 1, Version: 1}); err != nil {
		t.Errorf("two updates that were done at once, both acknowledged: %v", err)
	}
}
