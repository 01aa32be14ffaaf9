// Package pgx58 makes with pgx 5.8.0 the checks that the module around it makes with the newest one. 5.8.0 is the last
// version with which a pool does not execute a write again whose answer was lost.
package pgx58

import (
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/rerun"
	"github.com/raceproof/raceproof/internal/servers"
)

func TestRerun(t *testing.T) { rerun.Check(t, driver(t)) }

func TestUpdaters(t *testing.T) { rerun.CheckUpdaters(t, driver(t), rerun.Patterns()...) }

func driver(t *testing.T) rerun.Driver {
	config, err := pgx.ParseConfig(postgres(t))
	require.NoError(t, err)
	config.TLSConfig, config.Fallbacks = nil, nil
	return rerun.Driver{
		Protocol: faultproxy.PostgreSQL,
		Server:   net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port))),
		Modes:    []string{"cache_statement", "exec", "simple_protocol"},
		Open: func(addr, mode string) (*sqlx.DB, error) {
			at, err := net.ResolveTCPAddr("tcp", addr)
			if err != nil {
				return nil, err
			}
			modal, err := pgx.ParseConfig("default_query_exec_mode=" + mode)
			if err != nil {
				return nil, err
			}
			c := config.Copy()
			c.Host, c.Port, c.DefaultQueryExecMode = at.IP.String(), uint16(at.Port), modal.DefaultQueryExecMode
			return sqlx.NewDb(stdlib.OpenDB(*c), "pgx"), nil
		},
	}
}

// postgres returns the DSN of a server that is given, or else of one that runs until the test ends.
func postgres(t *testing.T) string {
	if dsn := os.Getenv(servers.Postgres.Variable()); dsn != "" {
		return dsn
	}
	server, err := servers.Start(servers.Postgres)
	required, wrong := servers.Required()
	require.NoError(t, wrong)
	if errors.Is(err, servers.ErrAbsent) && !slices.Contains(required, servers.Postgres) {
		t.Skipf("PostgreSQL is absent: %v", err)
	}
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, server.Stop()) })
	return server.DSN("postgres")
}
