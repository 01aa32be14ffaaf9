// Package sessions checks how the library uses connections to servers, and how it leaves them.
package sessions

import (
	"context"
	"errors"
	"net/url"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3" // one of that name must be there
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/tests/databases"
)

func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }

type player struct {
	ID      int64 `db:"id"`
	Score   int64 `db:"score"`
	Version int64 `db:"version"`
}

var players = raceproof.MustTable[player]("players")

// onServers calls f for each driver of a server.
func onServers(t *testing.T, f func(*testing.T, databases.Database)) {
	for _, d := range databases.All() {
		if d.Kind != "" {
			t.Run(d.Name, func(t *testing.T) { f(t, d) })
		}
	}
}

func open(t *testing.T, f *databases.Fresh, o databases.Options) (*sqlx.DB, *raceproof.DB) {
	t.Helper()
	pool := f.Open(o)
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return pool, db
}

func create(pool *sqlx.DB) {
	pool.MustExec(`CREATE TABLE players (id BIGINT PRIMARY KEY, score BIGINT NOT NULL, version BIGINT NOT NULL)`)
	pool.MustExec(`INSERT INTO players VALUES (7, 0, 0), (8, 0, 0)`)
}

func award(_ context.Context, p *player) error {
	p.Score += 10
	return nil
}

// updaters returns an update of player 7 for each pattern.
func updaters(db *raceproof.DB) map[string]func(context.Context) error {
	byLock, byVersion, inSQL := lock.New(db, players, nil), optimistic.New(db, players, nil), atomic.New(db, players, nil)
	return map[string]func(context.Context) error{
		"lock":       func(ctx context.Context) error { _, err := byLock.Update(ctx, 7, award); return err },
		"optimistic": func(ctx context.Context) error { _, err := byVersion.Update(ctx, 7, award); return err },
		"atomic": func(ctx context.Context) error {
			_, err := inSQL.Update(ctx, 7, atomic.Set("score", atomic.F("score").Add(10)))
			return err
		},
	}
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("not in 30 seconds: %s", what)
		}
	}
}

// A write is one round trip where it can be, and else a transaction; see the package documentation.
func TestStandsAlone(t *testing.T) {
	for _, name := range []string{"postgres/pgx", "postgres/pq"} {
		t.Run(name, func(t *testing.T) {
			f := databases.Named(name).Fresh(t)
			proxy := faultproxy.New(t, faultproxy.PostgreSQL, databases.Address(t, f.DSN(databases.Options{})))
			pool := f.Open(databases.Options{})
			create(pool)
			update := func(pattern string) (commits int) {
				through, db := open(t, f, databases.Options{Address: proxy.Addr()}) // a table is looked at once
				defer func() { _ = through.Close() }()
				before := proxy.Executed(faultproxy.Contains("COMMIT"))
				require.NoError(t, updaters(db)[pattern](context.Background()))
				return proxy.Executed(faultproxy.Contains("COMMIT")) - before
			}
			assert.Equal(t, 0, update("atomic"))
			assert.Equal(t, 0, update("optimistic"))
			assert.Equal(t, 1, update("lock"))
			for _, change := range []string{
				`ALTER TABLE players ALTER COLUMN score DROP NOT NULL`,
				`ALTER TABLE players ALTER COLUMN score SET NOT NULL, ALTER COLUMN score TYPE NUMERIC`,
				`ALTER TABLE players ALTER COLUMN score TYPE BIGINT, DROP CONSTRAINT players_pkey`,
				`ALTER TABLE players ADD PRIMARY KEY (id, score)`,
				`ALTER TABLE players DROP CONSTRAINT players_pkey, ADD UNIQUE (id) DEFERRABLE`,
			} {
				pool.MustExec(change)
				assert.Equal(t, 1, update("atomic"), change)
			}
			pool.MustExec(`ALTER TABLE players ADD UNIQUE (id)`)
			assert.Equal(t, 0, update("atomic"))
		})
	}
}

// The server itself gives up waiting when the caller has gone, and nothing comes of it afterwards.
func TestWaitsEndOnTheServer(t *testing.T) {
	onServers(t, func(t *testing.T, d databases.Database) {
		f := d.Fresh(t)
		pool, db := open(t, f, databases.Options{})
		create(pool)
		for pattern, update := range updaters(db) {
			t.Run(pattern, func(t *testing.T) {
				holder, err := pool.Beginx()
				require.NoError(t, err)
				defer func() { _ = holder.Rollback() }()
				_, err = holder.Exec(`UPDATE players SET score = score WHERE id = 7`)
				require.NoError(t, err)
				_, err = holder.Exec(`UPDATE players SET score = score + 1 WHERE id = 7`)
				require.NoError(t, err)
				locked := false
				for try := 0; try == 0 || d.Kind == servers.Postgres && !locked && try < 10; try++ {
					ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
					start := time.Now()
					err = update(ctx)
					cancel()
					assert.ErrorIs(t, err, context.DeadlineExceeded)
					assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
					assert.Less(t, time.Since(start), 2*time.Second)
					// On a machine that is too slow the statement can be cut off before the server gives up.
					locked = errors.Is(err, raceproof.ErrLocked)
				}
				assert.Equal(t, d.Kind == servers.Postgres, locked)
				until(t, "the server has given up the statement", func() bool { return waiting(t, pool, d) == 0 })
				require.NoError(t, holder.Rollback())
				var p player
				require.NoError(t, pool.Get(&p, `SELECT * FROM players WHERE id = 7`))
				assert.Equal(t, player{ID: 7}, p)
			})
		}
	})
}

