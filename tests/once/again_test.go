package once_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A caller's transaction can go on finding keys that another Expire has deleted since it began, and has nothing to delete:
// that is the end, however many they are.
func TestExpireOfWhatIsGone(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		_, other := w.Open(databases.Options{})
		w.Look.MustExec(`INSERT INTO raceproof_once (id, fingerprint, created, result)
			SELECT concat('k', seq), '', '2020-01-01', '1' FROM seq_1_to_600`)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		calls := 0
		require.NoError(t, w.DB.Transact(ctx, func(ctx context.Context) error {
			var n int
			if err := sqlx.GetContext(ctx, w.DB.Ext(ctx), &n, `SELECT count(*) FROM raceproof_once`); err != nil {
				return err
			}
			if calls++; calls == 1 {
				require.Equal(t, 600, n)
				gone, err := once.Expire(minute(t), other, time.Hour)
				require.NoError(t, err)
				require.Equal(t, int64(600), gone)
			}
			gone, err := once.Expire(ctx, w.DB, time.Hour)
			assert.Zero(t, gone)
			return err
		}, raceproof.Isolation(sql.LevelRepeatableRead)))
		assert.Zero(t, keys(t, w))
	}, "mariadb/mysql")
}

// A page has JSON that was there before.
type page struct {
	ID      int64           `db:"id"`
	Body    json.RawMessage `db:"body"`
	Seen    int64           `db:"seen"`
	Version int64           `db:"version"`
}

// JSON that a column holds comes back as it is, also with the characters that encoding/json writes differently.
func TestWrapKeepsJSON(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		body := json.RawMessage(`{"html":"<b>hi</b> & more"}`)
		kind := map[servers.Kind]string{servers.Postgres: "JSON", servers.MariaDB: "JSON", "": "BLOB"}[w.Kind]
		w.Look.MustExec(`CREATE TABLE pages (id BIGINT PRIMARY KEY, body ` + kind + ` NOT NULL, seen BIGINT NOT NULL, version BIGINT NOT NULL)`)
		w.Look.MustExec(w.Look.Rebind(`INSERT INTO pages VALUES (1, ?, 0, 0)`), []byte(body))
		u := once.Wrap(lock.New(w.DB, raceproof.MustTable[page]("pages"), nil))
		require.NoError(t, u.Err())
		ctx := once.WithKey(minute(t), "a")
		for range 2 {
			p, err := u.Update(ctx, 1, func(_ context.Context, p *page) error { p.Seen++; return nil })
			require.NoError(t, err)
			assert.Equal(t, page{1, body, 1, 1}, p)
		}
		var stored page
		require.NoError(t, w.Look.Get(&stored, `SELECT * FROM pages`))
		assert.Equal(t, page{1, body, 1, 1}, stored)
	})
}

// Rows of two tables are different rows, also if they have the same type and the same key, and the same is to be done to
// them.
func TestWrapTwoTablesOneKey(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		w.Look.MustExec(`CREATE TABLE archive AS SELECT * FROM players`)
		add := func(points int64) raceproof.Func[world.Player] {
			return func(_ context.Context, p *world.Player) error { p.Score += points; return nil }
		}
		in := func(table string) raceproof.Updater[world.Player, int64] {
			return once.Wrap(raceproof.Bind(lock.New(w.DB, raceproof.MustTable[world.Player](table), nil), add))
		}
		ctx := once.WithKey(minute(t), "a")
		_, err := in("players").Update(ctx, 7, 5)
		require.NoError(t, err)
		_, err = in("archive").Update(ctx, 7, 5)
		assert.ErrorIs(t, err, once.ErrKeyReused)
		var archived world.Player
		require.NoError(t, w.Look.Get(&archived, `SELECT * FROM archive WHERE id = 7`))
		assert.Equal(t, world.Ada, archived)
		row, err := in("players").Update(ctx, 7, 5)
		require.NoError(t, err)
		assert.Equal(t, int64(6), row.Score)
		assert.Equal(t, int64(5), gained(w))
	})
}
