package lock_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

type players = []*world.Player

// addAll adds to every score.
func addAll(points int64) func(context.Context, players) error {
	return func(_ context.Context, rows players) error {
		for _, r := range rows {
			r.Score += points
		}
		return nil
	}
}

func TestUpdateMany(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		u := updater(t, w, nil)
		rows, err := u.UpdateMany(minute(t), []any{8, 7}, func(_ context.Context, rows players) error {
			require.Equal(t, []world.Player{world.Bob, world.Ada}, []world.Player{*rows[0], *rows[1]})
			rows[1].Score = 5
			return nil
		})
		require.NoError(t, err)
		ada := world.Player{ID: 7, Name: "Ada", Score: 5, Version: 1}
		assert.Equal(t, []world.Player{world.Bob, ada}, rows, "in the order of the keys, and only what was changed has another version")
		assert.Equal(t, []world.Player{world.Bob, ada}, []world.Player{w.Row(8), w.Row(7)})

		rows, err = updater(t, w, &lock.Options{UpdateFirst: true}).UpdateMany(minute(t), []any{7, 8}, addAll(0))
		require.NoError(t, err)
		assert.EqualValues(t, 2, rows[0].Version)
		assert.EqualValues(t, 1, rows[1].Version)
		rows, err = updater(t, w, &lock.Options{UpdateFirst: true}).UpdateMany(minute(t), []any{int8(7), uint(8)}, addAll(1))
		require.NoError(t, err)
		assert.Equal(t, []world.Player{w.Row(7), w.Row(8)}, rows)
		assert.EqualValues(t, 3, rows[0].Version, "by one, though it was written twice")
		w.Reset()

		for name, bad := range map[string]struct {
			keys   []any
			change func(context.Context, players) error
			says   string
		}{
			"no keys":            {nil, addAll(1), "none"},
			"twice":              {[]any{7, 8, int32(7)}, addAll(1), "twice"},
			"missing":            {[]any{8, 99, 7}, addAll(1), "99"},
			"nil":                {[]any{7}, nil, "nil"},
			"another type":       {[]any{7, "8"}, addAll(1), "key column"},
			"null":               {[]any{7, nil}, addAll(1), "NULL"},
			"pointers exchanged": {[]any{7, 8}, func(_ context.Context, r players) error { r[0], r[1] = r[1], r[0]; r[0].Score++; return nil }, "pointer"},
			"a pointer replaced": {[]any{7, 8}, func(_ context.Context, r players) error { r[1] = &world.Player{ID: 8}; return nil }, "pointer"},
			"key changed":        {[]any{7, 8}, func(_ context.Context, r players) error { r[0].Score++; r[1].ID = 9; return nil }, "key"},
			"version changed":    {[]any{7, 8}, func(_ context.Context, r players) error { r[0].Score++; r[1].Version = 9; return nil }, "version"},
			"the second refused": {[]any{7, 8}, func(_ context.Context, r players) error { r[0].Score++; r[1].Score = -1; return nil }, ""},
		} {
			rows, err := u.UpdateMany(minute(t), bad.keys, bad.change)
			require.Error(t, err, name)
			assert.ErrorContains(t, err, bad.says, name)
			assert.Empty(t, rows, name)
			assert.Equal(t, name == "missing", isNotFound(err), "%s: %v", name, err)
			w.Unchanged(name)
		}
	})
}

