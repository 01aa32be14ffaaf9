package plain_test

import (
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/tests/databases"
)

// What is granted to a user, of whose database and name the parts in braces are, and whether that is enough to be sure that he
// sees the triggers of table things.
var grants = map[string]struct {
	sql   string
	plain bool
	sees  bool
}{
	"everything everywhere": {"GRANT ALL ON *.* TO {user}", true, true},
	"triggers everywhere":   {"GRANT SELECT, UPDATE, TRIGGER ON *.* TO {user}", true, true},
	"the database":          {"GRANT ALL ON {db}.* TO {user}", true, true},
	"its like":              {"GRANT SELECT, UPDATE, TRIGGER ON {like}.* TO {user}", true, true},
	"both":                  {"GRANT ALL ON {db}.* TO {user};\nGRANT TRIGGER, UPDATE ON {like}.* TO {user}", true, true},
	"the table":             {"GRANT SELECT, UPDATE, TRIGGER ON {db}.things TO {user}", false, true},
	"the table too":         {"GRANT SELECT, UPDATE ON {db}.* TO {user};\nGRANT TRIGGER ON {db}.things TO {user}", false, true},

	"no triggers":               {"GRANT SELECT, INSERT, UPDATE, DELETE ON {db}.* TO {user}", false, false},
	"no triggers anywhere":      {"GRANT SELECT, INSERT, UPDATE, DELETE ON *.* TO {user}", false, false},
	"no triggers of the table":  {"GRANT SELECT, UPDATE ON {db}.things TO {user}", false, false},
	"triggers of another table": {"GRANT SELECT, UPDATE ON {db}.* TO {user};\nGRANT TRIGGER ON {db}.others TO {user}", false, false},
	"triggers elsewhere":        {"GRANT SELECT, UPDATE ON {db}.* TO {user};\nGRANT TRIGGER ON elsewhere.* TO {user}", false, false},
	"of another": {"GRANT SELECT, UPDATE ON *.* TO {user};\nCREATE ROLE {role};\nGRANT TRIGGER ON *.* TO {role};\n" +
		"GRANT TRIGGER ON {db}.* TO {role};\nGRANT TRIGGER ON {db}.things TO {role}", false, false},
	// The most specific is in force, and not all of them are.
	"its like only":      {"GRANT ALL ON {like}.* TO {user};\nGRANT SELECT, UPDATE ON {db}.* TO {user}", false, false},
	"its like otherwise": {"GRANT SELECT, UPDATE ON {like}.* TO {user};\nGRANT ALL ON {db}.* TO {user}", false, true},
	// The grants to a role are not listed for those who have it.
	"a role": {"GRANT SELECT, UPDATE ON {db}.* TO {user};\nCREATE ROLE {role};\nGRANT TRIGGER ON {db}.* TO {role};\n" +
		"GRANT {role} TO {user};\nSET DEFAULT ROLE {role} FOR {user}", false, true},
}

// Who may not see the triggers of a table does not know that it has none: servers of some versions list none to him.
func TestPrivileges(t *testing.T) {
	d := databases.Named("mariadb/mysql")
	for name, g := range grants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := d.Fresh(t)
			root := f.Open(databases.Options{})
			c, err := mysql.ParseDSN(f.DSN(databases.Options{}))
			require.NoError(t, err)
			// Everybody may do everything in a database whose name begins as those of other tests.
			c.DBName = "its_" + strings.TrimPrefix(c.DBName, "test_")
			c.User, c.Passwd = c.DBName, "" // that is nobody else's
			user, role, like := "'"+c.User+"'@'%'", "'"+c.User+"_r'", strings.ReplaceAll(c.DBName[:len(c.DBName)-1], "_", `\_`)+"%"
			in := strings.NewReplacer("{db}", "`"+c.DBName+"`", "{like}", "`"+like+"`", "{user}", user, "{role}", role)
			t.Cleanup(func() {
				run(t, root, in.Replace("DROP DATABASE IF EXISTS {db};\nDROP USER IF EXISTS {user};\nDROP ROLE IF EXISTS {role}"))
			})
			run(t, root, in.Replace("CREATE DATABASE {db};\nCREATE TABLE {db}.others (id BIGINT);\nCREATE USER {user};\n"+
				strings.Replace(things, "things", "{db}.things", 1)+");\n"+g.sql))

			pool, err := sqlx.Open(d.Driver, c.FormatDSN())
			require.NoError(t, err)
			defer func() { _ = pool.Close() }()
			db := opened(t, pool)
			for _, table := range []string{"things", c.DBName + ".things"} {
				assert.Equal(t, g.plain, plainOf[thing](t, db, table).Any(), table)
			}
			run(t, root, in.Replace("CREATE TRIGGER {db}.t BEFORE UPDATE ON {db}.things FOR EACH ROW SET NEW.n = 1"))
			var seen int // some servers show that there is a trigger, and not what it does
			require.NoError(t, pool.Get(&seen, "SELECT count(action_statement) FROM information_schema.triggers WHERE trigger_schema = DATABASE()"))
			assert.Equal(t, g.sees, seen == 1)
			assert.False(t, plainOf[thing](t, db, "things").Any())
		})
	}
}
