package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/examples/internal/everywhere"
	"github.com/raceproof/raceproof/lock"
)

func openBank(t *testing.T, driver, dsn string) *bank {
	b, err := open(t.Context(), driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, b.close()) })
	return b
}

// crowd is many workers on few accounts.
var crowd = settings{accounts: 3, workers: 32, transfers: 8, limit: time.Hour}

// The money stays what it was, whichever way it is moved. By UpdateMany nothing is ever made again.
func TestNoMoneyIsMadeOrLost(t *testing.T) {
	everywhere.Run(t, func(t *testing.T, driver, dsn string) {
		b := openBank(t, driver, dsn)
		for _, w := range ways {
			s := crowd
			if w.name == "nested" {
				s.workers = 8
			}
			r, err := b.load(t.Context(), s, w.way)
			require.NoError(t, err, w.name)
			assert.EqualValues(t, 300, r.before, w.name)
			assert.EqualValues(t, 300, r.after, w.name)
			assert.GreaterOrEqual(t, r.lowest, int64(0), w.name)
			assert.EqualValues(t, s.workers*s.transfers, r.made+r.refused, w.name)
			assert.Positive(t, r.made, w.name)
			assert.Positive(t, r.refused, w.name)
			if w.name == "UpdateMany" || driver == "sqlite3" {
				assert.Equal(t, r.made+r.refused, r.attempts, "%s: there are no deadlocks", w.name)
			}
		}
	})
}

// What UpdateMany is there for: one lock inside another has deadlocks, but for SQLite, where one lock is for all. They come when they
// come, so the load is put on until one has.
func TestNestedLocksDeadlock(t *testing.T) {
	everywhere.OnServers(t, func(t *testing.T, driver, dsn string) {
		b := openBank(t, driver, dsn)
		s := settings{accounts: 2, workers: 8, transfers: 4, limit: time.Hour}
		for again := int64(0); again == 0; {
			r, err := b.load(t.Context(), s, nested)
			require.NoError(t, err)
			assert.EqualValues(t, 200, r.after)
			again = r.attempts - r.made - r.refused
		}
	})
}

// Two transfers that meet: whoever pays first, both are made, or the one is refused that there is not enough for.
func TestATransferMovesItsAmount(t *testing.T) {
	everywhere.Run(t, func(t *testing.T, driver, dsn string) {
		b := openBank(t, driver, dsn)
		for _, w := range ways {
			require.NoError(t, b.fill(t.Context(), 3))
			u := lock.New(b.db, accounts, nil)
			for _, test := range []struct {
				transfer
				err error
			}{{transfer{2, 0, 70}, nil}, {transfer{2, 0, 31}, errTooLittle}, {transfer{0, 1, 170}, nil}, {transfer{0, 1, 1}, errTooLittle}} {
				attempts, err := w.way(t.Context(), u, test.transfer)
				assert.Equal(t, test.err, err, "%s: %v", w.name, test.transfer)
				assert.EqualValues(t, 1, attempts)
			}
			var balances []int64
			require.NoError(t, b.pool.Select(&balances, "SELECT balance FROM "+table+" ORDER BY id"))
			assert.Equal(t, []int64{0, 270, 30}, balances, w.name)
		}
	})
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	args := []string{"-workers", "2", "-transfers", "3", "-accounts", "100", "-dsn", "file:" + filepath.Join(t.TempDir(), "x.db")}
	for range 2 { // the second time nothing is in the way
		out.Reset()
		require.NoError(t, run(t.Context(), args, &out, io.Discard))
		assert.Contains(t, out.String(), "2 goroutines x 3 transfers between 100 accounts through sqlite3\n")
		assert.Regexp(t, `(?m)^UpdateMany +6 +0 +10000 +10000 +\d+ +0 +\d+$`, out.String())
		assert.Regexp(t, `(?m)^ +nested +6 +0 +10000 +10000 +\d+ +0 +\d+$`, out.String())
	}
}

// Money that comes from nowhere is found, by whoever looks first.
func TestWrongAccountsAreTold(t *testing.T) {
	b := openBank(t, "sqlite3", "file:"+filepath.Join(t.TempDir(), "x.db"))
	_, err := b.load(t.Context(), crowd, func(ctx context.Context, accounts *lock.Updater[Account], t transfer) (int64, error) {
		_, err := accounts.Update(ctx, t.to, func(_ context.Context, to *Account) error {
			to.Balance += t.amount
			return nil
		})
		return 1, err
	})
	assert.ErrorIs(t, err, errWrong)
}

func TestBadArguments(t *testing.T) {
	for message, args := range map[string][]string{
		"-accounts is 1":                   {"-accounts", "1"},
		"-workers and -transfers must be":  {"-workers", "0"},
		"-workers and -transfers must be ": {"-transfers", "-1"},
		`unexpected argument "nested"`:     {"nested"},
		"-driver pgx needs a -dsn":         {"-driver", "pgx"},
		`unknown driver "oracle"`:          {"-driver", "oracle", "-dsn", "x"},
		"unable to open database file":     {"-dsn", "file:" + filepath.Join(t.TempDir(), "no", "such", "folder.db")},
	} {
		assert.ErrorContains(t, run(t.Context(), args, io.Discard, io.Discard), message)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	assert.ErrorIs(t, run(ctx, nil, io.Discard, io.Discard), context.Canceled)
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Empty(t, left, "the temporary folder is removed")
}
