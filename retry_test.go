package raceproof_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/testdb"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
)

// retries is a policy that pauses for nearly nothing.
func retries(attempts int) raceproof.RetryPolicy {
	return raceproof.RetryPolicy{MaxAttempts: attempts, MinPause: time.Nanosecond, MaxPause: time.Microsecond}
}

// tooLate is an update of package optimistic that finds the row changed between its read and its write: in a transaction
// on SQLite nobody but the transaction itself can do that.
func tooLate(ctx context.Context, db *raceproof.DB) error {
	_, err := optimistic.New(db, players, nil).Update(ctx, 7, func(ctx context.Context, p *Player) error {
		p.Score++
		_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET version = version + 1`)
		return err
	})
	return err
}

func TestTransactIsMadeAgain(t *testing.T) {
	mine := errors.New("the function's own error")
	_, other := testdb.SQLite(t, playersSchema, ada)
	for name, c := range map[string]struct {
		f     func(context.Context, *raceproof.DB, int) error
		calls int
		want  []error
	}{
		"a version that has changed": {func(ctx context.Context, db *raceproof.DB, call int) error {
			if call < 4 {
				return tooLate(ctx, db)
			}
			return nil
		}, 4, nil},
		"always": {func(ctx context.Context, db *raceproof.DB, _ int) error {
			return fmt.Errorf("wrapped: %w", tooLate(ctx, db))
		},
			5, []error{raceproof.ErrConflict}},
		"an error of its own": {func(context.Context, *raceproof.DB, int) error { return mine }, 1, []error{mine}},
		"a conflict that nobody had": {func(context.Context, *raceproof.DB, int) error { return raceproof.ErrConflict },
			1, []error{raceproof.ErrConflict}},
		"another database's": {func(ctx context.Context, _ *raceproof.DB, _ int) error {
			return other.Transact(ctx, func(ctx context.Context) error { return tooLate(ctx, other) }, raceproof.Retry(retries(2)))
		}, 1, []error{raceproof.ErrConflict}},
		"handled": {func(ctx context.Context, db *raceproof.DB, _ int) error {
			assert.ErrorIs(t, db.Transact(ctx, func(ctx context.Context) error { return tooLate(ctx, db) }), raceproof.ErrConflict)
			return nil
		}, 1, nil},
		"handled, and then an error of its own": {func(ctx context.Context, db *raceproof.DB, _ int) error {
			assert.ErrorIs(t, tooLate(ctx, db), raceproof.ErrConflict)
			return mine
		}, 1, []error{mine}},
		"nested": {func(ctx context.Context, db *raceproof.DB, _ int) error {
			return db.Transact(ctx, func(ctx context.Context) error { return tooLate(ctx, db) })
		}, 5, []error{raceproof.ErrConflict}},
	} {
		t.Run(name, func(t *testing.T) {
			pool, db := testdb.SQLite(t, playersSchema, ada)
			calls := 0
			err := db.Transact(t.Context(), func(ctx context.Context) error {
				calls++
				return c.f(ctx, db, calls)
			}, raceproof.Retry(retries(5)))
			assert.Equal(t, c.calls, calls)
			for _, want := range c.want {
				assert.ErrorIs(t, err, want)
			}
			if c.want == nil {
				assert.NoError(t, err)
			}
			var given *raceproof.RetryError
			if calls == 5 && assert.ErrorAs(t, err, &given) {
				assert.Equal(t, 5, given.Attempts)
				assert.NoError(t, given.Ended)
			}
			wantPlayer(t, pool, Player{7, "Ada", 0, 0})
			testdb.Idle(t, pool)
		})
	}
}

// A function under a lock is called again for what its own updates have met.
func TestLockIsMadeAgain(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada, `INSERT INTO players VALUES (8, 'Bob', 0, 0)`)
	calls := 0
	p, err := lock.New(db, players, nil).Update(t.Context(), 8, func(ctx context.Context, p *Player) error {
		p.Score++
		if calls++; calls < 3 {
			return tooLate(ctx, db)
		}
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, 3, calls)
	assert.Equal(t, Player{8, "Bob", 1, 1}, p)
	wantPlayer(t, pool, Player{7, "Ada", 0, 0})
}

// Between two attempts nothing is held, and the end of the context ends them.
func TestPauseHoldsNothing(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	pool.SetMaxOpenConns(1)
	gone := errors.New("the caller has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	result := make(chan error, 1)
	refused := make(chan struct{}, 1)
	go func() {
		result <- db.Transact(ctx, func(ctx context.Context) error {
			defer func() { refused <- struct{}{} }()
			return tooLate(ctx, db)
		}, raceproof.Retry(raceproof.RetryPolicy{MinPause: time.Hour}))
	}()
	<-refused
	_, err := lock.New(db, players, nil).Update(t.Context(), 7, award(1))
	require.NoError(t, err)
	cancel(gone)
	err = <-result
	var given *raceproof.RetryError
	require.ErrorAs(t, err, &given)
	assert.Equal(t, 1, given.Attempts)
	assert.ErrorIs(t, given.Ended, gone)
	for _, want := range []error{raceproof.ErrConflict, context.Canceled, gone} {
		assert.ErrorIs(t, err, want)
	}
	wantPlayer(t, pool, Player{7, "Ada", 1, 1})
}

// All callers of one policy share its budget.
func TestBudget(t *testing.T) {
	_, db := testdb.SQLite(t, playersSchema, ada)
	policy := retries(1000)
	policy.Budget = 1
	calls, refused := 0, 0
	const callers = 10
	for range callers {
		err := db.Transact(t.Context(), func(ctx context.Context) error {
			calls++
			return tooLate(ctx, db)
		}, raceproof.Retry(policy))
		assert.ErrorIs(t, err, raceproof.ErrConflict)
		if errors.Is(err, raceproof.ErrRetryBudget) {
			refused++
		}
	}
	assert.Equal(t, callers, refused)
	assert.Equal(t, callers+100+callers-1, calls, "a first attempt each, what was saved, and what each has added, the first one to what was full")
	calls = 0
	require.Error(t, db.Transact(t.Context(), func(ctx context.Context) error {
		calls++
		return tooLate(ctx, db)
	}, raceproof.Retry(retries(7))))
	assert.Equal(t, 7, calls, "another policy has another budget")
}

func TestTransactOptions(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	never := func(context.Context) error { panic("called") }
	fine := func(context.Context) error { return nil }
	ctx := t.Context()
	require.NoError(t, db.Transact(ctx, func(inside context.Context) error {
		assert.ErrorIs(t, db.Transact(inside, never, raceproof.Durable()), raceproof.ErrNested)
		assert.ErrorIs(t, db.Transact(inside, never, raceproof.Retry(raceproof.RetryPolicy{})), raceproof.ErrNested)
		assert.ErrorIs(t, db.Transact(inside, never, raceproof.ReadOnly()), raceproof.ErrUnsupported)
		assert.ErrorIs(t, db.Transact(inside, never, raceproof.Isolation(sql.LevelSnapshot)), raceproof.ErrUnsupported)
		return db.Transact(inside, fine, raceproof.Isolation(sql.LevelSerializable))
	}, raceproof.Durable(), raceproof.Isolation(sql.LevelSerializable)))
	for _, level := range []sql.IsolationLevel{sql.LevelReadUncommitted, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSnapshot,
		sql.LevelLinearizable, 99} {
		err := db.Transact(ctx, never, raceproof.Isolation(level))
		assert.ErrorIs(t, err, raceproof.ErrUnsupported)
		assert.ErrorContains(t, err, level.String()+": sqlite has Serializable")
	}
	for want, policy := range map[string]raceproof.RetryPolicy{
		"raceproof: Transact: MaxAttempts is -1: it must not be negative":                     {MaxAttempts: -1},
		"raceproof: Transact: MinPause is -1ns and MaxPause 0s: they must not be negative":    {MinPause: -1},
		"raceproof: Transact: MaxPause is 1ms, less than MinPause, which is 1s":               {MinPause: time.Second, MaxPause: time.Millisecond},
		"raceproof: Transact: the Budget is -1: it must not be negative, nor above 1000000":   {Budget: -1},
		"raceproof: Transact: MinPause is 0s and MaxPause -1h0m0s: they must not be negative": {MaxPause: -time.Hour},
	} {
		assert.EqualError(t, db.Transact(ctx, never, raceproof.Retry(policy)), want)
	}
	testdb.Idle(t, pool)
}

// A transaction that only reads sees one state, keeps nobody from writing, and leaves its connection as it was.
func TestReadOnly(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	byLock := lock.New(db, players, nil)
	err := db.Transact(t.Context(), func(ctx context.Context) error {
		var conn string
		for range 2 {
			_, err := byLock.Update(t.Context(), 7, award(1)) // somebody else's
			require.NoError(t, err)
			var p Player
			require.NoError(t, db.Ext(ctx).QueryRowxContext(ctx, `SELECT * FROM players`).StructScan(&p))
			assert.Equal(t, Player{7, "Ada", 0, 0}, p)
		}
		_, err := byLock.Update(ctx, 7, award(1))
		assert.ErrorContains(t, err, "attempt to write a readonly database")
		_, err = db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 100`)
		assert.ErrorContains(t, err, "attempt to write a readonly database")
		require.NoError(t, db.Transact(ctx, func(ctx context.Context) error {
			return db.Ext(ctx).QueryRowxContext(ctx, `SELECT name FROM players`).Scan(&conn)
		}, raceproof.ReadOnly()))
		return nil
	}, raceproof.ReadOnly())
	require.NoError(t, err)
	wantPlayer(t, pool, Player{7, "Ada", 2, 2})
	testdb.Idle(t, pool)
	pool.SetMaxOpenConns(1)
	for range 3 {
		require.NoError(t, db.Transact(t.Context(), func(context.Context) error { return nil }, raceproof.ReadOnly()))
		pool.MustExec(`UPDATE players SET score = score + 1`)
	}
}

