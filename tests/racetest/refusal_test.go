package racetest_test

import (
	"errors"
	"strconv"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	modernc "modernc.org/sqlite"

	"github.com/raceproof/raceproof/racetest"
)

// refusal returns the code by which a database has refused a transaction on account of another, or a row that is there
// already; "" for any other error.
func refusal(err error) string {
	var state interface{ SQLState() string }
	var number *mysql.MySQLError
	var mattn sqlite3.Error
	var modern *modernc.Error
	code := ""
	switch {
	case errors.As(err, &state):
		code = state.SQLState()
	case errors.As(err, &number):
		code = strconv.Itoa(int(number.Number))
	case errors.As(err, &mattn):
		code = strconv.Itoa(int(mattn.ExtendedCode))
	case errors.As(err, &modern):
		code = strconv.Itoa(modern.Code())
	}
	return map[string]string{
		"40001": "40001", "40P01": "40P01", "23505": "duplicate", // PostgreSQL
		"1213": "1213", "1020": "1020", "1062": "duplicate", // MariaDB
		"5": "busy", "517": "snapshot", "1555": "duplicate", "2067": "duplicate", // SQLite
	}[code]
}

// conflict tells whether the database has refused a transaction that could be made again.
func conflict(err error) bool { return refusal(err) != "" && refusal(err) != "duplicate" }

// turnedAway runs a scenario in which SQLite refuses whoever has read what is no longer so, or what another is about to
// change, and nobody tries again.
func turnedAway(t *testing.T, s racetest.Scenario) *racetest.Failure {
	t.Helper()
	result, err := racetest.Run(t.Context(), s)
	var f *racetest.Failure
	require.ErrorAs(t, err, &f)
	t.Log(result, f)
	kinds := map[string]racetest.Kind{"busy": racetest.Deadlock, "snapshot": racetest.ActorFailed}
	assert.Equal(t, kinds[refusal(f.Err)], f.Kind)
	return f
}