// However the function ends, if it does not return nil nothing is changed, also what it did through its context.
func TestUpdateManyFunction(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		u := updater(t, w, nil)
		for name, end := range map[string]func() error{
			"error": func() error { return errOwn }, "panic": func() error { panic(errOwn) }, "exit": func() error { runtime.Goexit(); return nil },
		} {
			for way, transact := range map[string]func(context.Context, func(context.Context) error) error{
				"alone":  func(ctx context.Context, f func(context.Context) error) error { return f(ctx) },
				"inside": func(ctx context.Context, f func(context.Context) error) error { return w.DB.Transact(ctx, f) },
			} {
				var err error
				panicked, ended := alone(func() {
					err = transact(minute(t), func(ctx context.Context) error {
						_, err := u.UpdateMany(ctx, []any{7, 8}, func(ctx context.Context, rows players) error {
							rows[0].Score, rows[1].Score = 50, 50
							require.NoError(t, exec(ctx, w, `UPDATE players SET level = 3 WHERE id = 8`))
							return end()
						})
						return err
					})
				})
				assert.Equal(t, name == "error", err == errOwn, "%s, %s: as it is", name, way)
				assert.Equal(t, name == "panic", panicked == errOwn, name, way)
				assert.Equal(t, name == "error", ended, name, way)
				w.Unchanged(name, way)
			}
		}
		_, err := u.UpdateMany(minute(t), []any{7, 8}, func(ctx context.Context, rows players) error {
			rows[0].Score++
			_, err := u.Update(ctx, 7, add(10))
			return err
		})
		assert.ErrorIs(t, err, raceproof.ErrConflict, "the function itself has changed a row")
		w.Unchanged()
		_, err = u.UpdateMany(minute(t), []any{7, 8}, func(ctx context.Context, rows players) error {
			rows[0].Score++
			_, err := u.Update(ctx, 8, add(10))
			return err
		})
		assert.NoError(t, err, "or one that it has not changed by itself")
	})
}

// alone runs f by a goroutine of its own, and tells what it panicked with, and whether it came to its end.
func alone(f func()) (panicked any, ended bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { panicked = recover() }()
		f()
		ended = true
	}()
	<-done
	return panicked, ended
}

// A Code has a text for a key, and a Blob bytes.
type (
	Code struct {
		Code    string `db:"code,key"`
		N       int64  `db:"n"`
		Version int64  `db:"version"`
	}
	Blob struct {
		Code    []byte `db:"code,key"`
		N       int64  `db:"n"`
		Version int64  `db:"version"`
	}
	Seat struct {
		Row     int64  `db:"seat_row,key"`
		Letter  string `db:"letter,key"`
		N       int64  `db:"n"`
		Version int64  `db:"version"`
	}
)

var (
	codes = raceproof.MustTable[Code]("codes")
	blobs = raceproof.MustTable[Blob]("blobs")
	seats = raceproof.MustTable[Seat]("seats")
)

// tables makes tables with other keys, empty.
func tables(w *world.World) {
	octets := map[servers.Kind]string{servers.Postgres: "BYTEA", servers.MariaDB: "VARBINARY(20)", "": "BLOB"}[w.Kind]
	w.Look.MustExec(`CREATE TABLE codes (code VARCHAR(20) PRIMARY KEY, n BIGINT NOT NULL, version BIGINT NOT NULL)`)
	w.Look.MustExec(`CREATE TABLE blobs (code ` + octets + ` PRIMARY KEY, n BIGINT NOT NULL, version BIGINT NOT NULL)`)
	w.Look.MustExec(`CREATE TABLE seats (seat_row BIGINT, letter VARCHAR(5), n BIGINT NOT NULL, version BIGINT NOT NULL, PRIMARY KEY (seat_row, letter))`)
}

