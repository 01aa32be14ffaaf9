// Package conformance is the contract of every updater, as checks that can be run on any of them, on any database.
//
// A check returns an error instead of failing a test, so that it can be tried on updaters that break the contract too:
// Controls does, and fails if a check lets them pass.
package conformance

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
)

// An Account is the row that most checks change.
type Account struct {
	ID      int64  `db:"id"`
	Balance int64  `db:"balance"`
	Note    string `db:"note"`
	Version int64  `db:"version"`
}

// A Seat has a key of two columns, a column that can be NULL, and leaves out columns of its table.
type Seat struct {
	Place     `db:""`
	Passenger *string `db:"passenger"`
	Version   int64   `db:"version"`
}

// A Place is embedded, as sqlx maps it.
type Place struct {
	Flight string `db:"flight,key"`
	Number string `db:"seat_number,key"`
}

// The tables of the checks.
var (
	Accounts = raceproof.MustTable[Account]("accounts")
	Seats    = raceproof.MustTable[Seat]("seats")
)

var schema = []string{
	`CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, note VARCHAR(100) NOT NULL, version BIGINT NOT NULL)`,
	`INSERT INTO accounts VALUES (1, 0, '', 0), (2, 0, '', 0)`,
	`CREATE TABLE seats (flight VARCHAR(20) NOT NULL, seat_number VARCHAR(20) NOT NULL, passenger VARCHAR(100),
		remark VARCHAR(100), version BIGINT NOT NULL, PRIMARY KEY (flight, seat_number))`,
	`INSERT INTO seats VALUES ('LH400', '12A', NULL, 'window', 0), ('LH400', '12B', NULL, 'aisle', 0), ('LH401', '12A', NULL, 'window', 0)`,
}

// A Pattern is an updater under test, bound to what the checks ask of it.
type Pattern struct {
	Name string

	// Add adds to the balance.
	Add func(*raceproof.DB) raceproof.Updater[Account, int64]
	// Withdraw takes from the balance, or returns Refused if that would make it negative.
	Withdraw func(*raceproof.DB) raceproof.Updater[Account, int64]
	Refused  error
	// Book sets the passenger of a seat; nil is NULL.
	Book func(*raceproof.DB) raceproof.Updater[Seat, *string]

	// Func runs a Go function over the row. It is nil for a pattern that cannot, and its checks are left out.
	Func func(*raceproof.DB) raceproof.Updater[Account, raceproof.Func[Account]]
	// Once is Func with one attempt, for a pattern that runs the function outside a transaction and can conflict.
	Once func(*raceproof.DB) raceproof.Updater[Account, raceproof.Func[Account]]

	// Raises: the version rises though the function changes nothing.
	Raises bool
}

// A subject is a pattern on a database of its own.
type subject struct {
	Pattern
	pool *sqlx.DB
	db   *raceproof.DB
}

// Open opens an empty database for a test, with a pool of more than one connection.
type Open func(testing.TB) *sqlx.DB

func newSubject(t testing.TB, open Open, p Pattern) *subject {
	pool := open(t)
	for _, statement := range schema {
		if _, err := pool.Exec(statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
	db, err := raceproof.New(pool)
	if err != nil {
		t.Fatal(err)
	}
	return &subject{p, pool, db}
}

// account reads a row past all updaters.
func (s *subject) account(id int64) (a Account, err error) {
	err = s.pool.Get(&a, s.pool.Rebind(`SELECT id, balance, note, version FROM accounts WHERE id = ?`), id)
	return a, err
}

// is returns an error unless account 1 is as wanted.
func (s *subject) is(want Account) error {
	got, err := s.account(want.ID)
	if err == nil && got != want {
		err = fmt.Errorf("the account is %+v, want %+v", got, want)
	}
	return err
}

// limit is far beyond what any check takes; one that runs into it hangs.
const limit = time.Minute

// Run runs every check that the pattern can be held to.
func Run(t *testing.T, open Open, p Pattern) {
	for _, c := range checks {
		if !c.applies(p) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if err := c.try(t, open, p); err != nil {
				t.Error(err)
			}
		})
	}
}

// try runs a check on a new database, and looks for what it left behind.
func (c check) try(t testing.TB, open Open, p Pattern) error {
	s := newSubject(t, open, p)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := c.run(ctx, s); err != nil {
		return err
	}
	return s.idle(ctx)
}

// idle returns an error if a connection is not given back soon.
func (s *subject) idle(ctx context.Context) error {
	for s.pool.Stats().InUse > 0 {
		if ctx.Err() != nil {
			return fmt.Errorf("%d connections were not given back", s.pool.Stats().InUse)
		}
		runtime.Gosched()
	}
	return nil
}
