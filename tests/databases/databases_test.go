package databases_test

import (
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
)

func each(t *testing.T, do func(*testing.T, databases.Database)) {
	for _, d := range databases.All() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			do(t, d)
		})
	}
}

func TestList(t *testing.T) {
	var names []string
	for _, d := range databases.All() {
		names = append(names, d.Name)
		assert.Equal(t, d, databases.Named(d.Name))
		assert.True(t, strings.HasPrefix(d.Name, d.Dialect+"/"), d.Name)
	}
	assert.Equal(t, []string{"sqlite/mattn", "sqlite/modernc", "postgres/pgx", "postgres/pq", "mariadb/mysql"}, names)
	assert.Panics(t, func() { databases.Named("sqlite/ncruces") }) // is not in this binary
	assert.Panics(t, func() { databases.Named("mysql") })
}

// Every database is the test's own, and a second pool sees the same one.
func TestOpen(t *testing.T) {
	each(t, func(t *testing.T, d databases.Database) {
		one, other := d.Fresh(t), d.Fresh(t)
		for i, f := range []*databases.Fresh{one, other} {
			pool := f.Open(databases.Options{})
			_, err := pool.Exec(`CREATE TABLE things (n BIGINT)`)
			require.NoError(t, err)
			_, err = pool.Exec(pool.Rebind(`INSERT INTO things VALUES (?)`), i)
			require.NoError(t, err)
			var n []int
			require.NoError(t, f.Open(databases.Options{}).Select(&n, `SELECT n FROM things`))
			assert.Equal(t, []int{i}, n)
		}
	})
}

// show asks a connection for the level of a transaction that names none.
func show(t *testing.T, d databases.Database, conn *sqlx.Conn) (level string) {
	t.Helper()
	tx, err := conn.BeginTxx(t.Context(), nil)
	require.NoError(t, err)
	defer func() { _ = tx.Rollback() }()
	query := `SHOW transaction_isolation`
	if d.Kind == servers.MariaDB {
		query = `SELECT @@tx_isolation`
	}
	require.NoError(t, tx.Get(&level, query))
	return strings.ReplaceAll(strings.ToLower(level), "-", " ")
}

func TestIsolation(t *testing.T) {
	standard := map[servers.Kind]string{servers.Postgres: "read committed", servers.MariaDB: "repeatable read"}
	each(t, func(t *testing.T, d databases.Database) {
		require.Equal(t, "", d.Isolation[0])
		if d.Kind == "" {
			assert.Len(t, d.Isolation, 1)
			return
		}
		f := d.Fresh(t)
		for _, level := range append(d.Isolation, standard[d.Kind]) {
			pool := f.Open(databases.Options{Isolation: level})
			want := level
			if level == "" {
				want = standard[d.Kind]
			}
			for range databases.Connections { // each is held, so that the next is a new one
				conn, err := pool.Connx(t.Context())
				require.NoError(t, err)
				defer func() { assert.NoError(t, conn.Close()) }()
				assert.Equal(t, want, show(t, d, conn))
			}
			assert.Equal(t, databases.Connections, pool.Stats().InUse)
			assert.Equal(t, databases.Connections, pool.Stats().MaxOpenConnections)
		}
	})
}

// The level is in force, and not only shown: what a transaction reads twice changes under it, or does not.
func TestIsolationInForce(t *testing.T) {
	each(t, func(t *testing.T, d databases.Database) {
		f := d.Fresh(t)
		writer := f.Open(databases.Options{})
		_, err := writer.Exec(`CREATE TABLE things (n BIGINT)`)
		require.NoError(t, err)
		_, err = writer.Exec(`INSERT INTO things VALUES (1)`)
		require.NoError(t, err)
		for _, level := range d.Isolation {
			if level == "serializable" && d.Kind == servers.MariaDB {
				continue // there it makes readers hold the writer up, instead of showing them what was
			}
			_, err := writer.Exec(`UPDATE things SET n = 1`)
			require.NoError(t, err)
			tx, err := f.Open(databases.Options{Isolation: level}).BeginTxx(t.Context(), nil)
			require.NoError(t, err)
			defer func() { assert.NoError(t, tx.Rollback()) }()
			var before, after int
			require.NoError(t, tx.Get(&before, `SELECT n FROM things`))
			_, err = writer.Exec(`UPDATE things SET n = 2`)
			require.NoError(t, err)
			require.NoError(t, tx.Get(&after, `SELECT n FROM things`))
			moves := level == "read committed" || level == "" && d.Kind == servers.Postgres
			assert.Equal(t, moves, before != after, level)
		}
	})
}

