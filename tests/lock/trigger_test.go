package lock_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

func onMariaDB(d databases.Database) bool    { return d.Kind == servers.MariaDB }
func notOnMariaDB(d databases.Database) bool { return d.Kind != servers.MariaDB }

// A Counter is a row of a table with triggers, and a Versioned is one with a version.
type (
	Counter struct {
		ID int64 `db:"id"`
		N  int64 `db:"n"`
	}
	Versioned struct {
		ID      int64 `db:"id"`
		N       int64 `db:"n"`
		Version int64 `db:"version"`
	}
)

// triggered makes a trigger of a table: when it is called, and what it does, as SQLite writes it; on PostgreSQL it returns
// what is said.
func triggered(w *world.World, table, when, does, returns string) {
	if w.Kind == servers.Postgres {
		w.Look.MustExec(`CREATE FUNCTION ` + table + `_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + does + ` RETURN ` + returns + `; END $$`)
		w.Look.MustExec(`CREATE TRIGGER changed ` + when + ` ON ` + table + ` FOR EACH ROW EXECUTE FUNCTION ` + table + `_changed()`)
		return
	}
	w.Look.MustExec(`CREATE TRIGGER ` + table + `_changed ` + when + ` ON ` + table + ` FOR EACH ROW BEGIN ` + does + ` END`)
}

// Writing one row changes another one, which the function has changed too: nobody's change is lost, and the function is not
// called again for what would happen again. MariaDB has no such triggers.
func TestTriggerChangesAnother(t *testing.T) {
	each(t, notOnMariaDB, func(t *testing.T, w *world.World) {
		for name, version := range map[string]string{"raised": ", version = version + 1", "kept": ""} {
			table := "counters_" + name
			w.Look.MustExec(`CREATE TABLE ` + table + ` (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, version BIGINT NOT NULL)`)
			w.Look.MustExec(`INSERT INTO ` + table + ` VALUES (1, 0, 0), (2, 0, 0)`)
			triggered(w, table, `AFTER UPDATE`, `UPDATE `+table+` SET n = n + 100`+version+` WHERE id = 2 AND NEW.id = 1;`, `NULL`)
			look := func() (all []Versioned) {
				require.NoError(t, w.Look.Select(&all, `SELECT * FROM `+table+` ORDER BY id`))
				return all
			}
			calls := 0
			bare := lock.New(w.DB, raceproof.MustTable[Counter](table, raceproof.WithoutVersion()), nil)
			_, err := bare.UpdateMany(minute(t), []any{1, 2}, func(_ context.Context, c []*Counter) error { calls++; c[0].N++; c[1].N++; return nil })
			assert.ErrorIs(t, err, raceproof.ErrConflict, name)
			full := lock.New(w.DB, raceproof.MustTable[Versioned](table), nil)
			_, err = full.UpdateMany(minute(t), []any{1, 2}, func(_ context.Context, c []*Versioned) error { calls++; c[0].N++; c[1].N++; return nil })
			assert.ErrorIs(t, err, raceproof.ErrConflict, name)
			assert.Equal(t, 2, calls, name)
			assert.Equal(t, []Versioned{{1, 0, 0}, {2, 0, 0}}, look(), name)

			got, err := full.UpdateMany(minute(t), []any{1, 2}, func(_ context.Context, c []*Versioned) error { c[0].N++; return nil })
			require.NoError(t, err, name)
			assert.EqualValues(t, 100, got[1].N, "%s: the function has left it alone", name)
			assert.Equal(t, look(), got, name)
		}
	})
}

// Within a transaction MariaDB's row that is there is found by an INSERT that updates it, of which nothing is to be seen; nor
// is there of a row that is in its way by another column.
func TestUpsertIsNoUpdate(t *testing.T) {
	type named struct {
		Name string `db:"name"`
		ID   int64  `db:"id"`
		N    int64  `db:"n"`
		Hits int64  `db:"hits"`
	}
	each(t, onMariaDB, func(t *testing.T, w *world.World) {
		w.Look.MustExec(`CREATE TABLE named (name VARCHAR(9) PRIMARY KEY, id BIGINT NOT NULL UNIQUE, n BIGINT NOT NULL, hits BIGINT NOT NULL)`)
		w.Look.MustExec(`INSERT INTO named VALUES ('other', 1, 0, 0), ('mine', 2, 0, 0)`)
		triggered(w, `named`, `BEFORE UPDATE`, `SET NEW.hits = NEW.hits + 1;`, ``)
		u := lock.New(w.DB, raceproof.MustTable[named]("named"), nil)
		upsert := func(name string, change raceproof.Func[named]) {
			t.Helper()
			require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
				_, err := u.Upsert(ctx, 2, func(_ context.Context, r *named) error { r.Name = name; return nil }, change)
				return err
			}))
		}
		for _, name := range []string{"mine", "other", "third"} {
			upsert(name, nothing[named])
		}
		look := func() (all []named) {
			require.NoError(t, w.Look.Select(&all, `SELECT * FROM named ORDER BY id`))
			return all
		}
		assert.Equal(t, []named{{"other", 1, 0, 0}, {"mine", 2, 0, 0}}, look())
		upsert("other", func(_ context.Context, r *named) error { r.N++; return nil })
		assert.Equal(t, []named{{"other", 1, 0, 0}, {"mine", 2, 1, 1}}, look(), "once, by what change did")
	})
}

// The row that was inserted has another key, or is not inserted: that is no conflict, which trying again could solve.
func TestUpsertElsewhere(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		serial := map[servers.Kind]string{servers.MariaDB: " AUTO_INCREMENT"}[w.Kind]
		create := func(table string) {
			w.Look.MustExec(`CREATE TABLE ` + table + ` (id BIGINT` + serial + ` PRIMARY KEY, n BIGINT NOT NULL)`)
		}
		create("moved")
		says := map[string]string{"moved": "given it another one"}
		keys := map[string]int64{"moved": 5}
		switch w.Kind {
		case "":
			triggered(w, "moved", `AFTER INSERT`, `UPDATE moved SET id = id + 100 WHERE id = NEW.id;`, ``)
		case servers.Postgres:
			triggered(w, "moved", `BEFORE INSERT`, `NEW.id = NEW.id + 100;`, `NEW`)
			create("left_out")
			triggered(w, "left_out", `BEFORE INSERT`, ``, `NULL`)
			says["left_out"], keys["left_out"] = "a trigger keeps it from being inserted", 5
		case servers.MariaDB:
			triggered(w, "moved", `BEFORE INSERT`, `SET NEW.id = NEW.id + 100;`, ``)
			create("numbered")
			says["numbered"], keys["numbered"] = "given it another one", 0 // which is where the database counts on
		}
		for table, text := range says {
			u := lock.New(w.DB, raceproof.MustTable[Counter](table), nil)
			creates, runs := 0, 0
			upsert := func(ctx context.Context) error {
				_, err := u.Upsert(ctx, keys[table], func(context.Context, *Counter) error { creates++; return nil },
					func(_ context.Context, c *Counter) error { c.N++; return nil })
				assert.ErrorContains(t, err, text, table)
				assert.NotErrorIs(t, err, raceproof.ErrNotFound, table)
				assert.Equal(t, table == "left_out", isConflict(err), table)
				return err
			}
			assert.Error(t, upsert(minute(t)))
			assert.Error(t, w.DB.Transact(minute(t), func(ctx context.Context) error { runs++; return upsert(ctx) }))
			assert.Equal(t, []int{2, 1}, []int{creates, runs}, table)
			assert.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
				_ = upsert(ctx)
				return exec(ctx, w, `UPDATE players SET level = level + 1 WHERE id = 8`)
			}), "the transaction goes on")
			var n int
			require.NoError(t, w.Look.Get(&n, `SELECT count(*) FROM `+table))
			assert.Zero(t, n, table)
		}
		assert.EqualValues(t, len(says), w.Row(8).Level)
	})
}
