package raceproof_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/testdb"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
)

// The lock is there before the function runs, whatever the DSN says of transactions.
func TestLockIsTakenBeforeTheRead(t *testing.T) {
	for _, mode := range []string{"", "_txlock=deferred", "_txlock=immediate", "_txlock=exclusive"} {
		dsn := testdb.File(t, mode)
		pool := testdb.Open(t, dsn)
		pool.MustExec(playersSchema)
		pool.MustExec(ada)
		db, err := raceproof.New(pool)
		require.NoError(t, err)
		outsider := testdb.Open(t, dsn+"&_busy_timeout=0")
		_, err = lock.New(db, players, nil).Update(context.Background(), 7, func(ctx context.Context, p *Player) error {
			_, err := outsider.Exec(`UPDATE players SET score = 100`)
			assert.ErrorContains(t, err, "database is locked")
			return award(1)(ctx, p)
		})
		require.NoError(t, err)
		_, err = outsider.Exec(`UPDATE players SET name = 'Bob'`)
		require.NoError(t, err, "the lock is released")
		wantPlayer(t, pool, Player{7, "Bob", 1, 1})
	}
}

// hold takes the write lock from outside, as another process would, until release is called.
func hold(t testing.TB, dsn string) (release func()) {
	conn, err := testdb.Open(t, dsn).Connx(context.Background())
	require.NoError(t, err)
	_, err = conn.ExecContext(context.Background(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	return func() {
		_, err := conn.ExecContext(context.Background(), "ROLLBACK")
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
}

func updaters(db *raceproof.DB) map[string]raceproof.Updater[Player, int] {
	return map[string]raceproof.Updater[Player, int]{
		"lock":       raceproof.Bind(lock.New(db, players, nil), award),
		"optimistic": raceproof.Bind(optimistic.New(db, players, nil), award),
		"atomic": raceproof.Bind(atomic.New(db, players, nil), func(points int) atomic.Change {
			return atomic.Set("score", atomic.F("score").Add(points))
		}),
	}
}

// A lock held outside this process is waited for until the context ends and not longer, although the driver itself
// would not notice; and the connections keep the limit that the service gave them.
func TestLockHeldOutside(t *testing.T) {
	dsn := testdb.File(t, "_busy_timeout=20000")
	pool := testdb.Open(t, dsn)
	pool.MustExec(playersSchema)
	pool.MustExec(ada)
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	for name, u := range updaters(db) {
		pool.MustExec(`UPDATE players SET score = 5, version = 0`)
		release := hold(t, dsn)
		gone := errors.New("the caller has gone")
		ctx, cancel := context.WithTimeoutCause(context.Background(), 50*time.Millisecond, gone)
		start := time.Now()
		_, err = u.Update(ctx, 7, 1)
		assert.Less(t, time.Since(start), 5*time.Second, name)
		cancel()
		for _, want := range []error{raceproof.ErrLocked, context.DeadlineExceeded, gone} {
			assert.ErrorIs(t, err, want, name)
		}
		assert.ErrorContains(t, err, "database is locked", name)
		wantPlayer(t, pool, Player{7, "Ada", 5, 0})

		ctx, cancel = context.WithCancel(context.Background())
		time.AfterFunc(30*time.Millisecond, release) // the update is refused a few times until then
		p, err := u.Update(ctx, 7, 1)
		require.NoError(t, err, "the lock is had as soon as it is free")
		assert.Equal(t, Player{7, "Ada", 6, 1}, p, name)
		wantPlayer(t, pool, p)
		cancel()
	}
	testdb.Idle(t, pool)
	assertWaitLimit(t, pool, 20000)
}

// assertWaitLimit looks at every connection that the pool keeps.
func assertWaitLimit(t *testing.T, pool *sqlx.DB, want int) {
	t.Helper()
	for range pool.Stats().OpenConnections {
		conn, err := pool.Connx(context.Background())
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		var limit int
		require.NoError(t, conn.GetContext(context.Background(), &limit, "PRAGMA busy_timeout"))
		assert.Equal(t, want, limit)
	}
}

// Where the context cannot end, the connection's own limit holds.
func TestLockHeldOutsideWithoutEnd(t *testing.T) {
	dsn := testdb.File(t, "_busy_timeout=30")
	pool := testdb.Open(t, dsn)
	pool.MustExec(playersSchema)
	pool.MustExec(ada)
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	release := hold(t, dsn)
	for name, u := range updaters(db) {
		_, err := u.Update(context.Background(), 7, 1)
		assert.ErrorIs(t, err, raceproof.ErrLocked, name)
	}
	release()
	wantPlayer(t, pool, Player{7, "Ada", 0, 0})
}

// Who waits for a turn to write holds no connection, so that readers find one.
func TestWaitingHoldsNoConnection(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	pool.SetMaxOpenConns(2)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	err := db.Transact(ctx, func(context.Context) error {
		for range 10 {
			for _, u := range updaters(db) {
				wg.Go(func() {
					_, err := u.Update(ctx, 7, 1)
					assert.NoError(t, err)
				})
			}
		}
		for db.Pool().Waiting() < 30 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var p Player
			if err := pool.GetContext(ctx, &p, `SELECT * FROM players`); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, err)
	wg.Wait()
	wantPlayer(t, pool, Player{7, "Ada", 30, 30})
}

func TestExt(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	ctx := context.Background()
	assert.Same(t, pool, db.Ext(ctx))
	_, other := testdb.SQLite(t, playersSchema)
	var escaped sqlx.ExtContext
	err := db.Transact(ctx, func(ctx context.Context) error {
		escaped = db.Ext(ctx)
		assert.NotSame(t, pool, escaped)
		assert.IsType(t, pool, other.Ext(ctx), "another DB's statements are not part of the transaction")
		_, err := sqlx.NamedExecContext(ctx, escaped, `UPDATE players SET score = :score WHERE id = :id`, Player{ID: 7, Score: 5})
		require.NoError(t, err)
		var p Player
		require.NoError(t, sqlx.GetContext(ctx, escaped, &p, escaped.Rebind(`SELECT * FROM players WHERE id = ?`), 7))
		assert.Equal(t, Player{7, "Ada", 5, 0}, p)
		var all []Player
		require.NoError(t, sqlx.SelectContext(ctx, escaped, &all, `SELECT * FROM players`))
		assert.Len(t, all, 1)
		wantPlayer(t, pool, Player{7, "Ada", 0, 0}) // nobody else sees it yet
		return nil
	})
	require.NoError(t, err)
	wantPlayer(t, pool, Player{7, "Ada", 5, 0})

	_, err = escaped.ExecContext(ctx, `UPDATE players SET score = 100`)
	assert.ErrorIs(t, err, raceproof.ErrFinished)
	_, err = escaped.QueryContext(ctx, `SELECT 1`)
	assert.ErrorIs(t, err, raceproof.ErrFinished)
	_, err = escaped.QueryxContext(ctx, `SELECT 1`)
	assert.ErrorIs(t, err, raceproof.ErrFinished)
	assert.ErrorIs(t, escaped.QueryRowxContext(ctx, `SELECT 1`).Err(), raceproof.ErrFinished)
	wantPlayer(t, pool, Player{7, "Ada", 5, 0})
}

func TestTransactEndings(t *testing.T) {
	write := func(ctx context.Context, db *raceproof.DB) {
		_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 100`)
		require.NoError(t, err)
	}
	for name, f := range map[string]func(context.Context, *raceproof.DB) error{
		"rows left open": func(ctx context.Context, db *raceproof.DB) error {
			write(ctx, db)
			_, err := db.Ext(ctx).QueryContext(ctx, `SELECT 1 UNION SELECT 2`)
			require.NoError(t, err)
			return errors.New("the function's own error")
		},
		"a COMMIT of the function's own": func(ctx context.Context, db *raceproof.DB) error {
			_, err := db.Ext(ctx).ExecContext(ctx, `COMMIT`)
			return err
		},
		"an interrupted write, its error swallowed": func(ctx context.Context, db *raceproof.DB) error {
			write(ctx, db)
			// The driver's interrupt is lost if the statement has not begun by then, so that it must have an end.
			short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
			defer cancel()
			_, err := db.Ext(ctx).ExecContext(short, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000000)
				UPDATE players SET score = (SELECT max(i) FROM n)`)
			require.Error(t, err)
			_, err = db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 200`)
			assert.ErrorIs(t, err, raceproof.ErrFinished, "SQLite has rolled back: this would be committed by itself")
			assert.ErrorIs(t, db.Transact(ctx, func(context.Context) error { return nil }), raceproof.ErrFinished)
			assert.ErrorIs(t, db.Ext(ctx).QueryRowxContext(ctx, `SELECT 1`).Err(), raceproof.ErrFinished)
			return nil
		},
		"an inner transaction from an outer context": func(outer context.Context, db *raceproof.DB) error {
			write(outer, db)
			return db.Transact(outer, func(context.Context) error {
				return db.Transact(outer, func(context.Context) error { return nil })
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			pool, db := testdb.SQLite(t, playersSchema, ada)
			assert.Error(t, db.Transact(context.Background(), func(ctx context.Context) error { return f(ctx, db) }))
			wantPlayer(t, pool, Player{7, "Ada", 0, 0})
			testdb.Idle(t, pool)
			_, err := lock.New(db, players, nil).Update(context.Background(), 7, award(1))
			require.NoError(t, err)
			wantPlayer(t, pool, Player{7, "Ada", 1, 1})
		})
	}
	_, db := testdb.SQLite(t)
	assert.ErrorContains(t, db.Transact(context.Background(), nil), "the function is nil")
}

// What fails only at COMMIT is not applied, and the connection is clean again.
func TestCommitFails(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada,
		`CREATE TABLE prizes (player INTEGER REFERENCES players DEFERRABLE INITIALLY DEFERRED)`)
	pool.SetMaxOpenConns(1)
	pool.MustExec(`PRAGMA foreign_keys = ON`)
	err := db.Transact(context.Background(), func(ctx context.Context) error {
		_, err := db.Ext(ctx).ExecContext(ctx, `INSERT INTO prizes VALUES (8)`)
		return err
	})
	assert.ErrorContains(t, err, "commit: FOREIGN KEY constraint failed")
	var prizes int
	require.NoError(t, pool.Get(&prizes, `SELECT count(*) FROM prizes`))
	assert.Zero(t, prizes)
	_, err = lock.New(db, players, nil).Update(context.Background(), 7, award(1))
	require.NoError(t, err)
}

// In a rollback journal a COMMIT waits for readers. It is not given up while there is time, and not applied if there
// is none.
func TestCommitWaitsForReaders(t *testing.T) {
	dsn := testdb.File(t, "_journal_mode=DELETE", "_busy_timeout=20000")
	pool := testdb.Open(t, dsn)
	pool.MustExec(playersSchema)
	pool.MustExec(ada)
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	for name, u := range updaters(db) {
		reader := testdb.Open(t, dsn).MustBegin()
		var p Player
		require.NoError(t, reader.Get(&p, `SELECT * FROM players`))
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond) // enough to come to COMMIT
		_, err := u.Update(ctx, 7, 1)
		cancel()
		assert.ErrorIs(t, err, raceproof.ErrLocked, name)
		assert.ErrorIs(t, err, context.DeadlineExceeded, name)
		ctx, cancel = context.WithTimeout(context.Background(), time.Minute)
		done := make(chan error)
		go func() {
			_, err := u.Update(ctx, 7, 1)
			done <- err
		}()
		require.NoError(t, reader.Rollback())
		require.NoError(t, <-done)
		cancel()
		wantPlayer(t, pool, Player{7, "Ada", 1, 1})
		pool.MustExec(`UPDATE players SET score = 0, version = 0`)
	}
	testdb.Idle(t, pool)
}

// With one connection in the pool, nothing wants a second one while it holds it.
func TestOneConnection(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	pool.SetMaxOpenConns(1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	byLock, all := lock.New(db, players, nil), updaters(db)
	_, err := byLock.Update(ctx, 7, func(ctx context.Context, p *Player) error {
		p.Name = "Bob"
		return db.Transact(ctx, func(ctx context.Context) error {
			_, err := db.Ext(ctx).ExecContext(ctx, `INSERT INTO players VALUES (8, 'Cid', 0, 0)`)
			for _, u := range all {
				_, failed := u.Update(ctx, 8, 1)
				err = errors.Join(err, failed)
			}
			return err
		})
	})
	require.NoError(t, err)
	wantPlayer(t, pool, Player{7, "Bob", 0, 1})
	wantPlayer(t, pool, Player{8, "Cid", 3, 3})
}

// A function that changes its own row behind the updater's back would lose that change: it is a conflict.
func TestFunctionChangesItsOwnRow(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	_, err := lock.New(db, players, nil).Update(context.Background(), 7, func(ctx context.Context, p *Player) error {
		p.Score++
		_, err := updaters(db)["atomic"].Update(ctx, 7, 10)
		return err
	})
	assert.ErrorIs(t, err, raceproof.ErrConflict)
	wantPlayer(t, pool, Player{7, "Ada", 0, 0})
}

// The writers' connection stays out of the pool from one update to the next, but not for long, and not if there is no
// other.
func TestKeptConnection(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	byLock := lock.New(db, players, nil)
	update := func() {
		t.Helper()
		_, err := byLock.Update(ctx, 7, award(1))
		require.NoError(t, err)
	}
	for update(); pool.Stats().InUse != 1; update() { // kept; on a machine that stalls it may be back already
		require.NoError(t, ctx.Err())
	}
	testdb.Idle(t, pool)

	pool.SetMaxOpenConns(2)
	update()
	one, err := pool.Connx(ctx)
	require.NoError(t, err)
	two, err := pool.Connx(ctx) // has to wait until the kept one is back
	require.NoError(t, err)
	require.NoError(t, two.Close())
	update()
	assert.Equal(t, 1, pool.Stats().InUse, "given back at once: there is no other left")
	require.NoError(t, one.Close())

	err = db.Transact(ctx, func(ctx context.Context) error {
		_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET name = 'Bob'`)
		return err
	})
	require.NoError(t, err)
	assert.Zero(t, pool.Stats().InUse, "given back at once: the caller may have left something open on it")

	update()
	require.NoError(t, pool.Close())
	_, err = byLock.Update(ctx, 7, award(1))
	assert.ErrorContains(t, err, "database is closed", "though the kept connection is still open")
	testdb.Idle(t, pool)
}

// A connection that is used all the time goes back now and then too, because the pool may have a limit on its age.
func TestKeptConnectionIsNotKeptForEver(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	pool.SetConnMaxLifetime(time.Millisecond)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	byLock := lock.New(db, players, nil)
	for pool.Stats().MaxLifetimeClosed < 2 {
		_, err := byLock.Update(ctx, 7, award(1))
		require.NoError(t, err)
	}
}

// After Close nothing is kept: the database's file is whole when the pool is closed, and later updates are refused.
func TestClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	pool := testdb.Open(t, "file:"+path+"?_journal_mode=WAL")
	pool.MustExec(playersSchema)
	pool.MustExec(ada)
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	all := updaters(db)
	_, err = all["lock"].Update(context.Background(), 7, 1)
	require.NoError(t, err)
	db.Close()
	db.Close()
	assert.Zero(t, pool.Stats().InUse)
	for name, u := range all {
		_, err := u.Update(context.Background(), 7, 1)
		assert.ErrorIs(t, err, raceproof.ErrClosed, name)
	}
	assert.ErrorIs(t, db.Transact(context.Background(), func(context.Context) error { return nil }), raceproof.ErrClosed)
	require.NoError(t, pool.Close())
	assert.NoFileExists(t, path+"-wal")
}
