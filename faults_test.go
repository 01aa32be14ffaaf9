package raceproof_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"runtime"
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

// A connection that could not be put back into the state it was taken in is closed, and nobody gets it.
func TestConnectionThatCannotBeCleaned(t *testing.T) {
	injected := errors.New("an injected fault")
	for prefix, own := range map[string]error{
		"ROLLBACK":                     errors.New("the function's own error"),
		"PRAGMA busy_timeout = 4000":   nil,
		"COMMIT":                       injected,
		"BEGIN IMMEDIATE":              injected,
		"RELEASE SAVEPOINT raceproof_": injected,
	} {
		t.Run(prefix, func(t *testing.T) {
			dsn := testdb.File(t, "_busy_timeout=4000")
			pool, err := sqlx.Open(testdb.Faulty, dsn)
			require.NoError(t, err)
			defer func() { _ = pool.Close() }()
			pool.MustExec(playersSchema)
			pool.MustExec(ada)
			pool.SetMaxOpenConns(1) // so that it is not kept
			db, err := raceproof.New(pool, raceproof.WithDialect("sqlite"))
			require.NoError(t, err)
			undo := testdb.Fail(prefix, injected)
			_, err = lock.New(db, players, nil).Update(context.Background(), 7, func(ctx context.Context, p *Player) error {
				p.Score = 100
				_ = db.Transact(ctx, func(context.Context) error { return nil })
				if errors.Is(own, injected) {
					return nil
				}
				return own
			})
			undo()
			if own != nil {
				assert.ErrorIs(t, err, own)
			} else {
				require.NoError(t, err, "it was committed before the fault")
			}
			// Another process is not in the way of what was left, and finds nothing of it.
			outsider := testdb.Open(t, dsn+"&_busy_timeout=0")
			_, err = outsider.Exec(`UPDATE players SET name = 'Bob'`)
			require.NoError(t, err)
			assertWaitLimit(t, pool, 4000)
			_, err = lock.New(db, players, nil).Update(context.Background(), 7, award(1))
			require.NoError(t, err)
		})
	}
}

// A hostile value panics in the middle of database/sql.
type hostile struct{ text string }

func (h *hostile) Scan(value any) error {
	h.text, _ = value.(string)
	switch h.text {
	case "scan":
		panic("in Scan")
	case "exit":
		runtime.Goexit()
	}
	return nil
}

func (h hostile) Value() (driver.Value, error) {
	if h.text == "value" {
		panic("in Value")
	}
	return h.text, nil
}

