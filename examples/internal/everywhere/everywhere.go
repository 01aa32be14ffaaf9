// Package everywhere runs a test of an example on every database that there is: SQLite, and the servers that the environment
// names.
package everywhere

import (
	"crypto/rand"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/servers"
)

// Run calls the test with the driver and the DSN of an empty database, on PostgreSQL of a schema, on each. A server that is
// not given is skipped, unless it is required.
func Run(t *testing.T, test func(t *testing.T, driver, dsn string)) {
	t.Run("sqlite", func(t *testing.T) {
		test(t, "sqlite3", "file:"+filepath.Join(t.TempDir(), "x.db")+"?_journal_mode=WAL&_synchronous=OFF")
	})
	OnServers(t, test)
}

// OnServers is Run without SQLite: for what takes locks of rows.
func OnServers(t *testing.T, test func(t *testing.T, driver, dsn string)) {
	t.Run("postgres", func(t *testing.T) {
		dsn := given(t, servers.Postgres)
		u, err := url.Parse(dsn)
		require.NoError(t, err)
		query, name := u.Query(), fresh(t, "pgx", dsn, "SCHEMA", " CASCADE")
		query.Set("search_path", name)
		query.Set("application_name", name)
		query.Set("deadlock_timeout", "20ms") // the default is a second
		u.RawQuery = query.Encode()
		test(t, "pgx", u.String())
	})
	t.Run("mariadb", func(t *testing.T) {
		dsn := given(t, servers.MariaDB)
		config, err := mysql.ParseDSN(dsn)
		require.NoError(t, err)
		config.DBName = fresh(t, "mysql", dsn, "DATABASE", "")
		test(t, "mysql", config.FormatDSN())
	})
}

// given returns the DSN of a server.
func given(t *testing.T, kind servers.Kind) string {
	dsn := os.Getenv(kind.Variable())
	if dsn == "" {
		required, err := servers.Required()
		require.NoError(t, err)
		require.False(t, slices.Contains(required, kind), "%s is required, and none is given", kind)
		t.Skip("no server is given: " + kind.Variable())
	}
	return dsn
}

// fresh makes a schema or a database until the test ends, and returns its name.
func fresh(t *testing.T, driver, dsn, what, cascade string) string {
	admin, err := sqlx.Connect(driver, dsn)
	require.NoError(t, err)
	name := "examples_" + strings.ToLower(rand.Text())
	_, err = admin.Exec("CREATE " + what + " " + name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec("DROP " + what + " " + name + cascade)
		assert.NoError(t, err)
		assert.NoError(t, admin.Close())
	})
	return name
}
