package dialect

import (
	"math"
	"strings"
)

// A Storage is what the columns of a type of the database hold exactly. The zero value holds nothing.
type Storage struct {
	Integers bool // from Min to Max
	Min      int64
	Max      uint64

	Bools bool
	Texts bool // all that are valid UTF-8, without a NUL
}

// integers returns a Storage for integers of so many bits.
func integers(bits int) Storage {
	return Storage{Integers: true, Min: -1 << (bits - 1), Max: 1<<(bits-1) - 1}
}

// PostgreSQL moves a long text out of its row, where 18 bytes of it are left. With many columns, or with some that stay in
// the row whatever their length, the row can be too long all the same. A text in an index is not moved. Other databases that
// speak PostgreSQL's protocol need not list their triggers where it does.
func plainPostgres(s *SQL, table string) {
	s.Add("SELECT attname, CASE WHEN typnamespace = 'pg_catalog'::regnamespace AND atttypmod = -1 THEN typname ELSE '' END," +
		" attidentity = '' AND NOT EXISTS (SELECT 1 FROM pg_index WHERE indrelid = c.oid AND attnum = ANY(indkey)" +
		" AND (indisunique OR indisexclusion OR EXISTS (SELECT 1 FROM unnest(indclass) k WHERE k >= 16384)))" + // not built in
		" AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = c.oid AND (attnum = ANY(conkey) AND contype IN ('f', 'p', 'u', 'x')))," +
		" relnatts <= 100 AND getdatabaseencoding() = 'UTF8'" +
		" AND NOT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = c.oid AND attlen = -1 AND attstorage = 'p')" +
		" AND NOT EXISTS (SELECT 1 FROM pg_index WHERE indrelid = c.oid AND attnum = ANY(indkey))" +
		" FROM pg_class c JOIN pg_attribute ON attrelid = c.oid JOIN pg_type t ON t.oid = atttypid" +
		" WHERE attnum > 0 AND NOT attisdropped AND relkind = 'r' AND relpersistence <> 't' AND NOT relrowsecurity" +
		" AND version() LIKE 'PostgreSQL %'" +
		" AND NOT EXISTS (SELECT 1 FROM pg_attribute WHERE attrelid = c.oid AND attgenerated <> '')" +
		" AND NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal AND tgtype & 16 <> 0)" + // for UPDATE
		" AND NOT EXISTS (SELECT 1 FROM pg_rewrite WHERE ev_class = c.oid)" +
		" AND NOT EXISTS (SELECT 1 FROM pg_inherits WHERE c.oid IN (inhrelid, inhparent))" +
		" AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = c.oid AND contype = 'c')" +
		" AND NOT EXISTS (SELECT 1 FROM pg_index WHERE indrelid = c.oid AND (indexprs IS NOT NULL OR indpred IS NOT NULL))" +
		" AND c.oid = to_regclass(").Value(quoted(table)).Add(")")
}

func storagePostgres(typ string) Storage {
	switch typ {
	case "int2":
		return integers(16)
	case "int4":
		return integers(32)
	case "int8":
		return integers(64)
	case "bool":
		return Storage{Bools: true}
	case "text", "varchar":
		return Storage{Texts: true}
	}
	return Storage{}
}

// InnoDB lets a foreign key refer to any index, also from a table that the user may not see. Servers of some versions list no
// trigger to whoever has not the privilege for it, so that a table without any is told only to who has; nor a CHECK to who has
// it for this table alone, nor a generated column to who has privileges for some columns. Of the privileges
// granted on databases by patterns the most specific is in force, and those of a role are not listed. MySQL has other columns
// in its catalogue, and says so.
func plainMySQL(s *SQL, table string) {
	schema, name, qualified := strings.Cut(table, ".")
	if !qualified {
		name = schema
	}
	of := func(before, after Fragment) *SQL {
		s.Add(before)
		if qualified {
			s.Value(schema)
		} else {
			s.Add("DATABASE()")
		}
		return s.Add(after).Value(name)
	}
	const grantee = "grantee = CONCAT('''', REPLACE(CURRENT_USER(), '@', '''@'''), '''')"
	of("SELECT c.column_name, c.column_type, k.name IS NULL, FALSE FROM information_schema.columns c"+
		" LEFT JOIN (SELECT column_name name FROM information_schema.statistics WHERE table_schema = ", " AND table_name = ")
	of(" UNION SELECT column_name FROM information_schema.key_column_usage WHERE table_schema = ", " AND table_name = ").
		Add(") k ON k.name = c.column_name")
	of(" WHERE c.table_schema = ", " AND c.table_name = ")
	// Not joined: the server would open all tables that it has, and wait for each that is being altered.
	of(" AND EXISTS (SELECT 1 FROM information_schema.tables WHERE table_schema = ", " AND table_name = ").
		Add(" AND table_type = 'BASE TABLE' AND engine = 'InnoDB' AND create_options NOT LIKE '%partition%') AND VERSION() LIKE '%MariaDB%'")
	of(" AND NOT EXISTS (SELECT 1 FROM information_schema.columns WHERE table_schema = ", " AND table_name = ").
		Add(" AND (is_generated <> 'NEVER' OR extra LIKE '%on update%'))")
	of(" AND NOT EXISTS (SELECT 1 FROM information_schema.check_constraints WHERE constraint_schema = ", " AND table_name = ").Add(")")
	of(" AND NOT EXISTS (SELECT 1 FROM information_schema.triggers WHERE event_object_schema = ", " AND event_object_table = ").
		Add(" AND event_manipulation LIKE '%UPDATE%')")
	of(" AND NOT EXISTS (SELECT 1 FROM information_schema.column_privileges WHERE table_schema = ", " AND table_name = ").
		Add(" AND " + grantee + ")")
	s.Add(" AND (EXISTS (SELECT 1 FROM information_schema.user_privileges WHERE privilege_type = 'TRIGGER' AND " + grantee + ")")
	// As many of the matching names as there are have it.
	s.Add(" OR (SELECT COUNT(DISTINCT p.table_schema) > 0 AND COUNT(DISTINCT p.table_schema) =" +
		" COUNT(DISTINCT CASE WHEN privilege_type = 'TRIGGER' THEN p.table_schema END)" +
		" FROM information_schema.schema_privileges p WHERE " + grantee + " AND ")
	if qualified {
		s.Value(schema)
	} else {
		s.Add("DATABASE()")
	}
	s.Add(" LIKE p.table_schema ESCAPE CHAR(92)))") // whatever the sql_mode
}

