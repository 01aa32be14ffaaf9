package racetest_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/racetest"
)

// An anomaly is what two transactions at once can do that they cannot one after the other.
type anomaly struct {
	name   string
	kind   racetest.Kind // of the failure when it is found
	setup  func(context.Context, *sql.DB) error
	actors map[string]transaction
	check  func(context.Context, *sql.DB, map[string]error) error // nil if the actors see it
}

// A transaction is what an actor does in one. What it returns is called after COMMIT.
type transaction func(context.Context, *sql.Tx) (seen func() error, err error)

var anomalies = []anomaly{
	{"lost update", racetest.Invariant, rows, map[string]transaction{"alice": adds(5), "bob": adds(10)}, sumOfWho(5, 10)},
	{"write skew", racetest.Invariant, fill(`DELETE FROM doctors`, `INSERT INTO doctors VALUES ('alice', 1), ('bob', 1)`),
		map[string]transaction{"alice": goes("alice"), "bob": goes("bob")},
		atLeast(1, `SELECT COUNT(*) FROM doctors WHERE on_call = 1`)},
	{"read skew", racetest.ActorFailed, rows, map[string]transaction{"alice": audits, "bob": pays}, nil},
	{"phantom read", racetest.ActorFailed, fill(noBookings, aBooking), map[string]transaction{"alice": countsTwice, "bob": books}, nil},
	{"phantom written", racetest.ActorFailed, fill(noBookings, aBooking), map[string]transaction{"alice": countsAndWrites, "bob": books}, nil},
	{"check then insert", racetest.Invariant, fill(noBookings),
		map[string]transaction{"alice": booksIfFree("alice", 9, 11), "bob": booksIfFree("bob", 10, 12)},
		atMost(1, `SELECT COUNT(*) FROM bookings`)},
	{"get or create", racetest.Invariant, fill(`DELETE FROM tags`),
		map[string]transaction{"alice": getOrCreate("tags"), "bob": getOrCreate("tags")},
		atMost(1, `SELECT COUNT(*) FROM tags`)},
	// The constraint keeps the second row out, and whoever has just been told that there is none is told that there is.
	{"get or create, unique", racetest.ActorFailed, fill(`DELETE FROM names`),
		map[string]transaction{"alice": getOrCreate("names"), "bob": getOrCreate("names")},
		atMost(1, `SELECT COUNT(*) FROM names`)},
}

func anomalyTables(t *testing.T, w *world) {
	db, err := sql.Open(w.Driver, w.dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	for _, statement := range []string{
		`CREATE TABLE doctors (name VARCHAR(10) PRIMARY KEY, on_call INT NOT NULL)`,
		`CREATE TABLE bookings (guest VARCHAR(10) NOT NULL, since INT NOT NULL, until INT NOT NULL)`,
		`CREATE TABLE tags (name VARCHAR(10) NOT NULL)`,
		`CREATE TABLE names (name VARCHAR(10) PRIMARY KEY)`,
	} {
		_, err := db.Exec(statement)
		require.NoError(t, err)
	}
}

const (
	noBookings = `DELETE FROM bookings`
	aBooking   = `INSERT INTO bookings VALUES ('carol', 8, 9)`
)

func fill(statements ...string) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		all := strings.Split(strings.ReplaceAll(strings.Join(statements, ";"), "DELETE FROM ", empties(db)), ";")
		return begin(ctx, db, nil, func(tx *sql.Tx) error { return exec(ctx, tx, all...) })
	}
}

// adds writes back what it has computed from what it has read.
func adds(n int) transaction {
	return func(ctx context.Context, tx *sql.Tx) (func() error, error) {
		balance, err := count(ctx, tx, `SELECT balance FROM accounts WHERE id = 1`)
		if err != nil {
			return nil, err
		}
		return nil, exec(ctx, tx, fmt.Sprintf(`UPDATE accounts SET balance = %d WHERE id = 1`, balance+n))
	}
}

// sumOfWho wants what those have added who were told that they have.
func sumOfWho(alice, bob int) func(context.Context, *sql.DB, map[string]error) error {
	return func(ctx context.Context, db *sql.DB, returned map[string]error) error {
		want := 100
		if returned["alice"] == nil {
			want += alice
		}
		if returned["bob"] == nil {
			want += bob
		}
		return has(want, 100)(ctx, db, returned)
	}
}