func TestParameters(t *testing.T) {
	maria := databases.Named("mariadb/mysql").Fresh
	affected := func(parameters url.Values) int64 {
		pool := maria(t).Open(databases.Options{Parameters: parameters})
		_, err := pool.Exec(`CREATE TABLE things (n BIGINT)`)
		require.NoError(t, err)
		_, err = pool.Exec(`INSERT INTO things VALUES (1)`)
		require.NoError(t, err)
		result, err := pool.Exec(`UPDATE things SET n = 1`)
		require.NoError(t, err)
		n, err := result.RowsAffected()
		require.NoError(t, err)
		return n
	}
	assert.EqualValues(t, 0, affected(nil))
	assert.EqualValues(t, 1, affected(url.Values{"clientFoundRows": {"true"}}))
}

func TestParametersOfPostgres(t *testing.T) {
	for name, parameters := range map[string]url.Values{
		"postgres/pgx": {"default_query_exec_mode": {"simple_protocol"}, "application_name": {"a name"}},
		"postgres/pq":  {"binary_parameters": {"yes"}, "application_name": {"a name"}},
	} {
		var got string
		pool := databases.Named(name).Open(t, databases.Options{Parameters: parameters, Isolation: "serializable"})
		require.NoError(t, pool.Get(&got, `SHOW application_name`))
		assert.Equal(t, "a name", got)
	}
}

// Parameters replace ours of the same name.
func TestParametersOfSQLite(t *testing.T) {
	for name, parameters := range map[string]url.Values{
		"sqlite/mattn":   {"_journal_mode": {"DELETE"}},
		"sqlite/modernc": {"_pragma": {"journal_mode(delete)"}},
	} {
		for want, o := range map[string]databases.Options{"wal": {}, "delete": {Parameters: parameters}} {
			var got string
			require.NoError(t, databases.Named(name).Open(t, o).Get(&got, `PRAGMA journal_mode`))
			assert.Equal(t, want, got, name)
		}
	}
}

func TestAddress(t *testing.T) {
	each(t, func(t *testing.T, d databases.Database) {
		if d.Kind == "" {
			return // has none
		}
		f := d.Fresh(t)
		address, connections := proxy(t, target(t, f))
		pool := f.Open(databases.Options{Address: address})
		require.NoError(t, pool.Ping())
		assert.EqualValues(t, 1, connections.Load())
	})
}

// target returns host:port out of a DSN.
func target(t *testing.T, f *databases.Fresh) string {
	t.Helper()
	if f.Kind == servers.MariaDB {
		c, err := mysql.ParseDSN(f.DSN(databases.Options{}))
		require.NoError(t, err)
		return c.Addr
	}
	u, err := url.Parse(f.DSN(databases.Options{}))
	require.NoError(t, err)
	return u.Host
}

// proxy passes connections on, and counts them.
func proxy(t *testing.T, target string) (address string, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	connections = new(atomic.Int64)
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			out, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.Close()
			}
			go pass(in, out)
			go pass(out, in)
		}
	}()
	return l.Addr().String(), connections
}

// The database that a test had is gone after it.
func TestGone(t *testing.T) {
	for query, name := range map[string]string{
		`SELECT count(*) FROM pg_namespace WHERE nspname = current_schema`:                "postgres/pgx",
		`SELECT count(*) FROM information_schema.schemata WHERE schema_name = database()`: "mariadb/mysql",
	} {
		d := databases.Named(name)
		var n int
		var dsn string
		require.True(t, t.Run(name, func(t *testing.T) {
			f := d.Fresh(t)
			dsn = f.DSN(databases.Options{})
			require.NoError(t, f.Open(databases.Options{}).Get(&n, query))
			require.Equal(t, 1, n)
		}))
		pool, err := sqlx.Open(d.Driver, dsn)
		require.NoError(t, err)
		if err = pool.Get(&n, query); err == nil { // MariaDB refuses to connect, PostgreSQL looks in vain
			assert.Equal(t, 0, n)
		} else {
			assert.ErrorContains(t, err, "Unknown database")
		}
		assert.NoError(t, pool.Close())
	}
	_, err := os.Stat(databases.Named("sqlite/modernc").Fresh(t).DSN(databases.Options{}))
	assert.Error(t, err)
}