// notes are what was called, in order.
type notes struct {
	mu   sync.Mutex
	text []string
}

func (n *notes) add(text string) func(context.Context) {
	return func(context.Context) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.text = append(n.text, text)
	}
}

func (n *notes) take() []string {
	text := n.text
	n.text = nil
	return text
}

func TestHooks(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	pool.SetMaxOpenConns(1)
	var n notes
	mine := errors.New("the function's own error")
	both := func(ctx context.Context, text string) {
		require.NoError(t, db.AfterCommit(ctx, n.add(text+" committed")))
		require.NoError(t, db.AfterRollback(ctx, n.add(text+" rolled back")))
	}
	nested := func(ctx context.Context, text string, err error) {
		assert.Equal(t, err, db.Transact(ctx, func(ctx context.Context) error {
			both(ctx, text)
			return err
		}))
	}
	work := func(ctx context.Context) error {
		both(ctx, "first")
		nested(ctx, "second", nil)
		nested(ctx, "third", mine)
		n.add("still inside")(ctx)
		both(ctx, "fourth")
		return nil
	}
	require.NoError(t, db.Transact(t.Context(), work))
	assert.Equal(t, []string{"third rolled back", "still inside", "first committed", "second committed", "fourth committed"}, n.take())
	assert.ErrorIs(t, db.Transact(t.Context(), func(ctx context.Context) error { return errors.Join(work(ctx), mine) }), mine)
	assert.Equal(t, []string{"third rolled back", "still inside", "first rolled back", "second rolled back", "fourth rolled back"}, n.take())

	both(t.Context(), "outside")
	assert.Equal(t, []string{"outside committed"}, n.take())

	calls := 0
	require.NoError(t, db.Transact(t.Context(), func(ctx context.Context) error {
		calls++
		both(ctx, fmt.Sprint("attempt ", calls))
		if calls < 3 {
			return tooLate(ctx, db)
		}
		return nil
	}, raceproof.Retry(retries(5))))
	assert.Equal(t, []string{"attempt 1 rolled back", "attempt 2 rolled back", "attempt 3 committed"}, n.take())

	// The transaction is over by then, and its connection free.
	var finished context.Context
	require.NoError(t, db.Transact(t.Context(), func(ctx context.Context) error {
		finished = ctx
		return db.AfterCommit(ctx, func(ctx context.Context) {
			_, err := lock.New(db, players, nil).Update(ctx, 7, award(1))
			require.NoError(t, err)
		})
	}))
	wantPlayer(t, pool, Player{7, "Ada", 1, 1})
	assert.ErrorIs(t, db.AfterCommit(finished, n.add("never")), raceproof.ErrFinished)
	assert.ErrorIs(t, db.AfterRollback(finished, n.add("never")), raceproof.ErrFinished)
	assert.EqualError(t, db.AfterCommit(t.Context(), nil), "raceproof: AfterCommit: the function is nil")
	assert.EqualError(t, db.AfterRollback(t.Context(), nil), "raceproof: AfterRollback: the function is nil")
	assert.Empty(t, n.take())
}