var mysqlIntegers = map[string]int{"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}

// storageMySQL reads types such as "int(10) unsigned zerofill".
func storageMySQL(typ string) Storage {
	name, rest, _ := strings.Cut(strings.ToLower(typ), "(")
	name, more, _ := strings.Cut(name, " ")
	bits := mysqlIntegers[name]
	switch {
	case bits == 0:
		return Storage{}
	case strings.Contains(rest+more, "unsigned"):
		return Storage{Integers: true, Max: math.MaxUint64 >> (64 - bits)}
	}
	return integers(bits)
}

// A trigger of one connection alone is seen on that only. GLOB looks for a word, which can be part of no name.
func plainSQLite(s *SQL, table string) {
	schema, name, qualified := strings.Cut(table, ".")
	if !qualified {
		schema, name = "main", schema
	}
	master := schema + ".sqlite_master"
	// The tables with their foreign keys: all of them, as other tables can refer to columns of this one.
	keys := func(column, of Fragment) {
		s.Add(" AND c.name COLLATE NOCASE NOT IN (SELECT ").Add(column).Add(" FROM ").Name(master).Add(" o, pragma_foreign_key_list(o.name, ").
			Value(schema).Add(") f WHERE o.type = 'table' AND o.rootpage > 0 AND ").Add(of).Add(" = m.name COLLATE NOCASE AND ").
			Add(column).Add(" IS NOT NULL)")
	}
	index := func(which Fragment) {
		s.Add(" FROM pragma_index_list(m.name, ").Value(schema).Add(") i, pragma_index_xinfo(i.name, ").Value(schema).Add(") x WHERE ").Add(which)
	}
	s.Add("SELECT c.name, c.type, c.pk = 0 AND c.name NOT IN (SELECT x.name")
	index("i.[unique] AND x.[key] AND x.name IS NOT NULL)")
	keys("f.[from]", "o.name")
	keys("f.[to]", "f.[table]")
	s.Add(", c.name NOT IN (SELECT x.name")
	index("x.[key] AND x.name IS NOT NULL)")
	s.Add(" FROM ").Name(master).Add(" m, pragma_table_xinfo(m.name, ").Value(schema).Add(") c WHERE m.type = 'table' AND m.rootpage > 0 AND m.name = ").
		Value(name).Add(" COLLATE NOCASE" +
		" AND NOT ' ' || upper(m.sql) || ' ' GLOB '*[^A-Z0-9_]CHECK[^A-Z0-9_]*'" +
		" AND NOT EXISTS (SELECT 1 FROM pragma_table_xinfo(m.name, ").Value(schema).Add(") WHERE hidden <> 0)" +
		" AND NOT EXISTS (SELECT 1")
	index("i.partial OR x.cid = -2)") // an expression
	s.Add(" AND NOT EXISTS (SELECT 1 FROM ").Name(master).Add(" WHERE type = 'trigger' AND tbl_name = m.name COLLATE NOCASE)" +
		" AND NOT EXISTS (SELECT 1 FROM temp.sqlite_master WHERE tbl_name = m.name COLLATE NOCASE)")
}

// storageSQLite knows an integer by the affinity of its type (https://www.sqlite.org/datatype3.html#determination_of_column_affinity).
// Of texts it must be TEXT itself: out of a column of another type some drivers make a time of what looks like one.
func storageSQLite(typ string) Storage {
	switch typ = strings.ToUpper(typ); {
	case strings.Contains(typ, "INT"):
		return integers(64)
	case typ == "TEXT":
		return Storage{Texts: true}
	}
	return Storage{}
}
