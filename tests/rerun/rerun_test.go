// Package rerun makes the checks of internal/rerun with the newest drivers.
package rerun

import (
	"net"
	"os"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	_ "github.com/mattn/go-sqlite3" // one of that name must be there
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/rerun"
	"github.com/raceproof/raceproof/tests/databases"
)

func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }

// If a pool no longer executes these writes twice, pgx has been mended, and this is the place to say since when.
func TestPgx(t *testing.T) {
	d := pgxDriver(postgres(t, "postgres/pgx"))
	d.Twice = func(w rerun.Write) bool { return w.Mode == "simple_protocol" || !w.Query && !w.Arguments }
	rerun.Check(t, d)
}

func TestPq(t *testing.T) { rerun.Check(t, pqDriver(postgres(t, "postgres/pq"))) }

// The driver returns driver.ErrBadConn only if it has sent nothing, and ErrInvalidConn if an answer was lost.
func TestMySQL(t *testing.T) { rerun.Check(t, mysqlDriver(t)) }

// The updaters of this module send each write once, whatever becomes of its answer, and say what became of the write.
func TestPgxUpdaters(t *testing.T) {
	rerun.CheckUpdaters(t, pgxDriver(postgres(t, "postgres/pgx")), rerun.Patterns()...)
}
func TestPqUpdaters(t *testing.T) {
	rerun.CheckUpdaters(t, pqDriver(postgres(t, "postgres/pq")), rerun.Patterns()...)
}
func TestMySQLUpdaters(t *testing.T) { rerun.CheckUpdaters(t, mysqlDriver(t), rerun.Patterns()...) }

// postgres returns how to connect to a PostgreSQL server.
func postgres(t *testing.T, driver string) *pgx.ConnConfig {
	config, err := pgx.ParseConfig(databases.DSN(t, databases.Named(driver)))
	require.NoError(t, err)
	config.TLSConfig, config.Fallbacks = nil, nil
	return config
}

func address(config *pgx.ConnConfig) string {
	return net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
}