// A caller's Scan and Value methods may panic. Nothing hangs, and nothing is changed.
func TestPanicsInsideDatabaseSQL(t *testing.T) {
	type row struct {
		ID   int64    `db:"id"`
		Name hostile  `db:"name"`
		Also *hostile `db:"also"`
		Rev  int64    `db:"rev,version"`
	}
	pool, db := testdb.SQLite(t, `CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT, also TEXT, rev INTEGER NOT NULL)`, `INSERT INTO things VALUES (1, 'x', NULL, 0)`)
	table := raceproof.MustTable[row]("things")
	byLock, byVersion, inSQL := lock.New(db, table, nil), optimistic.New(db, table, nil), atomic.New(db, table, nil)
	set := func(text string) raceproof.Func[row] {
		return func(_ context.Context, r *row) error { r.Name.text = text; return nil }
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for name, f := range map[string]func(context.Context) error{
		"lock, Scan":        func(ctx context.Context) error { _, err := byLock.Update(ctx, 1, set("scan")); return err },
		"lock, Value":       func(ctx context.Context) error { _, err := byLock.Update(ctx, 1, set("value")); return err },
		"optimistic, Scan":  func(ctx context.Context) error { _, err := byVersion.Update(ctx, 1, set("scan")); return err },
		"optimistic, Value": func(ctx context.Context) error { _, err := byVersion.Update(ctx, 1, set("value")); return err },
		"a pointer, Scan": func(ctx context.Context) error {
			_, err := byLock.Update(ctx, 1, func(_ context.Context, r *row) error { r.Also = &hostile{"scan"}; return nil })
			return err
		},
		"a pointer in atomic, Scan": func(ctx context.Context) error {
			_, err := inSQL.Update(ctx, 1, atomic.Set("also", "scan"))
			return err
		},
		"a pointer to a pointer, Value": func(ctx context.Context) error {
			value := &hostile{"value"}
			return db.Transact(ctx, func(ctx context.Context) error {
				_, err := db.Ext(ctx).QueryContext(ctx, `SELECT ?`, &value)
				return err
			})
		},
		"atomic, Scan": func(ctx context.Context) error {
			_, err := inSQL.Update(ctx, 1, atomic.Set("name", "scan"))
			return err
		},
		"atomic, Value": func(ctx context.Context) error {
			_, err := inSQL.Update(ctx, 1, atomic.Set("name", hostile{"value"}))
			return err
		},
		"a caller's query": func(ctx context.Context) error {
			return db.Transact(ctx, func(ctx context.Context) error {
				_, err := db.Ext(ctx).QueryContext(ctx, `UPDATE things SET name = ? RETURNING id`, hostile{"value"})
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, in := range []bool{false, true} {
				assert.Panics(t, func() {
					if in {
						_ = db.Transact(ctx, f)
					} else {
						_ = f(ctx)
					}
				})
				var got string
				require.NoError(t, pool.Get(&got, `SELECT name FROM things WHERE rev = 0`))
				assert.Equal(t, "x", got)
				testdb.Idle(t, pool)
			}
		})
	}
	for name, f := range map[string]func(context.Context) error{
		"lock":       func(ctx context.Context) error { _, err := byLock.Update(ctx, 1, set("exit")); return err },
		"optimistic": func(ctx context.Context) error { _, err := byVersion.Update(ctx, 1, set("exit")); return err },
		"atomic": func(ctx context.Context) error {
			_, err := inSQL.Update(ctx, 1, atomic.Set("name", "exit"))
			return err
		},
	} {
		for _, in := range []bool{false, true} {
			var exited sync.WaitGroup
			exited.Add(1)
			go func() {
				defer exited.Done()
				if in {
					_ = db.Transact(ctx, f)
				} else {
					_ = f(ctx)
				}
				t.Errorf("%s returned although its goroutine has ended", name)
			}()
			exited.Wait()
			var got string
			require.NoError(t, pool.Get(&got, `SELECT name FROM things WHERE rev = 0`), name)
			assert.Equal(t, "x", got)
			testdb.Idle(t, pool)
		}
	}
	got, err := byLock.Update(ctx, 1, func(_ context.Context, r *row) error { r.Also = &hostile{"also"}; return nil })
	require.NoError(t, err)
	assert.Equal(t, row{1, hostile{"x"}, &hostile{"also"}, 1}, got)
	got, err = inSQL.Update(ctx, 1, atomic.Set("also", nil))
	require.NoError(t, err)
	assert.Equal(t, row{1, hostile{"x"}, nil, 2}, got)
}

// A caller whose own rows can never be closed, because his Scan method has panicked inside database/sql, takes one
// connection with him, and not the service.
func TestRowsThatCannotBeClosed(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, `INSERT INTO players VALUES (7, 'scan', 0, 0)`)
	assert.Panics(t, func() {
		_ = db.Transact(context.Background(), func(ctx context.Context) error {
			_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 100`)
			require.NoError(t, err)
			rows, err := db.Ext(ctx).QueryContext(ctx, `SELECT name FROM players`)
			require.NoError(t, err)
			rows.Next()
			return rows.Scan(&hostile{})
		})
	})
	wantPlayer(t, pool, Player{7, "scan", 0, 0})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	_, err := lock.New(db, players, nil).Update(ctx, 7, award(1))
	require.NoError(t, err)
}

// A Value method may use the transaction that its value is for.
func TestValueUsesTransaction(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	err := db.Transact(context.Background(), func(ctx context.Context) error {
		_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET name = ?`, lookup{ctx, db})
		return err
	})
	require.NoError(t, err)
	wantPlayer(t, pool, Player{7, "Ada", 0, 0})
}

type lookup struct {
	ctx context.Context
	db  *raceproof.DB
}

func (l lookup) Value() (driver.Value, error) {
	var name string
	err := sqlx.GetContext(l.ctx, l.db.Ext(l.ctx), &name, `SELECT name FROM players`)
	return name, err
}

// A connection that its driver calls bad is not kept for the next update.
func TestBadConnection(t *testing.T) {
	pool, err := sqlx.Open(testdb.Faulty, testdb.File(t))
	require.NoError(t, err)
	defer func() { _ = pool.Close() }()
	pool.MustExec(playersSchema)
	pool.MustExec(ada)
	db, err := raceproof.New(pool, raceproof.WithDialect("sqlite"))
	require.NoError(t, err)
	for prefix, u := range map[string]raceproof.Updater[Player, int]{
		"BEGIN IMMEDIATE": updaters(db)["lock"],
		"UPDATE":          updaters(db)["atomic"],
	} {
		_, err = u.Update(context.Background(), 7, 1)
		require.NoError(t, err)
		undo := testdb.Fail(prefix, driver.ErrBadConn)
		_, err = u.Update(context.Background(), 7, 100)
		undo()
		assert.Error(t, err)
		_, err = u.Update(context.Background(), 7, 1)
		require.NoError(t, err, "%s: the next one has a connection of its own", prefix)
	}
	wantPlayer(t, pool, Player{7, "Ada", 4, 4})
}

// The same instant, read twice, is the same, in whatever zone.
func TestTimesThatAreReadTwice(t *testing.T) {
	type event struct {
		ID   int64     `db:"id"`
		At   time.Time `db:"at"`
		Name string    `db:"name"`
	}
	_, db := testdb.SQLite(t, `CREATE TABLE events (id INTEGER PRIMARY KEY, at TIMESTAMP, name TEXT)`,
		`INSERT INTO events VALUES (1, '2024-01-01 10:00:00+05:30', 'x')`)
	got, err := lock.New(db, raceproof.MustTable[event]("events"), nil).Update(context.Background(), 1, func(ctx context.Context, e *event) error {
		e.Name = "y"
		_, err := db.Ext(ctx).ExecContext(ctx, `INSERT INTO events VALUES (2, NULL, NULL)`)
		return err
	})
	require.NoError(t, err)
	assert.Equal(t, "y", got.Name)
}

// What a caller's statements can do to a transaction is noticed before anything else is sent in it.
func TestTransactionThatIsGone(t *testing.T) {
	for name, lose := range map[string]func(context.Context, *raceproof.DB, sqlx.ExtContext){
		"the caller's own ROLLBACK": func(ctx context.Context, _ *raceproof.DB, e sqlx.ExtContext) {
			_, err := e.ExecContext(ctx, `/* hidden */ ROLLBACK`)
			require.NoError(t, err)
		},
		"the caller's own COMMIT, which is not sent": func(ctx context.Context, _ *raceproof.DB, e sqlx.ExtContext) {
			for _, text := range []string{`COMMIT AND CHAIN`, ` commit`, `BEGIN`, `END;`, `ROLLBACK`, `START TRANSACTION`} {
				_, err := e.ExecContext(ctx, text)
				require.ErrorIs(t, err, raceproof.ErrFinished)
			}
			_, err := e.QueryContext(ctx, `COMMIT`)
			require.ErrorIs(t, err, raceproof.ErrFinished)
		},
		"a write interrupted while its rows are read": func(ctx context.Context, _ *raceproof.DB, e sqlx.ExtContext) {
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			rows, err := e.QueryContext(short, `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)
				UPDATE players SET score = (SELECT max(i) FROM n) RETURNING score`)
			if err == nil { // the error is that of the rows, which this library does not see
				for rows.Next() {
				}
				require.Error(t, rows.Err())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			pool, db := testdb.SQLite(t, playersSchema, ada)
			all := updaters(db)
			err := db.Transact(context.Background(), func(ctx context.Context) error {
				_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 50`)
				require.NoError(t, err)
				lose(ctx, db, db.Ext(ctx))
				for pattern, u := range all {
					_, err := u.Update(ctx, 7, 1)
					assert.ErrorIs(t, err, raceproof.ErrFinished, pattern)
				}
				_, err = db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 60`)
				assert.ErrorIs(t, err, raceproof.ErrFinished)
				return nil
			})
			assert.ErrorIs(t, err, raceproof.ErrFinished)
			wantPlayer(t, pool, Player{7, "Ada", 0, 0})
			testdb.Idle(t, pool)
		})
	}
}

// Rows that a caller left open do not hold the connection, whatever context they were asked for with, and do not keep
// the transaction from being committed.
func TestRowsLeftOpen(t *testing.T) {
	for name, own := range map[string]error{"committed": nil, "rolled back": errors.New("the function's own error")} {
		for _, query := range []string{`SELECT * FROM players`, `UPDATE players SET score = 5 RETURNING id`} {
			t.Run(name+" "+query, func(t *testing.T) {
				pool := testdb.Open(t, testdb.File(t, "_busy_timeout=0"))
				pool.MustExec(playersSchema)
				pool.MustExec(`INSERT INTO players VALUES (7, 'Ada', 0, 0), (8, 'Bob', 0, 0)`)
				db, err := raceproof.New(pool)
				require.NoError(t, err)
				err = db.Transact(context.Background(), func(ctx context.Context) error {
					for _, own := range []error{nil, errors.New("the inner one's own error")} {
						assert.Equal(t, own, db.Transact(ctx, func(ctx context.Context) error {
							_, err := db.Ext(ctx).QueryContext(ctx, query)
							require.NoError(t, err)
							return own
						}))
					}
					_, err := db.Ext(ctx).QueryContext(context.Background(), query)
					require.NoError(t, err)
					require.NoError(t, db.Ext(ctx).QueryRowxContext(ctx, `SELECT 1`).Err())
					rows, err := db.Ext(ctx).QueryContext(ctx, query)
					require.NoError(t, err)
					require.True(t, rows.Next())
					return own
				})
				assert.Equal(t, own, err)
				testdb.Idle(t, pool)
				_, err = lock.New(db, players, nil).Update(context.Background(), 7, award(1))
				require.NoError(t, err)
			})
		}
	}
}

// A context that a caller has kept from a level that is over, or that has another one open inside, sends nothing.
func TestLevelsOfATransaction(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	refuses := func(ctx context.Context, want string) {
		t.Helper()
		for name, u := range updaters(db) {
			_, err := u.Update(ctx, 7, 100)
			assert.ErrorContains(t, err, want, name)
		}
		_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 100`)
		assert.ErrorContains(t, err, want)
		_, err = db.Ext(ctx).QueryContext(ctx, `UPDATE players SET score = 100`)
		assert.ErrorContains(t, err, want)
	}
	const finished, nested = "the transaction of this context is over", "has a nested one open"
	err := db.Transact(context.Background(), func(outer context.Context) error {
		var kept []context.Context
		for _, own := range []error{nil, errors.New("the inner one's own error")} {
			err := db.Transact(outer, func(inner context.Context) error {
				kept = append(kept, inner)
				refuses(outer, nested)
				return own
			})
			assert.Equal(t, own, err)
		}
		for _, ctx := range kept {
			refuses(ctx, finished)
		}
		return db.Transact(outer, func(context.Context) error {
			for _, ctx := range kept {
				refuses(ctx, finished)
			}
			return nil
		})
	})
	require.NoError(t, err)
	wantPlayer(t, pool, Player{7, "Ada", 0, 0})
}

// A lock without a version finds out as well that its function has changed the row by itself.
func TestFunctionChangesItsOwnRowWithoutVersion(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	type row struct {
		ID    int64  `db:"id"`
		Name  string `db:"name"`
		Score int64  `db:"score"`
	}
	table := raceproof.MustTable[row]("players", raceproof.WithoutVersion())
	inSQL := atomic.New(db, table, nil)
	for name, other := range map[string]func(context.Context) error{
		"an updater": func(ctx context.Context) error {
			_, err := inSQL.Update(ctx, 7, atomic.Set("score", 10))
			return err
		},
		"a statement": func(ctx context.Context) error {
			_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 10`)
			return err
		},
		"gone": func(ctx context.Context) error {
			_, err := db.Ext(ctx).ExecContext(ctx, `DELETE FROM players`)
			return err
		},
	} {
		_, err := lock.New(db, table, nil).Update(context.Background(), 7, func(ctx context.Context, r *row) error {
			r.Score++
			return other(ctx)
		})
		assert.ErrorIs(t, err, raceproof.ErrConflict, name)
		wantPlayer(t, pool, Player{7, "Ada", 0, 0})
	}
	_, err := lock.New(db, table, nil).Update(context.Background(), 7, func(ctx context.Context, r *row) error {
		r.Score++
		_, err := db.Ext(ctx).ExecContext(ctx, `INSERT INTO players VALUES (8, 'Bob', 0, 0)`)
		return err
	})
	require.NoError(t, err)
}

