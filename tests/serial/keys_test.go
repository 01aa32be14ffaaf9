package serial_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/serial"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// byFunction returns the updaters that take functions, of any table.
func byFunction[T any](w *world.World, table *raceproof.Table[T]) map[string]*serial.Updater[T, raceproof.Func[T]] {
	return map[string]*serial.Updater[T, raceproof.Func[T]]{
		"lock":       serial.Wrap(lock.New(w.DB, table, nil)),
		"optimistic": serial.Wrap(optimistic.New(w.DB, table, nil)),
	}
}

// load has many callers update two rows by all keys that there are for them, until groups were made, and returns what the
// first row's callers and the second's have been told.
func load[T any](t *testing.T, hot *serial.Updater[T, raceproof.Func[T]], first, second []any, f raceproof.Func[T]) (ones, twos []T) {
	t.Helper()
	groups := hot.Stats().Groups
	for hot.Stats().Groups < groups+3 {
		var c crowd
		one, two := make([]T, 16), make([]T, 16)
		for i := range one {
			for rows, key := range map[*T]any{&one[i]: first[i%len(first)], &two[i]: second[i%len(second)]} {
				c.Go(func() {
					var err error
					*rows, err = hot.Update(minute(t), key, f)
					assert.NoError(t, err, "key %v", key)
				})
			}
		}
		c.Wait()
		ones, twos = append(ones, one...), append(twos, two...)
	}
	return ones, twos
}

// different fails the test unless the versions are those of that many changes, one after the other.
func different(t *testing.T, versions []int64, about string) {
	t.Helper()
	seen := map[int64]bool{}
	for _, v := range versions {
		seen[v] = true
		assert.LessOrEqual(t, v, int64(len(versions)), about)
	}
	assert.Len(t, seen, len(versions), about)
}

// Texts that the database takes for one key are one row, whoever spells it how.
func TestTextKeys(t *testing.T) {
	type named struct {
		Name    string `db:"name,key"`
		N       int64  `db:"n"`
		Version int64  `db:"version"`
	}
	each(t, everywhere, func(t *testing.T, w *world.World) {
		first := []any{"a"}
		if w.Kind == servers.MariaDB {
			first = []any{"a", "A ", "A", "a "}
		}
		uuid := "2f1c6f60-96a5-4b57-8c5b-9d7e1f0a2b3c"
		for name := range byFunction(w, raceproof.MustTable[named]("t")) {
			w.Look.MustExec(`CREATE TABLE named_` + name + ` (name VARCHAR(40) PRIMARY KEY, n BIGINT NOT NULL, version BIGINT NOT NULL)`)
			w.Look.MustExec(`INSERT INTO named_` + name + ` VALUES ('a', 0, 0), ('` + uuid + `', 0, 0)`)
			hot := byFunction(w, raceproof.MustTable[named]("named_"+name))[name]
			ones, twos := load(t, hot, first, []any{uuid}, func(_ context.Context, r *named) error { r.N++; return nil })
			for about, rows := range map[string][]named{"a": ones, uuid: twos} {
				var versions []int64
				for _, r := range rows {
					assert.Equal(t, named{about, r.Version, r.Version}, r, name)
					versions = append(versions, r.Version)
				}
				different(t, versions, name)
				var n int
				require.NoError(t, w.Look.Get(&n, w.Look.Rebind(`SELECT n FROM named_`+name+` WHERE name = ?`), about))
				assert.Equal(t, len(rows), n, name)
			}
		}
	})
}

