package plain_test

import (
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
)

// schema returns the name of the schema that a database's tables are in.
func schema(t *testing.T, d databases.Database, pool *sqlx.DB) (name string) {
	t.Helper()
	query := map[servers.Kind]string{"": "SELECT 'main'", servers.Postgres: "SELECT current_schema", servers.MariaDB: "SELECT DATABASE()"}[d.Kind]
	require.NoError(t, pool.Get(&name, query))
	return name
}

// A table is asked about in the schema that it is in, and not those of the same name in others.
func TestSchemas(t *testing.T) {
	each(t, func(t *testing.T, d databases.Database, one *sqlx.DB) {
		other := one
		names := []string{schema(t, d, one), "other"}
		if d.Kind == "" {
			one.SetMaxOpenConns(1) // only that has what is attached
			run(t, one, "ATTACH ':memory:' AS other")
		} else {
			other = d.Open(t, databases.Options{})
			names[1] = schema(t, d, other)
		}
		db := opened(t, one)
		in := func(i int) string { return strings.Replace(things, "things", names[i]+".things", 1) }
		for i, pool := range []*sqlx.DB{one, other} {
			run(t, pool, in(i)+", UNIQUE (n))")
			p := plainOf[thing](t, db, names[i]+".things")
			assert.True(t, p.Integer(theN))
			assert.False(t, p.Any())
		}
		assert.False(t, plainOf[thing](t, db, "things").Any())
		run(t, one, "DROP TABLE "+names[0]+".things")
		assert.False(t, plainOf[thing](t, db, "things").Integer(theN), "the other one is not meant")
		run(t, one, in(0)+")")
		assert.True(t, plainOf[thing](t, db, "things").Any())
		assert.True(t, plainOf[thing](t, db, names[0]+".things").Any())
		assert.False(t, plainOf[thing](t, db, names[1]+".things").Any())
		run(t, one, "DROP TABLE "+names[0]+".things;\nDROP TABLE "+names[1]+".things;\n"+in(1)+")")
		assert.True(t, plainOf[thing](t, db, names[1]+".things").Any())
		run(t, other, map[servers.Kind]string{
			"":               "CREATE TRIGGER other.t AFTER UPDATE ON things BEGIN SELECT 1; END",
			servers.Postgres: does + ";\nCREATE TRIGGER t AFTER UPDATE ON things FOR EACH ROW EXECUTE FUNCTION does()",
			servers.MariaDB:  "CREATE TRIGGER t BEFORE UPDATE ON things FOR EACH ROW SET NEW.n = 1",
		}[d.Kind])
		assert.False(t, plainOf[thing](t, db, names[1]+".things").Any())
	})
}

// What one connection alone has is seen on that.
func TestTemporary(t *testing.T) {
	each(t, func(t *testing.T, d databases.Database, pool *sqlx.DB) {
		pool.SetMaxOpenConns(1)
		db := opened(t, pool)
		run(t, pool, things+")")
		assert.True(t, plainOf[thing](t, db, "things").Any())
		switch d.Kind {
		case "":
			run(t, pool, "CREATE TEMP TRIGGER t AFTER UPDATE ON main.THINGS BEGIN SELECT 1; END")
			assert.False(t, plainOf[thing](t, db, "things").Any())
			run(t, pool, "DROP TRIGGER t")
			assert.True(t, plainOf[thing](t, db, "things").Any())
			run(t, pool, "CREATE TEMP TABLE things (id BIGINT PRIMARY KEY, n BIGINT, version BIGINT CHECK (version < 5))")
			assert.False(t, plainOf[thing](t, db, "temp.things").Any())
		case servers.Postgres:
			run(t, pool, "CREATE TEMP TABLE things (id BIGINT PRIMARY KEY, n BIGINT, version BIGINT)")
		case servers.MariaDB:
			return // it does not list them
		}
		assert.False(t, plainOf[thing](t, db, "things").Any())
	})
}

// Two tables can have names that differ only by case.
func TestCase(t *testing.T) {
	each(t, func(t *testing.T, d databases.Database, pool *sqlx.DB) {
		if d.Kind == "" {
			return
		}
		db := opened(t, pool)
		quote := map[servers.Kind]string{servers.Postgres: `"`, servers.MariaDB: "`"}[d.Kind]
		upper := strings.Replace(things, "things", quote+"Things"+quote, 1)
		run(t, pool, things+", CHECK (n < 5));\n"+upper+")")
		assert.False(t, plainOf[thing](t, db, "things").Any())
		assert.True(t, plainOf[thing](t, db, "Things").Any())
	})
}
