package raceproof_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
)

type Player struct {
	ID      int64  `db:"id"`
	Name    string `db:"name"`
	Score   int64  `db:"score"`
	Version int64  `db:"version"`
}

var players = raceproof.MustTable[Player]("players")

const (
	playersSchema = `CREATE TABLE players (id INTEGER PRIMARY KEY, name TEXT NOT NULL, score INTEGER NOT NULL, version INTEGER NOT NULL)`
	ada           = `INSERT INTO players VALUES (7, 'Ada', 0, 0)`
)

func award(points int) raceproof.Func[Player] {
	return func(_ context.Context, p *Player) error {
		p.Score += int64(points)
		return nil
	}
}

func wantPlayer(t testing.TB, pool *sqlx.DB, want Player) {
	t.Helper()
	var got Player
	require.NoError(t, pool.Get(&got, `SELECT * FROM players WHERE id = ?`, want.ID))
	assert.Equal(t, want, got)
}

// stranger is a driver that nobody knows.
type stranger struct{}

func (stranger) Connect(context.Context) (driver.Conn, error) {
	return nil, errors.New("no such thing")
}
func (stranger) Driver() driver.Driver            { return stranger{} }
func (stranger) Open(string) (driver.Conn, error) { return nil, errors.New("no such thing") }

func TestRetryError(t *testing.T) {
	last := fmt.Errorf("%w: overtaken", raceproof.ErrConflict)
	err := error(&raceproof.RetryError{Attempts: 1, Last: last})
	assert.EqualError(t, err, "raceproof: conflict with another update: overtaken (given up after 1 attempt)")
	assert.ErrorIs(t, err, raceproof.ErrConflict)
	assert.NotErrorIs(t, err, context.Canceled)
	err = &raceproof.RetryError{Attempts: 3, Last: last, Ended: context.Canceled}
	assert.EqualError(t, err, "raceproof: conflict with another update: overtaken (given up after 3 attempts: context canceled)")
	assert.ErrorIs(t, err, raceproof.ErrConflict)
	assert.ErrorIs(t, err, context.Canceled)
}