// Keys of several columns.
func TestKeysOfSeveralColumns(t *testing.T) {
	type seat struct {
		Flight  string `db:"flight,key"`
		Number  int64  `db:"seat_number,key"`
		N       int64  `db:"n"`
		Version int64  `db:"version"`
	}
	each(t, everywhere, func(t *testing.T, w *world.World) {
		for name := range byFunction(w, raceproof.MustTable[seat]("t")) {
			w.Look.MustExec(`CREATE TABLE seats_` + name + ` (flight VARCHAR(9) NOT NULL, seat_number BIGINT NOT NULL, n BIGINT NOT NULL,
				version BIGINT NOT NULL, PRIMARY KEY (flight, seat_number))`)
			w.Look.MustExec(`INSERT INTO seats_` + name + ` VALUES ('LH', 1, 0, 0), ('LH', 2, 0, 0), ('UA', 1, 0, 0)`)
			hot := byFunction(w, raceproof.MustTable[seat]("seats_"+name))[name]
			ones, twos := load(t, hot, []any{raceproof.Key{"LH", 1}}, []any{raceproof.Key{"LH", 2}}, func(_ context.Context, r *seat) error { r.N++; return nil })
			for number, rows := range map[int64][]seat{1: ones, 2: twos} {
				var versions []int64
				for _, r := range rows {
					assert.Equal(t, seat{"LH", number, r.Version, r.Version}, r, name)
					versions = append(versions, r.Version)
				}
				different(t, versions, name)
			}
			var n []int
			require.NoError(t, w.Look.Select(&n, `SELECT n FROM seats_`+name+` ORDER BY flight, seat_number`))
			assert.Equal(t, []int{len(ones), len(twos), 0}, n, name)
		}
	})
}

// What a caller got is his: pointers and slices in it are shared with nobody, and fields that are no columns are zero.
func TestNothingIsShared(t *testing.T) {
	type thing struct {
		ID      int64   `db:"id"`
		Data    []byte  `db:"data"`
		Name    *string `db:"name"`
		Version int64   `db:"version"`
		Scratch string  `db:"-"`
		Memo    []int   `db:"-"`
	}
	each(t, everywhere, func(t *testing.T, w *world.World) {
		blob := map[servers.Kind]string{"": "BLOB", servers.Postgres: "BYTEA", servers.MariaDB: "BLOB"}[w.Kind]
		for name := range byFunction(w, raceproof.MustTable[thing]("t")) {
			w.Look.MustExec(`CREATE TABLE things_` + name + ` (id BIGINT PRIMARY KEY, data ` + blob + ` NOT NULL, name VARCHAR(20), version BIGINT NOT NULL)`)
			w.Look.MustExec(`INSERT INTO things_` + name + ` VALUES (1, '0000', 'zero', 0), (2, '0000', NULL, 0)`)
			hot := byFunction(w, raceproof.MustTable[thing]("things_"+name))[name]
			ones, twos := load(t, hot, []any{1}, []any{2}, func(_ context.Context, r *thing) error {
				assert.Empty(t, r.Scratch, "%s: of somebody else's function", name)
				assert.Nil(t, r.Memo, name)
				r.Scratch, r.Memo = "mine", []int{1}
				copy(r.Data, fmt.Sprintf("%04d", r.Version+1)) // in place
				if r.Name == nil {
					r.Name = new(string)
				}
				*r.Name = fmt.Sprint("number ", r.Version+1)
				return nil
			})
			for id, rows := range map[int64][]thing{1: ones, 2: twos} {
				var versions []int64
				for _, r := range rows {
					called := fmt.Sprint("number ", r.Version)
					assert.Equal(t, thing{ID: id, Data: fmt.Appendf(nil, "%04d", r.Version), Name: &called, Version: r.Version}, r, name)
					versions = append(versions, r.Version)
				}
				different(t, versions, name)
			}
		}
	})
}

// Fields that are no columns are zero in flat rows too, in the function and in the result.
func TestFieldsThatAreNoColumns(t *testing.T) {
	type flat struct {
		ID      int64  `db:"id"`
		N       int64  `db:"n"`
		Version int64  `db:"version"`
		Scratch string `db:"-"`
	}
	each(t, everywhere, func(t *testing.T, w *world.World) {
		for name, hot := range byFunction(w, raceproof.MustTable[flat]("tallies")) {
			ones, twos := load(t, hot, []any{1}, []any{2}, func(_ context.Context, r *flat) error {
				assert.Empty(t, r.Scratch, name)
				r.N++
				r.Scratch = "mine"
				return nil
			})
			for _, r := range append(ones, twos...) {
				assert.Empty(t, r.Scratch, name)
			}
		}
	})
}
