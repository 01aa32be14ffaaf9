package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/racetest"
)

// inTx runs statements in a transaction of database/sql's.
func inTx(texts ...string) actorFunc {
	return func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for _, text := range texts {
			if _, err := tx.ExecContext(ctx, text); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Commit()
	}
}

const (
	readScore  = "SELECT score FROM players"
	raiseScore = "UPDATE players SET score = score + 1"
)

// A COMMIT of database/sql's waits for readers in a rollback journal. The drivers would roll back.
func TestCommitWaits(t *testing.T) {
	s := scenario(&counted{dsn: strings.Replace(file(t), "=WAL", "=DELETE", 1)}, racetest.Actors{"reader": inTx(readScore), "writer": inTx(raiseScore)})
	s.Check = score(11)
	r, err := behave(t, s)
	require.NoError(t, err)
	assert.Positive(t, r.Blocked)
	assert.Zero(t, r.Deadlocks)
}

// Where SQLite is set not to wait, its refusal is told to the actor.
func TestNoPatience(t *testing.T) {
	s := scenario(&counted{dsn: file(t) + "&_busy_timeout=0&_txlock=immediate"}, racetest.Actors{"alice": inTx(raiseScore), "bob": inTx(raiseScore)})
	f := fails(t, s, racetest.ActorFailed, "bob", "bob has failed: database is locked")
	assert.Equal(t, "BEGIN", f.Steps[len(f.Steps)-1-2].Statement)
	s.MayFail = func(_ string, err error) bool { return isBusy(err) }
	refused := 0
	s.Check = func(ctx context.Context, db *sql.DB, returned map[string]error) error {
		done := 0
		for _, err := range returned {
			if err == nil {
				done++
			}
		}
		refused += 2 - done
		return score(10+done)(ctx, db, returned)
	}
	_, err := behave(t, s)
	require.NoError(t, err)
	assert.Positive(t, refused)
}

// An error that MayFail does not let pass fails, and MayFail is asked with the actor's name and its own error.
func TestMayFailDecides(t *testing.T) {
	mine := errors.New("mine")
	refuses := func(ctx context.Context, db *sql.DB) error { return errors.Join(look(ctx, db), mine) }
	s := scenario(&counted{dsn: file(t)}, racetest.Actors{"alice": look, "bob": refuses})
	var asked []string
	s.MayFail = func(actor string, err error) bool {
		asked = append(asked, actor)
		return !errors.Is(err, mine)
	}
	f := fails(t, s, racetest.ActorFailed, "bob", "bob has failed: mine")
	assert.ErrorIs(t, f, mine)
	assert.Equal(t, []string{"bob"}, asked)
	s.MayFail = func(string, error) bool { return true }
	var told error
	s.Check = func(_ context.Context, _ *sql.DB, returned map[string]error) error {
		assert.Len(t, returned, 2)
		assert.NoError(t, returned["alice"])
		told = returned["bob"]
		return nil
	}
	_, err := behave(t, s)
	require.NoError(t, err)
	assert.ErrorIs(t, told, mine)
}

// Who has waited longest is first.
func TestQueue(t *testing.T) {
	appends := func(digit string) actorFunc {
		return func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "UPDATE players SET score = score * 10 + "+digit)
			return err
		}
	}
	for token, want := range map[string]int{"a a b c a": 1123, "a a c b a": 1132} {
		s := scenario(&counted{dsn: file(t) + "&_txlock=immediate"}, racetest.Actors{
			"alice": inTx("UPDATE players SET score = 11"), "bob": appends("2"), "carol": appends("3"),
		})
		s.Check = score(want)
		r, err := behaveWith(t, s, []racetest.Option{racetest.Replay(token)})
		require.NoError(t, err)
		assert.Equal(t, 1, r.Blocked)
	}
}

// What goes on can let go on who has waited longer.
func TestWaitForOneThatWaits(t *testing.T) {
	s := scenario(&counted{dsn: strings.Replace(file(t), "=WAL", "=DELETE", 1)}, racetest.Actors{
		"other":  func(ctx context.Context, db *sql.DB) error { _, err := db.ExecContext(ctx, raiseScore); return err },
		"reader": inTx(readScore),
		"writer": inTx(raiseScore),
	})
	s.Check = score(12)
	_, err := behaveWith(t, s, []racetest.Option{racetest.Replay("r r w w o w r")})
	require.NoError(t, err)
}

// A COMMIT that SQLite refuses for good leaves no transaction on the connection, as the driver's own does not.
func TestCommitRefused(t *testing.T) {
	s := scenario(&counted{dsn: file(t) + "&_foreign_keys=1"}, racetest.Actors{"alice": look, "bob": func(ctx context.Context, db *sql.DB) error {
		db.SetMaxOpenConns(1)
		if err := inTx("INSERT INTO children VALUES (99)")(ctx, db); err == nil || isBusy(err) {
			return errors.Join(errors.New("COMMIT was not refused"), err)
		}
		return inTx(raiseScore)(ctx, db)
	}})
	s.Setup = func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "DROP TABLE IF EXISTS children")
		_, created := db.ExecContext(ctx, "CREATE TABLE children (id INTEGER REFERENCES players DEFERRABLE INITIALLY DEFERRED)")
		return errors.Join(err, setup(ctx, db), created)
	}
	s.Check = score(11)
	_, err := behave(t, s)
	require.NoError(t, err)
}
