package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNobodyButNaiveLoses(t *testing.T) {
	var out bytes.Buffer
	err := run(context.Background(), []string{"-workers", "16", "-updates", "50", "-json"}, &out, io.Discard)
	require.NoError(t, err)
	var results []result
	require.NoError(t, json.Unmarshal(out.Bytes(), &results))
	require.Len(t, results, 5)
	for _, r := range results {
		assert.EqualValues(t, 800, r.Expected+r.Errors, r.Pattern)
		assert.Positive(t, r.Rate)
		assert.LessOrEqual(t, r.P50, r.P99)
		if r.Pattern == naive {
			assert.Positive(t, r.Lost, "the race that all of this is about")
			continue
		}
		assert.Zero(t, r.Lost, r.Pattern)
		assert.Zero(t, r.Errors, "%s: %s", r.Pattern, r.Error)
		assert.EqualValues(t, 800, r.Actual, r.Pattern)
	}
}

// The same on servers, those that are given: `make test` gives both.
func TestOnServers(t *testing.T) {
	dsns := map[string]string{"pgx": os.Getenv("RACEPROOF_POSTGRES"), "mysql": os.Getenv("RACEPROOF_MARIADB")}
	for driver, dsn := range dsns {
		t.Run(driver, func(t *testing.T) {
			if dsn == "" {
				require.Empty(t, os.Getenv("RACEPROOF_REQUIRE"), "a server is required, and none is given")
				t.Skip("no server is given")
			}
			if driver == "mysql" {
				dsn = inDatabase(t, dsn)
			}
			var out bytes.Buffer
			err := run(context.Background(), []string{"-driver", driver, "-dsn", dsn, "-workers", "8", "-updates", "20", "-json"}, &out, io.Discard)
			require.NoError(t, err)
			var results []result
			require.NoError(t, json.Unmarshal(out.Bytes(), &results))
			require.Len(t, results, 5)
			for _, r := range results {
				assert.Zero(t, r.Errors, "%s: %s", r.Pattern, r.Error)
				if r.Pattern != naive {
					assert.EqualValues(t, 160, r.Actual, r.Pattern)
				}
			}
		})
	}
}

// inDatabase makes a database on a MariaDB server, and returns its DSN.
func inDatabase(t *testing.T, dsn string) string {
	config, err := mysql.ParseDSN(dsn)
	require.NoError(t, err)
	db, err := sqlx.Open("mysql", dsn)
	require.NoError(t, err)
	config.DBName = "race_" + strings.ToLower(rand.Text())
	_, err = db.Exec("CREATE DATABASE " + config.DBName)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.Exec("DROP DATABASE " + config.DBName)
		assert.NoError(t, err)
		assert.NoError(t, db.Close())
	})
	return config.FormatDSN()
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	dsn := "file:" + filepath.Join(t.TempDir(), "x.db")
	args := []string{"-workers", "2", "-updates", "3", "-keys", "2", "-pattern", "lock,atomic", "-dsn", dsn}
	for range 2 { // the second time nothing is in the way
		out.Reset()
		require.NoError(t, run(context.Background(), args, &out, io.Discard))
		assert.Regexp(t, `(?m)^2 goroutines x 3 updates on 2 rows through sqlite3$`, out.String())
		assert.Regexp(t, `(?m)^ *lock +6 +6 +0 `, out.String())
		assert.Regexp(t, `(?m)^ *atomic +6 +6 +0 `, out.String())
		assert.NotContains(t, out.String(), "naive ")
	}
}

// A pattern that loses is told by the exit status; naive may.
func TestVerdict(t *testing.T) {
	assert.NoError(t, verdict([]result{{Pattern: naive, Lost: 3}, {Pattern: "lock"}}))
	assert.ErrorIs(t, verdict([]result{{Pattern: naive}, {Pattern: "lock", Lost: 1}}), errLost)
	assert.ErrorIs(t, verdict([]result{{Pattern: "atomic", Lost: -1}}), errLost, "an update that was applied twice is no better")
}

func TestBadArguments(t *testing.T) {
	for message, args := range map[string][]string{
		"-workers is 0":                     {"-workers", "0"},
		"-updates is -1":                    {"-updates", "-1"},
		"-keys is 0":                        {"-keys", "0"},
		`unknown pattern "pessimistic"`:     {"-pattern", "lock,pessimistic"},
		`unexpected argument "lock"`:        {"lock"},
		"-driver pgx needs a -dsn":          {"-driver", "pgx"},
		`unknown driver "oracle"`:           {"-driver", "oracle", "-dsn", "x"},
		"flag provided but not defined":     {"-rows", "3"},
		"unable to open database file":      {"-dsn", "file:" + filepath.Join(t.TempDir(), "no", "such", "folder.db")},
		"table raceproof_race already exis": {"-dsn", withTable(t)},
	} {
		assert.ErrorContains(t, run(context.Background(), args, io.Discard, io.Discard), message)
	}
}

// withTable returns the DSN of a database that has a table of the name that the program uses.
func withTable(t *testing.T) string {
	dsn := "file:" + filepath.Join(t.TempDir(), "x.db")
	s, err := open(context.Background(), settings{driver: "sqlite3", dsn: dsn, keys: 1})
	require.NoError(t, err)
	t.Cleanup(s.close)
	return dsn
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	interrupted := errors.New("interrupted")
	cancel(interrupted)
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	assert.Error(t, run(ctx, nil, io.Discard, io.Discard))
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Empty(t, left, "the temporary folder is removed")
}