// The buffer of a key may be used again while the update runs.
func TestKeyIsCopied(t *testing.T) {
	type blob struct {
		ID    []byte `db:"id"`
		Score int64  `db:"score"`
		Rev   int64  `db:"rev,version"`
	}
	pool, db := testdb.SQLite(t, `CREATE TABLE blobs (id BLOB PRIMARY KEY, score INTEGER NOT NULL, rev INTEGER NOT NULL)`,
		`INSERT INTO blobs VALUES (x'61', 1, 0), (x'62', 50, 0)`)
	key := []byte("a")
	got, err := lock.New(db, raceproof.MustTable[blob]("blobs"), nil).Update(context.Background(), key, func(_ context.Context, b *blob) error {
		key[0] = 'b'
		b.Score++
		return nil
	})
	require.NoError(t, err)
	assert.Equal(t, blob{[]byte("a"), 2, 1}, got)
	var other int
	require.NoError(t, pool.Get(&other, `SELECT score FROM blobs WHERE id = x'62'`))
	assert.Equal(t, 50, other)
}

// Keys that SQLite would compare otherwise than the caller thinks are refused.
func TestKeysOfOtherTypes(t *testing.T) {
	type event struct {
		At   time.Time `db:"at,key"`
		Name string    `db:"name"`
	}
	_, db := testdb.SQLite(t, `CREATE TABLE events (at TIMESTAMP PRIMARY KEY, name TEXT)`)
	u := atomic.New(db, raceproof.MustTable[event]("events"), nil)
	_, err := u.Update(context.Background(), time.Now(), atomic.Set("name", "x"))
	assert.ErrorContains(t, err, "compares times as texts")
	_, err = u.Update(context.Background(), "now", atomic.Set("name", "x"))
	assert.ErrorContains(t, err, "and the key of type string")
}

