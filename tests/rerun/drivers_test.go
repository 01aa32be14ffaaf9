package rerun

import (
	"database/sql"
	"net"
	"net/url"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq" // as "postgres"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/rerun"
	"github.com/raceproof/raceproof/tests/databases"
)

func pgxDriver(config *pgx.ConnConfig) rerun.Driver {
	return rerun.Driver{
		Protocol: faultproxy.PostgreSQL,
		Server:   address(config),
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

func pqDriver(config *pgx.ConnConfig) rerun.Driver {
	return rerun.Driver{
		Protocol: faultproxy.PostgreSQL,
		Server:   address(config),
		Modes:    []string{"no", "yes"},
		Open: func(addr, mode string) (*sqlx.DB, error) {
			dsn := url.URL{
				Scheme: "postgres", User: url.UserPassword(config.User, config.Password), Host: addr, Path: config.Database,
				RawQuery: "sslmode=disable&binary_parameters=" + mode,
			}
			return sqlx.Open("postgres", dsn.String())
		},
	}
}

func mysqlDriver(t *testing.T) rerun.Driver {
	config, err := mysql.ParseDSN(databases.DSN(t, databases.Named("mariadb/mysql")))
	require.NoError(t, err)
	require.Equal(t, "tcp", config.Net)
	config.DBName = "mysql" // one that every server has
	const interpolated = "interpolateParams"
	return rerun.Driver{
		Protocol: faultproxy.MySQL,
		Server:   config.Addr,
		Modes:    []string{"prepared", interpolated},
		Open: func(addr, mode string) (*sqlx.DB, error) {
			c := config.Clone()
			c.Addr, c.InterpolateParams, c.Logger = addr, mode == interpolated, &mysql.NopLogger{}
			connector, err := mysql.NewConnector(c)
			if err != nil {
				return nil, err
			}
			return sqlx.NewDb(sql.OpenDB(connector), "mysql"), nil
		},
	}
}
