package plain_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/row"
	"github.com/raceproof/raceproof/tests/databases"
)

const things = "CREATE TABLE things (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, version BIGINT NOT NULL"

// A reason is why nothing, or only column n, of table things is not plain, by what makes the table; and what is nearly such a
// reason, and is none.
type reason struct{ name, sql string }

// None of these has anything to do with how the table is updated.
var harmless = map[string][]reason{
	"": {
		{"nothing", things + ", name TEXT)"},
		{"defaults", things + " DEFAULT 7, name VARCHAR(20) DEFAULT 'x')"},
		{"referred to", things + ");\nCREATE TABLE others (id BIGINT PRIMARY KEY, thing BIGINT REFERENCES things (id) ON UPDATE CASCADE)"},
		{"others' columns", things + ", a BIGINT, b BIGINT, CONSTRAINT u UNIQUE (a, b));\nCREATE TABLE n (n BIGINT PRIMARY KEY)"},
	},
	"sqlite": {
		{"an index", things + ");\nCREATE INDEX i ON things (n, version)"},
		{"names with the word", things + ", checked BIGINT, last_check BIGINT)"},
		{"without rowid", things + ") WITHOUT ROWID"},
		{"strict", "CREATE TABLE things (id INTEGER PRIMARY KEY, n INTEGER, version INTEGER) STRICT"},
		{"a name in another case", strings.ReplaceAll(strings.ToUpper(things), "BIGINT", "bigint") + ")"},
		{"another table's trigger", things + ");\nCREATE TABLE others (id BIGINT);\nCREATE TRIGGER t AFTER UPDATE ON others BEGIN SELECT 1; END"},
	},
	"postgres": {
		{"an index", things + ");\nCREATE INDEX i ON things (n, version);\nCREATE INDEX h ON things USING hash (n)"},
		{"a trigger for others", things + ");\n" + does + ";\nCREATE TRIGGER t AFTER INSERT OR DELETE ON things FOR EACH ROW EXECUTE FUNCTION does()"},
		{"another table's trigger", things + ");\n" + does + ";\nCREATE TABLE others (id BIGINT);\n" +
			"CREATE TRIGGER t AFTER UPDATE ON others FOR EACH ROW EXECUTE FUNCTION does()"},
		{"unlogged", strings.Replace(things, "TABLE", "UNLOGGED TABLE", 1) + ")"},
		{"dropped", things + ", CONSTRAINT c CHECK (n < 5), g BIGINT GENERATED ALWAYS AS (n + 1) STORED);\n" +
			"ALTER TABLE things DROP CONSTRAINT c;\nALTER TABLE things DROP g;\n" +
			"CREATE TABLE child () INHERITS (things);\nDROP TABLE child;\nCREATE RULE r AS ON UPDATE TO things DO NOTHING;\nDROP RULE r ON things"},
	},
	"mariadb": {
		{"a trigger for others", things + ");\nCREATE TRIGGER t BEFORE INSERT ON things FOR EACH ROW SET NEW.n = 1"},
		{"another table's trigger", things + ");\nCREATE TABLE others (id BIGINT);\nCREATE TRIGGER t BEFORE UPDATE ON others FOR EACH ROW SET NEW.id = 1"},
		{"another table's check", things + ");\nCREATE TABLE others (id BIGINT, CHECK (id < 5))"},
		{"a time that is kept", things + ", at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)"},
		{"invisible", things + ", x BIGINT INVISIBLE DEFAULT 0)"},
	},
}

const does = "CREATE FUNCTION does() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"

