package sessions

import (
	"context"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/tests/databases"
)

// Rows that a function leaves open are closed when it has returned, and nothing waits for them.
func TestRowsLeftOpen(t *testing.T) {
	onServers(t, func(t *testing.T, d databases.Database) {
		pool, db := open(t, d.Fresh(t), databases.Options{})
		create(pool)
		for name, leave := range map[string]func(context.Context) error{
			"a row that is not scanned": func(ctx context.Context) error {
				return db.Ext(ctx).QueryRowxContext(ctx, `SELECT * FROM players`).Err()
			},
			"rows that are not read": func(ctx context.Context) error {
				rows, err := db.Ext(ctx).QueryContext(ctx, `SELECT * FROM players`)
				if err == nil {
					rows.Next()
				}
				return err
			},
			"and before them a statement of another kind": func(ctx context.Context) error {
				if _, err := db.Ext(ctx).ExecContext(ctx, `SET @x = 1`); err != nil && d.Dialect != "postgres" {
					return err
				}
				rows, err := db.Ext(ctx).QueryContext(ctx, `SELECT * FROM players`)
				if err == nil {
					rows.Next()
				}
				return err
			},
		} {
			if d.Dialect == "postgres" && name == "and before them a statement of another kind" {
				leave = func(ctx context.Context) error {
					if _, err := db.Ext(ctx).ExecContext(ctx, `SET LOCAL work_mem = '5MB'`); err != nil {
						return err
					}
					rows, err := db.Ext(ctx).QueryContext(ctx, `SELECT * FROM players`)
					if err == nil {
						rows.Next()
					}
					return err
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			require.NoError(t, db.Transact(ctx, leave), name)
			require.NoError(t, db.Transact(ctx, func(ctx context.Context) error { return db.Transact(ctx, leave) }), name)
			_, err := lock.New(db, players, nil).Update(ctx, 7, func(ctx context.Context, p *player) error {
				p.Score += 10
				return leave(ctx)
			})
			require.NoError(t, err, name)
			cancel()
		}
		until(t, "all connections are given back", func() bool {
			db.Close()
			return pool.Stats().InUse == 0
		})
	})
}

// While rows are read nothing else can be sent: that is an error at once, and leaves the transaction as it was.
func TestStatementsBetweenRows(t *testing.T) {
	onServers(t, func(t *testing.T, d databases.Database) {
		pool, db := open(t, d.Fresh(t), databases.Options{})
		create(pool)
		byLock := lock.New(db, players, nil)
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		require.NoError(t, db.Transact(ctx, func(ctx context.Context) error {
			rows, err := db.Ext(ctx).QueryContext(ctx, `SELECT id FROM players ORDER BY id`)
			require.NoError(t, err)
			var ids []int64
			for rows.Next() {
				var id int64
				require.NoError(t, rows.Scan(&id))
				_, err := byLock.Update(ctx, id, award)
				assert.ErrorContains(t, err, "rows of an earlier query are still open")
				ids = append(ids, id)
			}
			require.NoError(t, rows.Err())
			for _, id := range ids {
				if _, err := byLock.Update(ctx, id, award); err != nil {
					return err
				}
			}
			return nil
		}))
		var sum int
		require.NoError(t, pool.Get(&sum, `SELECT sum(score) FROM players`))
		assert.Equal(t, 20, sum)
	})
}

// A nested transaction with an earlier deadline gives up by then, and the one around it goes on, and waits as before.
func TestNestedDeadline(t *testing.T) {
	d := databases.Named("postgres/pgx")
	pool, db := open(t, d.Fresh(t), databases.Options{})
	create(pool)
	holder, err := pool.Beginx()
	require.NoError(t, err)
	defer func() { _ = holder.Rollback() }()
	_, err = holder.Exec(`UPDATE players SET score = 1 WHERE id = 7`)
	require.NoError(t, err)
	byLock := lock.New(db, players, nil)
	outer, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	require.NoError(t, db.Transact(outer, func(ctx context.Context) error {
		longAgain := func() {
			t.Helper()
			var limit string
			require.NoError(t, db.Ext(ctx).QueryRowxContext(ctx, `SELECT current_setting('lock_timeout')`).Scan(&limit))
			left, err := time.ParseDuration(limit)
			require.NoError(t, err)
			assert.Greater(t, left, 50*time.Minute, "what is left of the hour")
		}
		longAgain()
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err := byLock.Update(short, 7, award)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.ErrorIs(t, err, raceproof.ErrLocked)
		longAgain()
		short, cancel = context.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, err = byLock.Update(short, 8, award)
		longAgain()
		return err
	}))
	var score int
	require.NoError(t, pool.Get(&score, `SELECT score FROM players WHERE id = 8`))
	assert.Equal(t, 10, score)
}

// What a connection is set to can make the server do something else than it is asked for.
func TestSettingsThatAreRefused(t *testing.T) {
	d := databases.Named("mariadb/mysql")
	f := d.Fresh(t)
	create(f.Open(databases.Options{}))
	for name, parameters := range map[string]url.Values{
		"autocommit":       {"autocommit": {"0"}},
		"completion_type":  {"completion_type": {"1"}},
		"READ UNCOMMITTED": {"tx_isolation": {"'READ-UNCOMMITTED'"}},
	} {
		_, db := open(t, f, databases.Options{Parameters: parameters})
		for pattern, update := range updaters(db) {
			assert.ErrorContains(t, update(context.Background()), name, pattern)
		}
	}
}

// hostile panics in the middle of database/sql.
type hostile struct{}

func (hostile) Scan(any) error { panic("in Scan") }

// A caller's Scan method that panics in his own query costs one connection; nothing waits for it, and no lock stays.
func TestPanicInRows(t *testing.T) {
	onServers(t, func(t *testing.T, d databases.Database) {
		pool, db := open(t, d.Fresh(t), databases.Options{})
		create(pool)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		start := time.Now()
		assert.PanicsWithValue(t, "in Scan", func() {
			_ = db.Transact(ctx, func(ctx context.Context) error {
				_, err := lock.New(db, players, nil).Update(ctx, 7, award)
				require.NoError(t, err)
				rows, err := db.Ext(ctx).QueryContext(ctx, `SELECT id FROM players`)
				require.NoError(t, err)
				rows.Next()
				return rows.Scan(&hostile{})
			})
		})
		assert.Less(t, time.Since(start), 20*time.Second)
		got, err := lock.New(db, players, nil).Update(ctx, 7, award)
		require.NoError(t, err)
		assert.Equal(t, int64(10), got.Score)
	})
}

// Rows that cannot be closed keep COMMIT from being sent. That is no COMMIT whose answer is lost.
func TestPanicInRowsRecovered(t *testing.T) {
	onServers(t, func(t *testing.T, d databases.Database) {
		pool, db := open(t, d.Fresh(t), databases.Options{})
		create(pool)
		err := db.Transact(context.Background(), func(ctx context.Context) error {
			_, err := lock.New(db, players, nil).Update(ctx, 7, award)
			require.NoError(t, err)
			rows, err := db.Ext(ctx).QueryContext(ctx, `SELECT id FROM players`)
			require.NoError(t, err)
			rows.Next()
			assert.Panics(t, func() { _ = rows.Scan(&hostile{}) })
			return nil
		})
		assert.ErrorIs(t, err, raceproof.ErrFinished)
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
		var score int
		require.NoError(t, pool.Get(&score, `SELECT score FROM players WHERE id = 7`))
		assert.Zero(t, score)
	})
}

// quiet tells no deadline, as a context made of two others may, and ends at one all the same.
type quiet struct{ context.Context }

func (quiet) Deadline() (time.Time, bool) { return time.Time{}, false }

func TestDeadlineThatIsNotTold(t *testing.T) {
	onServers(t, func(t *testing.T, d databases.Database) {
		pool, db := open(t, d.Fresh(t), databases.Options{})
		create(pool)
		holder, err := pool.Beginx()
		require.NoError(t, err)
		defer func() { _ = holder.Rollback() }()
		_, err = holder.Exec(`UPDATE players SET score = score + 1 WHERE id = 7`)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		start := time.Now()
		_, err = lock.New(db, players, nil).Update(quiet{ctx}, 7, award)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		assert.Less(t, time.Since(start), 5*time.Second)
	})
}

// A read finds a connection that lives, also if the server has said goodbye on the one that waited.
func TestReadsAfterGoodbye(t *testing.T) {
	for _, name := range []string{"postgres/pgx", "postgres/pq"} {
		f := databases.Named(name).Fresh(t)
		pool, db := open(t, f, databases.Options{})
		admin := f.Open(databases.Options{})
		create(pool)
		byVersion := optimistic.New(db, players, nil)
		for range 5 {
			_, err := byVersion.Update(context.Background(), 7, func(context.Context, *player) error { return nil })
			require.NoError(t, err, name)
			var pid int
			require.NoError(t, pool.Get(&pid, `SELECT pg_backend_pid()`))
			admin.MustExec(`SELECT pg_terminate_backend($1)`, pid)
			until(t, "it is gone", func() bool {
				var n int
				require.NoError(t, admin.Get(&n, `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid))
				return n == 0
			})
		}
	}
}
