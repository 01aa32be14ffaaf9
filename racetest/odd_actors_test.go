package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/racetest"
)

// oddActors do what is unusual, and allowed.
var oddActors = map[string]actorFunc{
	"nothing": func(context.Context, *sql.DB) error { return nil },
	"a context of its own that it cancels": func(ctx context.Context, db *sql.DB) error {
		own, cancel := context.WithCancel(ctx)
		defer cancel()
		tx, err := db.BeginTx(own, nil)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(own, left); err != nil {
			return err
		}
		cancel()
		if _, err := tx.ExecContext(own, left); !errors.Is(err, context.Canceled) && !errors.Is(err, sql.ErrTxDone) {
			return fmt.Errorf("got %v", err)
		}
		return errors.Join(look(ctx, db), write(ctx, db))
	},
	"a transaction whose context ends with it": func(ctx context.Context, db *sql.DB) error {
		own, cancel := context.WithCancel(ctx)
		defer cancel()
		tx, err := db.BeginTx(own, nil)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(own, left)
		return err
	},
	"rows whose context ends with it": func(ctx context.Context, db *sql.DB) error {
		own, cancel := context.WithCancel(ctx)
		defer cancel()
		_, err := db.QueryContext(own, reads)
		return err
	},
	"one connection": func(ctx context.Context, db *sql.DB) error {
		db.SetMaxOpenConns(1)
		return errors.Join(look(ctx, db), write(ctx, db))
	},
	"no idle connections": func(ctx context.Context, db *sql.DB) error {
		db.SetMaxIdleConns(0)
		return errors.Join(look(ctx, db), write(ctx, db))
	},
	"two connections": func(ctx context.Context, db *sql.DB) error {
		c, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		_, err = c.ExecContext(ctx, left)
		return errors.Join(err, write(ctx, db), c.Close())
	},
	"several statements": func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, left+"; "+writes)
		if isBusy(err) { // it does not wait: it may have done some of it
			return nil
		}
		return err
	},
	"prepared": func(ctx context.Context, db *sql.DB) error {
		st, err := db.PrepareContext(ctx, "UPDATE players SET score = score + :n WHERE id = :id")
		if err != nil {
			return err
		}
		for range 2 {
			if _, err := st.ExecContext(ctx, sql.Named("id", 7), sql.Named("n", 1)); err != nil {
				return err
			}
		}
		return nil // it is closed with the database
	},
	"a big result with NULs": func(ctx context.Context, db *sql.DB) error {
		rows, err := db.QueryContext(ctx, "WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c WHERE x < 500) SELECT x, ?, NULL FROM c", []byte{0, 1, 0})
		if err != nil {
			return err
		}
		n, raw := 0, sql.RawBytes(nil)
		for ; rows.Next(); n++ {
			var x int
			var null any
			if err := rows.Scan(&x, &raw, &null); err != nil {
				return err
			}
			if x != n+1 || string(raw) != "\x00\x01\x00" || null != nil {
				return fmt.Errorf("row %d is %d %q %v", n, x, raw, null)
			}
		}
		if n != 500 || rows.NextResultSet() {
			return fmt.Errorf("%d rows", n)
		}
		return errors.Join(rows.Err(), rows.Close())
	},
	"a database that it closes": func(ctx context.Context, db *sql.DB) error { return errors.Join(write(ctx, db), db.Close()) },
	"a panic of its own": func(ctx context.Context, db *sql.DB) error {
		defer func() { _ = recover() }()
		return within(ctx, db, func(*sql.Tx) error { panic("oops") })
	},
	"a statement that fails": func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "INSERT INTO players (id) VALUES (7)")
		if err == nil {
			return errors.New("it did not")
		}
		return nil
	},
	"polling": func(ctx context.Context, db *sql.DB) error { return polling(ctx, db) },
}

// polling sends BEGIN IMMEDIATE until it gets on, each time on another connection.
func polling(ctx context.Context, db *sql.DB) error {
	db.SetMaxIdleConns(0)
	for {
		c, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		_, err = c.ExecContext(ctx, "BEGIN IMMEDIATE")
		if !isBusy(err) {
			if err == nil {
				_, err = c.ExecContext(ctx, writes+"; COMMIT")
			}
			return errors.Join(err, c.Close())
		}
		_ = c.Close()
	}
}

