package racetest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/racetest"
	"github.com/raceproof/raceproof/tests/databases"
)

// A database that does not say any more who waits is not asked for ever.
func TestSilence(t *testing.T) {
	for name, question := range map[string]string{"postgres/pgx": "pg_blocking_pids", "mariadb/mysql": "INNODB STATUS"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, databases.Named(name), databases.Options{})
			protocol := faultproxy.PostgreSQL
			if w.Dialect == "mariadb" {
				protocol = faultproxy.MySQL
			}
			address := databases.Address(t, w.dsn)
			proxy := faultproxy.New(t, protocol, address)
			w.dsn = strings.ReplaceAll(w.dsn, address, proxy.Addr())
			proxy.On(faultproxy.Contains(question), 1, faultproxy.Withhold())
			_, err := racetest.Run(t.Context(), racetest.Scenario{Open: w.connector, Setup: rows, Check: has(100, 100),
				Actors: racetest.Actors{"alice": moves(1, 2, 5), "bob": moves(1, 2, -5)}, Patience: time.Second})
			var f *racetest.Failure
			require.NotErrorAs(t, err, &f)
			assert.ErrorContains(t, err, "cannot ask")
		})
	}
}
