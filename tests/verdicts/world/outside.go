package world

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
)

// As opens a pool as another user.
func (w *World) As(user, password string, o databases.Options) *sqlx.DB {
	w.TB.Helper()
	dsn := w.DSN(o)
	if w.Kind == servers.MariaDB {
		c, err := mysql.ParseDSN(dsn)
		require.NoError(w.TB, err)
		c.User, c.Passwd = user, password
		dsn = c.FormatDSN()
	} else {
		u, err := url.Parse(dsn)
		require.NoError(w.TB, err)
		u.User = url.UserPassword(user, password)
		dsn = u.String()
	}
	pool, err := sqlx.Open(w.Driver, dsn)
	require.NoError(w.TB, err)
	w.TB.Cleanup(func() { _ = pool.Close() })
	return pool
}

// Waiting waits until a statement in this database waits for a lock.
func (w *World) Waiting() {
	w.TB.Helper()
	w.WaitingAre(1)
}

// WaitingAre waits until so many statements in this database wait for locks.
func (w *World) WaitingAre(n int) {
	w.TB.Helper()
	Until(w.TB, "statements wait for locks", func() bool { return len(w.waiters()) >= n })
}

// waiters returns the numbers of the connections of this database whose statements wait for a lock.
func (w *World) waiters() (ids []int64) {
	w.TB.Helper()
	if w.Kind == servers.Postgres {
		require.NoError(w.TB, w.Look.Select(&ids,
			`SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND starts_with(application_name, current_schema)`))
		return ids
	}
	// information_schema.innodb_trx is a copy that is not renewed for those who ask often.
	var engine, name, status string
	require.NoError(w.TB, w.Look.QueryRow(`SHOW ENGINE INNODB STATUS`).Scan(&engine, &name, &status))
	var ours []int64
	require.NoError(w.TB, w.Look.Select(&ours, `SELECT id FROM information_schema.processlist WHERE db = database()`))
	for _, transaction := range strings.Split(status, "---TRANSACTION")[1:] {
		number := thread.FindStringSubmatch(transaction)
		if number == nil || !strings.Contains(transaction, "LOCK WAIT") {
			continue
		}
		id, err := strconv.ParseInt(number[1], 10, 64)
		require.NoError(w.TB, err)
		if slices.Contains(ours, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

var thread = regexp.MustCompile(`thread id (\d+)`)

// Hold changes rows in a transaction of somebody else's, which adds 100 to each score, and keeps it open until one of
// the functions is called.
func (w *World) Hold(ids ...int64) (commit, rollback func()) {
	w.TB.Helper()
	tx, err := w.Look.Beginx()
	require.NoError(w.TB, err)
	for _, id := range ids {
		_, err = tx.Exec(w.Look.Rebind(`UPDATE players SET score = score + 100, version = version + 1 WHERE id = ?`), id)
		require.NoError(w.TB, err)
	}
	return func() { require.NoError(w.TB, tx.Commit()) }, func() { require.NoError(w.TB, tx.Rollback()) }
}

// What the library sends.
var (
	IsBegin = func(text string) bool {
		return faultproxy.Prefix("BEGIN")(text) || faultproxy.Prefix("START TRANSACTION")(text)
	}
	IsCommit = func(text string) bool { return strings.Contains(text, "COMMIT") && !strings.Contains(text, "players") }
	IsWrite  = func(text string) bool {
		return strings.Contains(text, "UPDATE `players` SET") || strings.Contains(text, `UPDATE "players" SET`)
	}
	IsLock = func(text string) bool {
		return strings.HasSuffix(text, " FOR UPDATE") || strings.HasSuffix(text, " FOR NO KEY UPDATE")
	}
	IsAny = func(string) bool { return true }
)

// Sent counts the statements that match and that the library sends from now on.
func (w *World) Sent(match func(string) bool) (since func() int) {
	before := w.Proxy.Executed(match)
	return func() int { return w.Proxy.Executed(match) - before }
}

// Row returns the row as it is once nobody holds it.
func (w *World) Row(id int64) (p Player) {
	w.TB.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	query := fmt.Sprintf(`SELECT * FROM players WHERE id = %d`, id)
	if w.Kind != "" {
		query += " FOR UPDATE"
	}
	require.NoError(w.TB, w.Look.GetContext(ctx, &p, query))
	return p
}

// Unchanged fails the test unless both rows are as they were at first.
func (w *World) Unchanged(about ...any) {
	w.TB.Helper()
	assert.Equal(w.TB, Ada, w.Row(7), about...)
	assert.Equal(w.TB, Bob, w.Row(8), about...)
}

// Reset makes the rows what they were at first, once nobody holds them.
func (w *World) Reset() {
	w.TB.Helper()
	for _, p := range []Player{{ID: 8, Name: "reset"}, Ada, Bob} { // a name may have moved
		_, err := w.Look.Exec(w.Look.Rebind(`UPDATE players SET name = ?, score = ?, level = ?, version = ? WHERE id = ?`),
			p.Name, p.Score, p.Level, p.Version, p.ID)
		require.NoError(w.TB, err)
	}
}

// Idle waits until the library holds no connection of a pool.
func (w *World) Idle(pool *sqlx.DB) {
	w.TB.Helper()
	Until(w.TB, "no connection is in use", func() bool { return pool.Stats().InUse == 0 })
}

// Until waits for a condition.
func Until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			require.Fail(tb, "waited in vain: "+what)
		}
	}
}

// Stop stops the statements that wait for a lock in this database: by a statement that the number of a connection is
// added to.
func (w *World) Stop(statement string) {
	w.TB.Helper()
	ids := w.waiters()
	require.Len(w.TB, ids, 1)
	w.stop(statement, ids[0])
}

func (w *World) stop(statement string, id int64) {
	w.TB.Helper()
	_, err := w.Look.Exec(fmt.Sprintf("%s(%d)", statement, id))
	require.NoError(w.TB, err)
}

// Kill ends the connection of the context's transaction, and returns when the server has.
func (w *World) Kill(ctx context.Context, statement string) {
	w.TB.Helper()
	number, count := `SELECT pg_backend_pid()`, `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`
	if w.Kind == servers.MariaDB {
		number, count = `SELECT connection_id()`, `SELECT count(*) FROM information_schema.processlist WHERE id = ?`
	}
	var id int64
	require.NoError(w.TB, sqlx.GetContext(ctx, w.DB.Ext(ctx), &id, number))
	w.stop(statement, id)
	Until(w.TB, "the server has closed the connection", func() bool {
		var n int
		require.NoError(w.TB, w.Look.Get(&n, count, id))
		return n == 0
	})
}