// The functions behind one that does not return are called all the same.
func TestHooksThatDoNotReturn(t *testing.T) {
	_, db := testdb.SQLite(t, playersSchema, ada)
	var n notes
	ends := map[string]func(){"panic": func() { panic("the function's own") }, "Goexit": runtime.Goexit}
	for name, end := range ends {
		done := make(chan any)
		go func() {
			defer func() { done <- recover() }()
			_ = db.Transact(t.Context(), func(ctx context.Context) error {
				assert.NoError(t, db.AfterCommit(ctx, func(context.Context) { end() }))
				assert.NoError(t, db.AfterCommit(ctx, n.add("second")))
				return nil
			})
			t.Error("Transact has returned")
		}()
		recovered := <-done
		assert.Equal(t, name == "panic", recovered != nil)
		assert.Equal(t, []string{"second"}, n.take())
		go func() {
			defer func() { done <- recover() }()
			_ = db.Transact(t.Context(), func(ctx context.Context) error {
				assert.NoError(t, db.AfterRollback(ctx, n.add("rolled back")))
				end()
				return nil
			})
		}()
		<-done
		assert.Equal(t, []string{"rolled back"}, n.take())
	}
}

// The functions of every pattern see the same: what they give is called when the row is written, and only then.
func TestHooksOfUpdates(t *testing.T) {
	_, db := testdb.SQLite(t, playersSchema, ada, `INSERT INTO players VALUES (8, 'Bob', 0, 0)`)
	policy := raceproof.RetryPolicy{MaxAttempts: 3, MinPause: 1, MaxPause: 1}
	mine := errors.New("the function's own error")
	for name, u := range map[string]raceproof.Updater[Player, raceproof.Func[Player]]{
		"lock":       lock.New(db, players, nil),
		"optimistic": optimistic.New(db, players, &optimistic.Options{Retry: policy}),
	} {
		var n notes
		calls := 0
		change := func(fail error, refused int) raceproof.Func[Player] {
			calls = 0
			return func(ctx context.Context, p *Player) error {
				p.Score++
				calls++
				require.NoError(t, db.AfterCommit(ctx, n.add(fmt.Sprint(calls, " committed"))))
				require.NoError(t, db.AfterRollback(ctx, n.add(fmt.Sprint(calls, " rolled back"))))
				if calls <= refused {
					return tooLate(ctx, db)
				}
				return fail
			}
		}
		update := func(ctx context.Context, change raceproof.Func[Player]) error {
			_, err := u.Update(ctx, 8, change)
			return err
		}
		require.NoError(t, update(t.Context(), change(nil, 0)))
		assert.Equal(t, []string{"1 committed"}, n.take(), name)
		assert.ErrorIs(t, update(t.Context(), change(mine, 0)), mine)
		assert.Equal(t, []string{"1 rolled back"}, n.take(), name)
		require.NoError(t, db.Transact(t.Context(), func(ctx context.Context) error {
			require.NoError(t, update(ctx, change(nil, 0)))
			assert.ErrorIs(t, update(ctx, change(mine, 0)), mine)
			assert.Equal(t, []string{"1 rolled back"}, n.take(), name)
			return nil
		}))
		assert.Equal(t, []string{"1 committed"}, n.take(), name)
		assert.ErrorIs(t, db.Transact(t.Context(), func(ctx context.Context) error {
			require.NoError(t, update(ctx, change(nil, 0)))
			return mine
		}), mine)
		assert.Equal(t, []string{"1 rolled back"}, n.take(), name)
		assert.Panics(t, func() {
			_ = update(t.Context(), func(ctx context.Context, p *Player) error {
				require.NoError(t, db.AfterRollback(ctx, n.add("panicked")))
				panic("the function's own")
			})
		})
		assert.Equal(t, []string{"panicked"}, n.take(), name)
	}
	var n notes
	calls := 0
	_, err := optimistic.New(db, players, &optimistic.Options{Retry: policy}).Update(t.Context(), 8, func(ctx context.Context, p *Player) error {
		p.Score++
		calls++
		require.NoError(t, db.AfterCommit(ctx, n.add(fmt.Sprint(calls, " committed"))))
		require.NoError(t, db.AfterRollback(ctx, n.add(fmt.Sprint(calls, " rolled back"))))
		if calls < 3 {
			_, err := lock.New(db, players, nil).Update(t.Context(), 8, award(1))
			return err
		}
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, []string{"1 rolled back", "2 rolled back", "3 committed"}, n.take())
}
