package rerun

import (
	"crypto/rand"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/faultproxy"
)

// A table is a table of one test, and a way to it that nothing gets lost on.
type table struct {
	name   string
	write  *regexp.Regexp
	direct *sqlx.DB
	rows   *int64
}

// A Counter is a row of it.
type Counter struct {
	ID      int64 `db:"id"`
	N       int64 `db:"n"`
	Version int64 `db:"version"`
}

func (d Driver) newTable(t *testing.T) table {
	name := "rerun_" + strings.ToLower(rand.Text()[:10]) // others may use the same database
	direct := d.openAt(t, d.Server, d.Modes[0])
	_, err := direct.Exec("CREATE TABLE " + name + " (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, version BIGINT NOT NULL)")
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := direct.Exec("DROP TABLE " + name)
		assert.NoError(t, err)
	})
	write := regexp.MustCompile("(?i)\\b(UPDATE|INSERT INTO)\\s+[`\"]?" + name)
	return table{name, write, direct, new(int64)}
}

// statement adds one to a row. MariaDB has no UPDATE that yields rows, but an INSERT.
func (table table) statement(d Driver, w Write, id int64) (text string, args []any) {
	one, key := "1", fmt.Sprint(id)
	if w.Arguments {
		one, key = "?", "?"
		args = []any{1, id}
	}
	change := "n = " + table.name + ".n + " + one
	switch {
	case !w.Query:
		text = fmt.Sprintf("UPDATE %s SET %s WHERE id = %s", table.name, change, key)
	case d.Protocol == faultproxy.PostgreSQL:
		text = fmt.Sprintf("UPDATE %s SET %s WHERE id = %s RETURNING n", table.name, change, key)
	default:
		text = fmt.Sprintf("INSERT INTO %s VALUES (%s, 0, 0) ON DUPLICATE KEY UPDATE %s RETURNING n", table.name, key, change)
		slices.Reverse(args)
	}
	return table.direct.Rebind(text), args
}

// isWrite matches the statements that write to the table. What goes before, such as MariaDB's SET STATEMENT, does not
// matter; a SELECT that ends in FOR UPDATE is none.
func (table table) isWrite(text string) bool { return table.write.MatchString(text) }

func (table table) newRow(t *testing.T) (id int64) {
	*table.rows++
	_, err := table.direct.Exec(fmt.Sprintf("INSERT INTO %s VALUES (%d, 0, 0)", table.name, *table.rows))
	require.NoError(t, err)
	return *table.rows
}

func (table table) row(t *testing.T, id int64) (c Counter) {
	require.NoError(t, table.direct.Get(&c, fmt.Sprintf("SELECT id, n, version FROM %s WHERE id = %d", table.name, id)))
	return c
}
