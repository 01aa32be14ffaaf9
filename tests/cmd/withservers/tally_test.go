package main

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the test binaries report is added up by database, and one that was absent is named as that.
func TestTally(t *testing.T) {
	tally, err := newTally()
	require.NoError(t, err)
	name := tally.file.Name()
	reports := "postgres/pgx   2 test cases\nmariadb/mysql  ABSENT: not installed\npostgres/pgx   40 test cases\nsqlite/mattn 1 test cases\n"
	require.NoError(t, os.WriteFile(name, []byte(reports), 0o600))
	var out strings.Builder
	require.NoError(t, tally.print(&out))
	assert.Equal(t, "postgres/pgx       42 test cases\nmariadb/mysql  ABSENT: not installed\nsqlite/mattn        1 test cases\n", out.String())
	assert.NoFileExists(t, name)
}