// waiting returns how many statements wait for a lock.
func waiting(t *testing.T, pool *sqlx.DB, d databases.Database) (n int) {
	t.Helper()
	query := `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = current_schema`
	if d.Kind == servers.MariaDB {
		query = `SELECT count(*) FROM information_schema.processlist WHERE id <> connection_id() AND db = database() AND command <> 'Sleep'`
	}
	require.NoError(t, pool.Get(&n, query))
	return n
}

// A limit that the connections are set to stays in force, and is what ends the wait of a context that cannot end.
func TestOwnLimit(t *testing.T) {
	limits := map[servers.Kind]url.Values{
		servers.Postgres: {"lock_timeout": {"100"}},
		servers.MariaDB:  {"innodb_lock_wait_timeout": {"1"}},
	}
	onServers(t, func(t *testing.T, d databases.Database) {
		pool, db := open(t, d.Fresh(t), databases.Options{Parameters: limits[d.Kind]})
		create(pool)
		holder, err := pool.Beginx()
		require.NoError(t, err)
		defer func() { _ = holder.Rollback() }()
		_, err = holder.Exec(`UPDATE players SET score = score + 1 WHERE id = 7`)
		require.NoError(t, err)
		for pattern, update := range updaters(db) {
			if pattern == "optimistic" && d.Kind == servers.MariaDB {
				continue // waits as atomic does
			}
			err := update(context.Background())
			assert.ErrorIs(t, err, raceproof.ErrLocked, pattern)
			assert.NotErrorIs(t, err, raceproof.ErrConflict, pattern)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			start := time.Now()
			err = db.Transact(ctx, update, raceproof.Retry(raceproof.RetryPolicy{MaxAttempts: 1}))
			cancel()
			assert.ErrorIs(t, err, raceproof.ErrLocked, pattern)
			assert.Less(t, time.Since(start), 30*time.Second, "not the deadline but the limit has ended it")
		}
	})
}

// Connections go back to the pool as they were.
func TestSessionsAreLeftAsTheyWere(t *testing.T) {
	settings := map[servers.Kind]string{
		servers.Postgres: `SELECT current_setting('lock_timeout') || current_setting('transaction_isolation') || (now() = statement_timestamp())`,
		servers.MariaDB:  `SELECT CONCAT_WS(' ', @@innodb_lock_wait_timeout, @@lock_wait_timeout, @@tx_isolation, @@in_transaction)`,
	}
	onServers(t, func(t *testing.T, d databases.Database) {
		pool, db := open(t, d.Fresh(t), databases.Options{})
		pool.SetMaxOpenConns(1) // nothing is kept, so that the one is looked at
		create(pool)
		var before, after string
		require.NoError(t, pool.Get(&before, settings[d.Kind]))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for pattern, update := range updaters(db) {
			require.NoError(t, update(ctx), pattern)
			assert.Zero(t, pool.Stats().InUse, "the pool's last connection is not kept")
			require.NoError(t, db.Transact(ctx, update), pattern)
			require.NoError(t, pool.Get(&after, settings[d.Kind]))
			assert.Equal(t, before, after, pattern)
		}
	})
}

// After a server was started anew the pool is full of dead connections. A transaction begins on one that is not.
func TestDeadConnections(t *testing.T) {
	for _, name := range []string{"postgres/pgx", "postgres/pq", "mariadb/mysql"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := databases.Named(name)
			server := databases.Server(t, d.Kind)
			pool, db := open(t, d.At(server.DSN("")).Fresh(t), databases.Options{})
			create(pool)
			var idle []*sqlx.Conn
			for range databases.Connections {
				c, err := pool.Connx(context.Background())
				require.NoError(t, err)
				idle = append(idle, c)
			}
			for _, c := range idle {
				require.NoError(t, c.Close())
			}
			require.NoError(t, updaters(db)["lock"](context.Background()), "and one is kept where that is done")
			require.NoError(t, server.Kill())
			require.NoError(t, server.Restart())
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			for range 3 {
				require.NoError(t, updaters(db)["lock"](ctx))
			}
		})
	}
}

// Without strict mode the server would store something else than it was given.
func TestStrictMode(t *testing.T) {
	d := databases.Named("mariadb/mysql")
	f := d.Fresh(t)
	create(f.Open(databases.Options{}))
	for mode, works := range map[string]bool{"''": false, "'ANSI_QUOTES'": false, "'STRICT_ALL_TABLES'": true,
		"'TRADITIONAL,ANSI_QUOTES,NO_BACKSLASH_ESCAPES'": true, "'SIMULTANEOUS_ASSIGNMENT,STRICT_TRANS_TABLES'": true} {
		_, db := open(t, f, databases.Options{Parameters: url.Values{"sql_mode": {mode}}})
		for pattern, update := range updaters(db) {
			if err := update(context.Background()); works {
				assert.NoError(t, err, "%s %s", mode, pattern)
			} else {
				assert.ErrorContains(t, err, "sql_mode", "%s %s", mode, pattern)
			}
		}
	}
}
