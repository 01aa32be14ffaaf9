// Package racetest_test explores real databases: what is unprotected is caught, and what is protected survives every
// schedule.
package racetest_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"testing"

	"github.com/go-sql-driver/mysql"
	_ "github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/tests/databases"
)

func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }

// each runs a test on every database with every driver.
func each(t *testing.T, do func(*testing.T, *world)) {
	for _, d := range databases.All() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			do(t, newWorld(t, d, databases.Options{}))
		})
	}
}

// A world is a fresh database with a table of rows to race for.
type world struct {
	*databases.Fresh
	dsn string
}

// deadlocks are found after this time on PostgreSQL; its default is a second.
const deadlockTimeout = "100ms"

func newWorld(t testing.TB, d databases.Database, o databases.Options) *world {
	f := d.Fresh(t)
	if d.Dialect == "postgres" {
		if o.Parameters == nil {
			o.Parameters = url.Values{}
		}
		o.Parameters.Set("deadlock_timeout", deadlockTimeout)
	}
	w := &world{f, f.DSN(o)}
	admin := f.Open(o)
	_, err := admin.Exec(`CREATE TABLE accounts (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, version BIGINT NOT NULL)`)
	require.NoError(t, err)
	return w
}

func (w *world) connector() (driver.Connector, error) { return racetest.Driver(w.Driver, w.dsn)() }

// empties is how a table is emptied: InnoDB locks the gaps of rows that were deleted a while ago.
func empties(db *sql.DB) string {
	if _, is := db.Driver().(*mysql.MySQLDriver); is {
		return `TRUNCATE `
	}
	return `DELETE FROM `
}

// rows is a Setup: it leaves accounts 1 and 2 with 100 each.
func rows(ctx context.Context, db *sql.DB) error {
	for _, statement := range []string{empties(db) + `accounts`, `INSERT INTO accounts VALUES (1, 100, 0), (2, 100, 0)`} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

// balances returns those of accounts 1 and 2.
func balances(ctx context.Context, db *sql.DB) (b [2]int, err error) {
	for i := range b {
		if err := db.QueryRowContext(ctx, fmt.Sprintf(`SELECT balance FROM accounts WHERE id = %d`, i+1)).Scan(&b[i]); err != nil {
			return b, err
		}
	}
	return b, nil
}

// has is a Check of the balances.
func has(one, two int) func(context.Context, *sql.DB, map[string]error) error {
	return func(ctx context.Context, db *sql.DB, _ map[string]error) error {
		b, err := balances(ctx, db)
		if want := [2]int{one, two}; err == nil && b != want {
			err = fmt.Errorf("the balances are %v, want %v", b, want)
		}
		return err
	}
}

// begin runs f in a transaction of database/sql's, as one writes it by hand.
func begin(ctx context.Context, db *sql.DB, o *sql.TxOptions, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, o)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

// caught runs a scenario that must fail, and returns how.
func caught(t *testing.T, s racetest.Scenario, kind racetest.Kind) *racetest.Failure {
	t.Helper()
	result, err := racetest.Run(t.Context(), s)
	var f *racetest.Failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, kind, f.Kind, "%v", f)
	require.Positive(t, f.Switches, "it fails without a race: %v", f)
	t.Log(result, f)
	_, err = racetest.Run(t.Context(), s, racetest.Replay(f.Token))
	var again *racetest.Failure
	require.ErrorAs(t, err, &again)
	require.Equal(t, f.Kind, again.Kind, "%v", again)
	require.Equal(t, f.Token, again.Token)
	return f
}
