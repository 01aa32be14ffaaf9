// Package ncruces tests the SQLite driver that cannot be in one binary with the others: it wants the same name.
package ncruces

import (
	"os"
	"testing"

	_ "github.com/ncruces/go-sqlite3/driver" // the driver under test
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/tests/databases"
)

func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }

var database = databases.Named("sqlite/ncruces")

func TestOpen(t *testing.T) {
	pool := database.Open(t, databases.Options{})
	_, err := pool.Exec(`CREATE TABLE things (n BIGINT)`)
	require.NoError(t, err)
	var mode string
	require.NoError(t, pool.Get(&mode, `PRAGMA journal_mode`))
	assert.Equal(t, "wal", mode)
}

func TestRival(t *testing.T) {
	assert.Panics(t, func() { databases.Named("sqlite/mattn") }) // is not in this binary
}