func TestUpdateManyKeys(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		tables(w)
		w.Look.MustExec(`INSERT INTO codes VALUES ('a', 0, 0), ('b', 0, 0)`)
		w.Look.MustExec(`INSERT INTO seats VALUES (1, 'B', 0, 0), (2, 'A', 0, 0)`)
		_, err := w.Look.Exec(w.Look.Rebind(`INSERT INTO blobs VALUES (?, 0, 0), (?, 0, 0)`), []byte{0, 255}, []byte{7})
		require.NoError(t, err)
		u := lock.New(w.DB, codes, nil)
		got, err := u.UpdateMany(minute(t), []any{"b", "a"}, func(_ context.Context, c []*Code) error { c[0].N++; return nil })
		require.NoError(t, err)
		assert.Equal(t, []Code{{"b", 1, 1}, {"a", 0, 0}}, got)
		calls := 0
		_, err = u.UpdateMany(minute(t), []any{"a", "A"}, func(context.Context, []*Code) error { calls++; return nil })
		require.Error(t, err)
		assert.Zero(t, calls)
		if w.Kind == servers.MariaDB {
			assert.ErrorContains(t, err, "one row", "the same to MariaDB")
		} else {
			assert.ErrorIs(t, err, raceproof.ErrNotFound)
		}
		places, err := lock.New(w.DB, seats, nil).UpdateMany(minute(t), []any{raceproof.Key{2, "A"}, raceproof.Key{1, "B"}},
			func(_ context.Context, s []*Seat) error { s[0].N, s[1].N = 2, 1; return nil })
		require.NoError(t, err)
		assert.Equal(t, []Seat{{2, "A", 2, 1}, {1, "B", 1, 1}}, places)
		_, err = lock.New(w.DB, seats, nil).UpdateMany(minute(t), []any{raceproof.Key{2, "A"}, raceproof.Key{2, "B"}},
			func(context.Context, []*Seat) error { return nil })
		assert.ErrorIs(t, err, raceproof.ErrNotFound)
		bytes, err := lock.New(w.DB, blobs, nil).UpdateMany(minute(t), []any{[]byte{7}, []byte{0, 255}},
			func(_ context.Context, b []*Blob) error { b[0].N, b[1].N = 2, 1; return nil })
		require.NoError(t, err)
		assert.Equal(t, []Blob{{[]byte{7}, 2, 1}, {[]byte{0, 255}, 1, 1}}, bytes)
	})
}

// Callers lock the same rows in whatever order, alone and inside transactions, by numbers and by texts: the database has no
// deadlock to refuse, so no function is called twice.
func TestNoDeadlocks(t *testing.T) {
	const callers, rounds, rows = 16, 8, 6
	each(t, everywhere, func(t *testing.T, w *world.World) {
		tables(w)
		for i := range rows {
			w.Look.MustExec(fmt.Sprintf(`INSERT INTO players VALUES (%d, 'p%d', 0, 0, 0)`, 100+i, i))
			w.Look.MustExec(fmt.Sprintf(`INSERT INTO codes VALUES ('c%d', 0, 0)`, i))
		}
		var calls, locks atomic.Int64
		numbers, texts := updater(t, w, nil), lock.New(w.DB, codes, nil)
		var wg sync.WaitGroup
		for caller := range callers {
			wg.Go(func() {
				for range rounds {
					var ids, names []any
					for _, i := range rand.Perm(rows)[:2+caller%3] {
						ids, names = append(ids, 100+i), append(names, fmt.Sprint("c", i))
					}
					locks.Add(int64(len(ids)))
					f := func(ctx context.Context) error {
						if caller%2 == 0 {
							_, err := numbers.UpdateMany(ctx, ids, func(ctx context.Context, r players) error { calls.Add(1); return addAll(1)(ctx, r) })
							return err
						}
						_, err := texts.UpdateMany(ctx, names, func(_ context.Context, c []*Code) error {
							calls.Add(1)
							for _, one := range c {
								one.N++
							}
							return nil
						})
						return err
					}
					if caller%4 < 2 {
						assert.NoError(t, f(minute(t)))
					} else {
						assert.NoError(t, w.DB.Transact(minute(t), f))
					}
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, callers*rounds, calls.Load(), "functions are called once")
		var n, m int64
		require.NoError(t, w.Look.Get(&n, `SELECT sum(score) FROM players WHERE id >= 100`))
		require.NoError(t, w.Look.Get(&m, `SELECT sum(n) FROM codes`))
		assert.Equal(t, locks.Load(), n+m)
	})
}