// TestOddActors wants nothing said of them, however they and another follow each other.
func TestOddActors(t *testing.T) {
	for name, odd := range oddActors {
		t.Run(name, func(t *testing.T) {
			s := scenario(&counted{dsn: file(t) + "&_busy_timeout=0"}, racetest.Actors{"odd": odd, "other": polling})
			if name != "polling" {
				s.Open = racetest.Driver("sqlite3", file(t))
			}
			r, err := behave(t, s)
			require.NoError(t, err)
			again, err := behave(t, s)
			require.NoError(t, err)
			r.Elapsed, again.Elapsed = 0, 0
			assert.Equal(t, r, again, "the same is explored again")
		})
	}
}

// TestPollOnOtherConnections wants the transaction seen on the connection that it is on.
func TestPollOnOtherConnections(t *testing.T) {
	poll := func(ctx context.Context, db *sql.DB) error {
		var kept []*sql.Conn
		defer func() {
			for _, c := range kept {
				_ = c.Close()
			}
		}()
		for {
			c, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			kept = append(kept, c)
			if _, err = c.ExecContext(ctx, "BEGIN IMMEDIATE"); isBusy(err) {
				continue
			} else if err != nil {
				return err
			}
			for _, text := range []string{reads, "COMMIT"} {
				if err := give(ctx, c, text); err != nil {
					return err
				}
			}
			return nil
		}
	}
	s := scenario(&counted{dsn: file(t) + "&_busy_timeout=0"}, racetest.Actors{"a": poll, "b": poll})
	r, err := behave(t, s)
	require.NoError(t, err)
	assert.Positive(t, r.Blocked)
}

// TestMayFail wants it asked with the error that was returned, and Check told of what it has let pass.
func TestMayFail(t *testing.T) {
	errNo := errors.New("not today")
	s := scenario(&counted{dsn: file(t)}, racetest.Actors{"good": add(1), "bad": func(ctx context.Context, db *sql.DB) error {
		return errors.Join(look(ctx, db), errNo)
	}})
	s.MayFail = func(actor string, err error) bool {
		assert.Equal(t, "bad", actor)
		return errors.Is(err, errNo)
	}
	s.Check = func(_ context.Context, _ *sql.DB, returned map[string]error) error {
		assert.ErrorIs(t, returned["bad"], errNo)
		assert.NoError(t, returned["good"])
		assert.Len(t, returned, 2)
		return nil
	}
	_, err := behave(t, s)
	require.NoError(t, err)
	s.MayFail = func(string, error) bool { return false }
	f := fails(t, s, racetest.ActorFailed, "bad", "bad has failed: not today")
	assert.ErrorIs(t, f, errNo)
}

// TestContextWhileItWaits is of a statement that waits for a lock or for its turn when its context ends.
func TestContextWhileItWaits(t *testing.T) {
	var end context.CancelFunc
	s := scenario(&counted{dsn: file(t)}, racetest.Actors{
		"holder": func(ctx context.Context, db *sql.DB) error {
			return within(ctx, db, func(tx *sql.Tx) error {
				_, err := tx.ExecContext(ctx, "DELETE FROM players WHERE id = 8")
				end()
				return err
			})
		},
		"a-impatient": func(ctx context.Context, db *sql.DB) error {
			var own context.Context
			own, end = context.WithCancel(ctx)
			defer end()
			if err := write(own, db); !errors.Is(err, context.Canceled) && !isBusy(err) && err != nil {
				return err
			}
			return look(ctx, db)
		},
	})
	s.Check = func(context.Context, *sql.DB, map[string]error) error { return errors.New("seen") }
	for _, token := range []string{"h h a h", "h h h a", "a h h h"} {
		_, err := behaveWith(t, s, []racetest.Option{racetest.Replay(token)})
		failed(t, err, racetest.Invariant, "", "seen")
		if !strings.HasPrefix(token, "a") {
			assert.Contains(t, err.Error(), "error: ", "it was told")
		}
	}
}

// TestFiveActors is of more than two.
func TestFiveActors(t *testing.T) {
	actors := racetest.Actors{}
	for i, name := range []string{"a", "ab", "abc", "b", "élan"} {
		actors[name] = add(i)
	}
	s := scenario(&counted{dsn: file(t)}, actors)
	s.Check = score(20)
	_, err := behave(t, s)
	f := failed(t, err, racetest.Invariant, "", "an update was lost")
	assert.Len(t, f.Actors, 5)
	_, err = behaveWith(t, s, []racetest.Option{racetest.Replay(f.Token)})
	assert.Equal(t, f.Token, failed(t, err, racetest.Invariant, "", "an update was lost").Token)
}
