package hermitage_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRefused looks at what is left of a transaction whose update was refused because the row had changed since its
// snapshot: PostgreSQL keeps it, useless, until it is rolled back; MariaDB has rolled it back already, and commits what
// is sent next.
func TestRefused(t *testing.T) {
	eachServer(t, func(t *testing.T, w *watch) {
		ctx, pool, server := t.Context(), w.pool, w.server
		conn, err := pool.Conn(ctx)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		exec := func(statement string) string {
			_, err := conn.ExecContext(ctx, statement)
			if err != nil {
				require.NotEmpty(t, code(err), "%s: %v", statement, err)
				return code(err)
			}
			return "ok"
		}
		for _, statement := range []string{create, fill} {
			require.Equal(t, "ok", exec(statement))
		}
		l := at(t, server, map[string]string{postgres: "repeatable read", mariadb: "repeatable read, snapshot"}[server])
		for _, statement := range l.begin {
			require.Equal(t, "ok", exec(statement))
		}
		_, err = find(ctx, conn, `SELECT * FROM test`)
		require.NoError(t, err)
		require.Equal(t, "ok", exec(`UPDATE test SET value = 21 WHERE id = 2`))
		_, err = pool.ExecContext(ctx, `UPDATE test SET value = 11 WHERE id = 1`)
		require.NoError(t, err)

		var after rows
		refused := exec(`UPDATE test SET value = 12 WHERE id = 1`)
		if server == postgres {
			require.Equal(t, "40001", refused)
			require.Equal(t, "25P02", exec(`UPDATE test SET value = 13 WHERE id = 1`))
			require.Equal(t, "ok", exec(`COMMIT`)) // a ROLLBACK, to the server
			after = rows{1: 11, 2: 20}
		} else {
			require.Equal(t, "1020", refused)
			var open bool
			require.NoError(t, conn.QueryRowContext(ctx, `SELECT @@in_transaction`).Scan(&open))
			require.False(t, open)
			require.Equal(t, "ok", exec(`UPDATE test SET value = 13 WHERE id = 1`))
			require.Equal(t, "ok", exec(`ROLLBACK`)) // too late
			after = rows{1: 13, 2: 20}
		}
		left, err := find(ctx, pool, `SELECT * FROM test`)
		require.NoError(t, err)
		require.Equal(t, after, left)
	})
}