// The cause of a context is told also if it ends while waiting for a connection.
func TestCauseWhileWaitingForAConnection(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	pool.SetMaxOpenConns(1)
	conn, err := pool.Connx(context.Background())
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	gone := errors.New("the caller has gone")
	for name, u := range updaters(db) {
		ctx, cancel := context.WithTimeoutCause(context.Background(), 20*time.Millisecond, gone)
		_, err := u.Update(ctx, 7, 1)
		cancel()
		assert.ErrorIs(t, err, context.DeadlineExceeded, name)
		assert.ErrorIs(t, err, gone, name)
	}
}

// What AFTER triggers do is seen in a transaction, by every pattern; outside of one RETURNING does not see it.
func TestTriggers(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada, `CREATE TRIGGER loud AFTER UPDATE OF score ON players
		BEGIN UPDATE players SET name = upper(new.name) WHERE id = new.id; END`)
	for name, u := range updaters(db) {
		pool.MustExec(`UPDATE players SET name = 'Ada'`)
		err := db.Transact(context.Background(), func(ctx context.Context) error {
			p, err := u.Update(ctx, 7, 1)
			assert.Equal(t, "ADA", p.Name, name)
			return err
		})
		require.NoError(t, err)
	}
	p, err := updaters(db)["lock"].Update(context.Background(), 7, 1)
	require.NoError(t, err)
	assert.Equal(t, Player{7, "ADA", 4, 4}, p)
}