// Each of these could tell, whatever column is updated.
var ofTable = map[string][]reason{
	"": {
		{"a check", things + ", CHECK (n < 5))"},
		{"a column's check", things + ", a BIGINT CHECK (a < 5))"},
		{"a computed column", things + ", g BIGINT GENERATED ALWAYS AS (n + 1) STORED)"},
		{"a view", strings.Replace(things, "things", "real_things", 1) + ");\nCREATE VIEW things AS SELECT * FROM real_things"},
	},
	"sqlite": {
		{"a check in lower case", things + ", a BIGINT\ncheck\n(a < 5))"},
		{"a virtual column", things + ", g BIGINT AS (n + 1))"},
		{"a partial index", things + ");\nCREATE INDEX i ON things (version) WHERE n > 5"},
		{"an index of an expression", things + ");\nCREATE INDEX i ON things (abs(n))"},
		{"a trigger", things + ");\nCREATE TRIGGER t AFTER UPDATE ON things BEGIN SELECT 1; END"},
		{"a trigger of one column", things + ");\nCREATE TRIGGER t BEFORE UPDATE OF version ON THINGS BEGIN SELECT 1; END"},
		{"a virtual table", "CREATE VIRTUAL TABLE things USING rtree(id, n, version)"},
	},
	"postgres": {
		{"a check not yet valid", things + ");\nALTER TABLE things ADD CHECK (n < 5) NOT VALID"},
		{"a trigger", things + ");\n" + does + ";\nCREATE TRIGGER t AFTER UPDATE ON things FOR EACH ROW EXECUTE FUNCTION does()"},
		{"a trigger of one column", things + ");\n" + does + ";\nCREATE TRIGGER t BEFORE INSERT OR UPDATE OF version ON things" +
			" FOR EACH ROW EXECUTE FUNCTION does()"},
		{"a trigger of statements", things + ");\n" + does + ";\nCREATE TRIGGER t AFTER UPDATE ON things EXECUTE FUNCTION does()"},
		{"a trigger switched off", things + ");\n" + does + ";\nCREATE TRIGGER t AFTER UPDATE ON things FOR EACH ROW EXECUTE FUNCTION does();\n" +
			"ALTER TABLE things DISABLE TRIGGER t"},
		{"a constraint trigger", things + ");\n" + does + ";\nCREATE CONSTRAINT TRIGGER t AFTER UPDATE ON things" +
			" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION does()"},
		{"a rule", things + ");\nCREATE RULE r AS ON UPDATE TO things DO ALSO SELECT 1"},
		{"row security", things + ");\nALTER TABLE things ENABLE ROW LEVEL SECURITY"},
		{"a parent", things + ");\nCREATE TABLE child () INHERITS (things)"},
		{"a child", strings.Replace(things, "things", "parent", 1) + ");\nCREATE TABLE things (PRIMARY KEY (id)) INHERITS (parent)"},
		{"partitions", things + ") PARTITION BY RANGE (id);\nCREATE TABLE p PARTITION OF things DEFAULT"},
		{"partitions to come", things + ") PARTITION BY RANGE (id)"},
		{"a partition", strings.Replace(things, "things", "parent", 1) + ") PARTITION BY RANGE (id);\nCREATE TABLE things PARTITION OF parent DEFAULT"},
		{"a partial index", things + ");\nCREATE INDEX i ON things (version) WHERE n > 5"},
		{"an index of an expression", things + ");\nCREATE INDEX i ON things ((1 / n))"},
		{"a materialized view", strings.Replace(things, "things", "real_things", 1) + ");\nCREATE MATERIALIZED VIEW things AS SELECT * FROM real_things"},
	},
	"mariadb": {
		{"a virtual column", things + ", g BIGINT AS (n + 1) VIRTUAL)"},
		{"a document", things + ", doc JSON)"},
		{"a time of the last update", things + ", at DATETIME ON UPDATE CURRENT_TIMESTAMP)"},
		{"a trigger", things + ");\nCREATE TRIGGER t BEFORE UPDATE ON things FOR EACH ROW SET NEW.version = 1"},
		{"history", things + ") WITH SYSTEM VERSIONING"},
		{"partitions", things + ") PARTITION BY HASH (id) PARTITIONS 2"},
		{"another engine", things + ") ENGINE=Aria"},
		{"a sequence", "CREATE SEQUENCE things"},
	},
}