// goes takes a doctor off call if another is left.
func goes(name string) transaction {
	return func(ctx context.Context, tx *sql.Tx) (func() error, error) {
		n, err := count(ctx, tx, `SELECT COUNT(*) FROM doctors WHERE on_call = 1`)
		if err != nil || n < 2 {
			return nil, err
		}
		return nil, exec(ctx, tx, fmt.Sprintf(`UPDATE doctors SET on_call = 0 WHERE name = '%s'`, name))
	}
}

// audits reads both accounts in two statements.
func audits(ctx context.Context, tx *sql.Tx) (func() error, error) {
	one, err := count(ctx, tx, `SELECT balance FROM accounts WHERE id = 1`)
	if err != nil {
		return nil, err
	}
	two, err := count(ctx, tx, `SELECT balance FROM accounts WHERE id = 2`)
	return same("the sum", one+two, 200), err
}

func pays(ctx context.Context, tx *sql.Tx) (func() error, error) { return nil, move(ctx, tx, 1, 2, 5) }

func same(what string, got, want int) func() error {
	return func() error {
		if got != want {
			return fmt.Errorf("%s is %d, want %d", what, got, want)
		}
		return nil
	}
}

func countsTwice(ctx context.Context, tx *sql.Tx) (func() error, error) {
	before, err := count(ctx, tx, `SELECT COUNT(*) FROM bookings WHERE since < 12`)
	if err != nil {
		return nil, err
	}
	after, err := count(ctx, tx, `SELECT COUNT(*) FROM bookings WHERE since < 12`)
	return same("the second count", after, before), err
}

// countsAndWrites writes to what it has counted.
func countsAndWrites(ctx context.Context, tx *sql.Tx) (func() error, error) {
	before, err := count(ctx, tx, `SELECT COUNT(*) FROM bookings WHERE since < 12`)
	if err != nil {
		return nil, err
	}
	result, err := tx.ExecContext(ctx, `UPDATE bookings SET until = until + 1 WHERE since < 12`)
	if err != nil {
		return nil, err
	}
	n, err := result.RowsAffected()
	return same("the number of rows written", int(n), before), err
}

func books(ctx context.Context, tx *sql.Tx) (func() error, error) {
	return nil, exec(ctx, tx, `INSERT INTO bookings VALUES ('bob', 10, 11)`)
}

func booksIfFree(guest string, since, until int) transaction {
	return func(ctx context.Context, tx *sql.Tx) (func() error, error) {
		n, err := count(ctx, tx, fmt.Sprintf(`SELECT COUNT(*) FROM bookings WHERE since < %d AND until > %d`, until, since))
		if err != nil || n > 0 {
			return nil, err
		}
		return nil, exec(ctx, tx, fmt.Sprintf(`INSERT INTO bookings VALUES ('%s', %d, %d)`, guest, since, until))
	}
}

func getOrCreate(table string) transaction {
	return func(ctx context.Context, tx *sql.Tx) (func() error, error) {
		n, err := count(ctx, tx, fmt.Sprintf(`SELECT COUNT(*) FROM %s WHERE name = 'go'`, table))
		if err != nil || n > 0 {
			return nil, err
		}
		return nil, exec(ctx, tx, fmt.Sprintf(`INSERT INTO %s VALUES ('go')`, table))
	}
}

// atLeast and atMost are Checks of what a query counts.
func atLeast(min int, query string) func(context.Context, *sql.DB, map[string]error) error {
	return func(ctx context.Context, db *sql.DB, _ map[string]error) error {
		n, err := count(ctx, db, query)
		if err == nil && n < min {
			err = fmt.Errorf("%s is %d, want at least %d", query, n, min)
		}
		return err
	}
}

func atMost(max int, query string) func(context.Context, *sql.DB, map[string]error) error {
	return func(ctx context.Context, db *sql.DB, _ map[string]error) error {
		n, err := count(ctx, db, query)
		if err == nil && n > max {
			err = fmt.Errorf("%s is %d, want at most %d", query, n, max)
		}
		return err
	}
}
