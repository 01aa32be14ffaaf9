package racetest_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"testing"

	_ "github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/raceproof/raceproof/racetest"
)

func file(t testing.TB) string {
	return "file:" + filepath.Join(t.TempDir(), "test.db") + "?_journal_mode=WAL&_synchronous=OFF"
}

// add reads, computes and writes.
func add(n int) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		var score int
		if err := db.QueryRowContext(ctx, "SELECT score FROM players WHERE id = 7").Scan(&score); err != nil {
			return err
		}
		_, err := db.ExecContext(ctx, "UPDATE players SET score = ? WHERE id = 7", score+n)
		return err
	}
}

func setup(ctx context.Context, db *sql.DB) error {
	_, err := db.ExecContext(ctx, "DROP TABLE IF EXISTS players; CREATE TABLE players (id INTEGER PRIMARY KEY, score INTEGER); INSERT INTO players VALUES (7, 10)")
	return err
}

func score(want int) func(context.Context, *sql.DB, map[string]error) error {
	return func(ctx context.Context, db *sql.DB, _ map[string]error) error {
		var score int
		if err := db.QueryRowContext(ctx, "SELECT score FROM players WHERE id = 7").Scan(&score); err != nil {
			return err
		}
		if score != want {
			return fmt.Errorf("score is %d, want %d: an update was lost", score, want)
		}
		return nil
	}
}

// TestLostUpdate is the first that everybody tries.
func TestLostUpdate(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := racetest.Scenario{
		Open: racetest.Driver("sqlite3", file(t)), Setup: setup,
		Actors: racetest.Actors{"alice": add(5), "bob": add(10)},
		Check:  score(25),
	}
	_, err := racetest.Run(t.Context(), s)
	assert.EqualError(t, err, `
      alice                                                 bob
   1  SELECT score FROM players WHERE id = 7  → 10
   2                                                        SELECT score FROM players WHERE id = 7  → 10
   3                                                        UPDATE players SET score = 20 WHERE id = 7  → 1 row
   4  UPDATE players SET score = 15 WHERE id = 7  → 1 row
  after 3 schedules of about 6, this one with 1 switch: score is 15, want 25: an update was lost
  replay: racetest.Replay("a b b a")
`)
	_, err = racetest.Run(t.Context(), s, racetest.Replay("a a b b"))
	assert.NoError(t, err)
	r, err := racetest.Run(t.Context(), s, racetest.Replay("a b b a"))
	var f *racetest.Failure
	require.ErrorAs(t, err, &f)
	assert.Equal(t, "a b b a", f.Token)
	assert.Equal(t, 1, r.Schedules)
}

// A text with control characters in it keeps its line in the timeline, and tells the terminal nothing.
func TestTimelineIsInert(t *testing.T) {
	_, err := racetest.Run(t.Context(), racetest.Scenario{
		Open: racetest.Driver("sqlite3", file(t)), Setup: setup, Check: score(-1),
		Actors: racetest.Actors{"alice": sends("UPDATE players SET score = 1 WHERE 'a\nb\x1b[31m' <> '\u202e'"), "bob": sends("SELECT 1")},
	})
	require.Error(t, err)
	assert.Contains(t, err.Error(), "'a␊b␛[31m' <> '[U+202E]'")
	assert.NotContains(t, err.Error(), "\x1b")
}

func sends(statement string) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, statement)
		return err
	}
}