// Each of these could refuse a value of column n, and leaves the other column plain.
var ofColumn = map[string][]reason{
	"": {
		{"unique", things + ", UNIQUE (n))"},
		{"unique together", things + ", a BIGINT, UNIQUE (a, n))"},
		{"a unique index", things + ");\nCREATE UNIQUE INDEX i ON things (n)"},
		{"refers", "CREATE TABLE others (id BIGINT PRIMARY KEY);\n" + things + ", FOREIGN KEY (n) REFERENCES others (id))"},
		{"refers with another", "CREATE TABLE others (a BIGINT, b BIGINT, PRIMARY KEY (a, b));\n" + things +
			", a BIGINT, FOREIGN KEY (a, n) REFERENCES others (a, b))"},
		{"refers to its table", things + ", FOREIGN KEY (n) REFERENCES things (id))"},
		{"of another type", strings.Replace(things, "n BIGINT", "n NUMERIC(20,0)", 1) + ")"},
		{"with fractions", strings.Replace(things, "n BIGINT", "n DOUBLE PRECISION", 1) + ")"},
		{"a text", strings.Replace(things, "n BIGINT", "n VARCHAR(20)", 1) + ")"},
	},
	"sqlite": {
		{"referred to", things + ");\nCREATE TABLE others (id BIGINT, thing BIGINT REFERENCES Things (N))"},
		{"refers in another case", "CREATE TABLE others (id BIGINT PRIMARY KEY);\n" + things + ", FOREIGN KEY (N) REFERENCES others (id))"},
		{"of no type", strings.Replace(things, "n BIGINT", "n", 1) + ")"},
		{"in the key", "CREATE TABLE things (id BIGINT, n BIGINT, version BIGINT, PRIMARY KEY (id, n)) WITHOUT ROWID"},
		{"the key itself", "CREATE TABLE things (id BIGINT, n INTEGER PRIMARY KEY, version BIGINT)"},
	},
	"postgres": {
		{"unique later", things + ", UNIQUE (n) DEFERRABLE)"},
		{"beside a unique one", things + ", a BIGINT, UNIQUE (a) INCLUDE (n))"},
		{"excluded", things + ", EXCLUDE USING btree (n WITH =))"},
		{"an identity", strings.Replace(things, "n BIGINT NOT NULL", "n BIGINT GENERATED ALWAYS AS IDENTITY", 1) + ")"},
		{"of a domain", "CREATE DOMAIN small AS BIGINT CHECK (value < 5);\n" + strings.Replace(things, "n BIGINT", "n small", 1) + ")"},
		{"an index of one's own", "CREATE OPERATOR CLASS own FOR TYPE int8 USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =," +
			" OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 btint8cmp(int8, int8);\n" + things + ");\nCREATE INDEX i ON things (n own)"},
	},
	"mariadb": {
		// A foreign key of InnoDB's can refer to any index.
		{"an index", things + ");\nCREATE INDEX i ON things (n)"},
		{"the end of an index", things + ", a BIGINT);\nCREATE INDEX i ON things (a, n)"},
		{"refers without an index", "CREATE TABLE others (id BIGINT PRIMARY KEY);\n" + things +
			", CONSTRAINT f FOREIGN KEY (n) REFERENCES others (id));\nSET STATEMENT foreign_key_checks = 0 FOR ALTER TABLE things DROP INDEX f"},
		{"bits", strings.Replace(things, "n BIGINT", "n BIT(20)", 1) + ")"},
		{"a year", strings.Replace(things, "n BIGINT", "n YEAR", 1) + ")"},
		{"a number of digits", strings.Replace(things, "n BIGINT", "n DECIMAL(18)", 1) + ")"},
	},
}

// reasons runs a test with each table of a list that is for the database.
func reasons(t *testing.T, list map[string][]reason, test func(*testing.T, *raceproof.DB)) {
	for _, d := range databases.All() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			for _, r := range slices.Concat(list[""], list[d.Dialect]) {
				t.Run(r.name, func(t *testing.T) {
					pool := d.Open(t, databases.Options{})
					run(t, pool, r.sql)
					test(t, opened(t, pool))
				})
			}
		})
	}
}

func TestHarmless(t *testing.T) {
	reasons(t, harmless, func(t *testing.T, db *raceproof.DB) {
		p := plainOf[thing](t, db, "things")
		assert.True(t, p.Any())
		assert.True(t, p.Integer(theN))
		assert.True(t, holds(p, theN, thing{N: 1 << 40}))
		for _, other := range []int{theID, theVersion} {
			assert.False(t, holds(p, other, thing{}), "the key or the version")
		}
	})
}

func TestOfTable(t *testing.T) {
	reasons(t, ofTable, func(t *testing.T, db *raceproof.DB) {
		for _, p := range []*row.Plain{plainOf[thing](t, db, "things"), plainOf[thing](t, db, "things", raceproof.WithoutVersion())} {
			assert.False(t, p.Any())
			for _, column := range []int{theID, theN, theVersion} {
				assert.False(t, p.Integer(column))
				assert.False(t, holds(p, column, thing{}))
			}
		}
	})
}

func TestOfColumn(t *testing.T) {
	reasons(t, ofColumn, func(t *testing.T, db *raceproof.DB) {
		p := plainOf[thing](t, db, "things")
		assert.False(t, p.Any())
		assert.False(t, holds(p, theN, thing{}))
		p = plainOf[thing](t, db, "things", raceproof.WithoutVersion())
		assert.True(t, p.Any())
		assert.False(t, holds(p, theN, thing{}))
		assert.True(t, holds(p, theVersion, thing{}), "the other column")
	})
}