// A trigger that deletes the row, or a view whose triggers write elsewhere, cannot make an error of what was applied.
func TestTriggersThatTakeTheRow(t *testing.T) {
	for name, schema := range map[string][]string{
		"deletes": {playersSchema, ada, `CREATE TRIGGER gone AFTER UPDATE ON players BEGIN DELETE FROM players; END`},
		"a view": {`CREATE TABLE real_players (id INTEGER PRIMARY KEY, name TEXT, score INTEGER, version INTEGER)`,
			`INSERT INTO real_players VALUES (7, 'Ada', 0, 0)`, `CREATE VIEW players AS SELECT * FROM real_players`,
			`CREATE TRIGGER instead INSTEAD OF UPDATE ON players BEGIN
				UPDATE real_players SET score = new.score, version = new.version WHERE id = old.id; END`},
	} {
		pool, db := testdb.SQLite(t, schema...)
		for pattern, u := range updaters(db) {
			err := db.Transact(context.Background(), func(ctx context.Context) error {
				_, err := u.Update(ctx, 7, 1)
				assert.Error(t, err, "%s: %s", name, pattern)
				if name == "deletes" {
					assert.ErrorContains(t, err, "a trigger has deleted it", pattern)
				}
				return nil
			})
			require.NoError(t, err)
			wantPlayer(t, pool, Player{7, "Ada", 0, 0})
		}
	}
}

// Of many single rows that a caller asks for and does not scan, none holds the connection for longer than the
// transaction.
func TestSingleRowsLeftOpen(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	pool.SetMaxOpenConns(2)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, query := range []string{`SELECT * FROM players`, `UPDATE players SET score = 0 RETURNING score`} {
		err := db.Transact(ctx, func(ctx context.Context) error {
			for range 100 {
				require.NoError(t, db.Ext(ctx).QueryRowxContext(ctx, query).Err())
				var n int
				require.NoError(t, sqlx.GetContext(ctx, db.Ext(ctx), &n, `SELECT score FROM players`))
			}
			return nil
		})
		require.NoError(t, err)
		testdb.Idle(t, pool)
	}
}
