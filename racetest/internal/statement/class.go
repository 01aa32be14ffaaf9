package statement

import (
	"slices"
	"strings"

	"github.com/raceproof/raceproof/racetest/internal/search"
)

// Does is what a statement does to the transaction of its connection.
type Does int

// What it can do.
const (
	Nothing  Does = iota
	Begins        // it begins a transaction
	Ends          // it commits or rolls back
	Settings      // it changes only how the connection behaves, and what it does is not seen by anybody else
)

// An Info says what a statement is.
type Info struct {
	Class   search.Class // of an end of a transaction: Write; what it was made of decides
	Does    Does
	Several bool // the text has more than one statement
	Undoes  bool // it is a ROLLBACK of the whole transaction

	Savepoint string // that stands for a BEGIN; left to those who know the database
}

// Of reads a text.
func Of(text string) Info {
	tokens := scan(text)
	doubt := slices.ContainsFunc(tokens, doubtful)
	tokens = slices.DeleteFunc(tokens, func(t token) bool { return t.kind == blank })
	for len(tokens) > 0 && tokens[len(tokens)-1].text == ";" {
		tokens = tokens[:len(tokens)-1]
	}
	if slices.ContainsFunc(tokens, func(t token) bool { return t.text == ";" }) {
		return Info{Class: search.Define, Does: last(tokens), Several: true}
	}
	if len(tokens) == 0 || tokens[0].kind != word {
		return Info{Class: search.Define}
	}
	switch strings.ToUpper(tokens[0].text) {
	case "SELECT", "VALUES", "TABLE", "WITH", "SHOW", "DESCRIBE", "DESC", "EXPLAIN":
		if !doubt {
			return Info{Class: query(tokens)}
		}
	case "INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "RELEASE":
		return Info{Class: search.Write}
	case "BEGIN", "START":
		return begin(tokens)
	case "COMMIT", "END":
		return Info{Class: search.Write, Does: Ends}
	case "ROLLBACK", "ABORT":
		if has(tokens, "TO") {
			return Info{Class: search.Write} // to a savepoint: it can free locks
		}
		return Info{Class: search.Write, Does: Ends, Undoes: true}
	case "SAVEPOINT":
		return Info{Class: search.Local}
	case "SET":
		if !slices.ContainsFunc(tokens, setsMore) && !calls(tokens) {
			return Info{Class: search.Local, Does: Settings}
		}
	case "PRAGMA":
		return pragma(tokens)
	}
	return Info{Class: search.Define}
}

// setsMore tells whether a word, or a variable, is one with which SET does more than change the connection.
func setsMore(t token) bool {
	name := strings.ToUpper(strings.TrimLeft(t.text, "@"))
	return t.kind != quoted && slices.Contains([]string{"GLOBAL", "PERSIST", "PERSIST_ONLY", "PASSWORD", "CONSTRAINTS", "AUTOCOMMIT",
		"SELECT", "SNAPSHOT", "ROLE", "AUTHORIZATION", "FOR", "STATEMENT"}, name)
}

// last tells what of several statements is the last that begins or ends a transaction. The statements of a trigger do not.
func last(tokens []token) (does Does) {
	for len(tokens) > 0 {
		end := slices.IndexFunc(tokens, func(t token) bool { return t.text == ";" })
		if end < 0 {
			end = len(tokens)
		}
		switch one := tokens[:end]; {
		case end == 0:
		case one[0].is("CREATE"):
			return does
		case one[0].is("BEGIN"), one[0].is("START") && has(one, "TRANSACTION"):
			does = Begins
		case one[0].is("COMMIT"), one[0].is("END"), (one[0].is("ROLLBACK") || one[0].is("ABORT")) && !has(one, "TO"):
			does = Ends
		}
		tokens = tokens[min(end+1, len(tokens)):]
	}
	return does
}

// Savepoint returns the name of the savepoint that a statement sets or releases, "" if it does neither.
func Savepoint(text string) (name string, releases bool) {
	tokens := slices.DeleteFunc(scan(text), func(t token) bool { return t.kind == blank })
	if len(tokens) < 2 {
		return "", false
	}
	second := tokens[1]
	if releases = tokens[0].is("RELEASE"); releases && second.is("SAVEPOINT") && len(tokens) > 2 {
		second = tokens[2]
	}
	if !releases && !tokens[0].is("SAVEPOINT") {
		return "", false
	}
	return strings.ToLower(second.text), releases
}

// doubtful tells whether a token is cut in another place by some databases: what is behind it may be more than it seems.
func doubtful(t token) bool {
	switch {
	case t.kind == quoted && strings.HasPrefix(t.text, "$"): // in MySQL and SQLite it can be in a name
		return true
	case t.kind == quoted:
		mark := t.text[:1]
		return strings.Contains(t.text, `\`+mark) || len(t.text) == 1 || !strings.HasSuffix(t.text, mark)
	case t.kind == blank:
		return strings.Contains(t.text[min(2, len(t.text)):], "/*") || // one in the other, in PostgreSQL
			strings.HasPrefix(t.text, "/*!") || strings.HasPrefix(t.text, "/*M!") ||
			strings.HasPrefix(t.text, "--") && !strings.HasPrefix(t.text, "-- ")
	}
	return t.text == "#"
}

func has(tokens []token, keywords ...string) bool {
	return slices.ContainsFunc(tokens, func(t token) bool {
		return slices.ContainsFunc(keywords, t.is)
	})
}

// begin is for BEGIN and START. A transaction that sees nothing and locks nothing yet is nobody's business.
func begin(tokens []token) Info {
	switch {
	case tokens[0].is("START") && !has(tokens, "TRANSACTION"): // a replica, a slave
		return Info{Class: search.Write}
	case has(tokens, "IMMEDIATE", "EXCLUSIVE", "CONCURRENT", "SNAPSHOT", "DEFERRABLE"):
		return Info{Class: search.Write, Does: Begins}
	}
	return Info{Class: search.Local, Does: Begins}
}

// What makes a query more than one that reads. (FOR is also in SUBSTRING(x FROM 1 FOR 2), which is of no account.)
var writers = []string{"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "INTO", "FOR", "LOCK", "SHARE", "PROCEDURE", "ANALYZE"}

// Words that can stand before a parenthesis and are not functions, and functions that only compute.
var harmless = strings.Fields(`
	SELECT FROM WHERE AND OR NOT IN EXISTS ANY ALL SOME AS ON USING VALUES BETWEEN LIKE ILIKE IS CASE WHEN THEN ELSE BY HAVING
	JOIN UNION EXCEPT INTERSECT OVER PARTITION FILTER WITHIN DISTINCT LIMIT OFFSET WITH RECURSIVE MATERIALIZED LATERAL
	ARRAY ROW INTERVAL RETURNING COLLATE ESCAPE MATCH REGEXP RLIKE XOR DIV MOD VARCHAR CHAR DECIMAL NUMERIC BINARY VARBINARY
	COUNT SUM MIN MAX AVG TOTAL COALESCE IFNULL NULLIF IF IIF GREATEST LEAST ABS ROUND FLOOR CEIL CEILING SIGN POWER SQRT
	LOWER UPPER LENGTH CHAR_LENGTH OCTET_LENGTH TRIM LTRIM RTRIM SUBSTR SUBSTRING CONCAT CONCAT_WS POSITION INSTR HEX UNHEX
	CAST CONVERT TYPEOF NOW CURRENT_TIMESTAMP UNIX_TIMESTAMP FROM_UNIXTIME DATE TIME DATETIME STRFTIME JULIANDAY UNIXEPOCH
	DATE_TRUNC EXTRACT TO_TIMESTAMP TO_CHAR AGE GROUP_CONCAT STRING_AGG ARRAY_AGG JSON_AGG JSON_OBJECT JSON_ARRAY
	JSON_EXTRACT JSONB_BUILD_OBJECT JSON_BUILD_OBJECT ROW_NUMBER RANK DENSE_RANK LAG LEAD FIRST_VALUE LAST_VALUE UNNEST
	ARRAY_TO_STRING ARRAY_LENGTH CARDINALITY GENERATE_SERIES VERSION SQLITE_VERSION DATABASE SCHEMA CURRENT_DATABASE
	CURRENT_SCHEMA CURRENT_SCHEMAS CURRENT_USER USER CONNECTION_ID PG_BACKEND_PID CURRENT_SETTING TO_REGCLASS FORMAT_TYPE
	PG_GET_EXPR PG_GET_SERIAL_SEQUENCE COL_DESCRIPTION OBJ_DESCRIPTION PG_TABLE_IS_VISIBLE PRAGMA_TABLE_INFO
	PRAGMA_TABLE_XINFO MD5 ENCODE DECODE CHANGES TOTAL_CHANGES LAST_INSERT_ROWID LAST_INSERT_ID ROW_COUNT FOUND_ROWS`)

// query returns what a query does. A function that is not known might do anything.
func query(tokens []token) search.Class {
	if calls(tokens) || slices.ContainsFunc(tokens, spies) {
		return search.Define
	}
	if has(tokens, writers...) {
		return search.Write
	}
	if onlyLooks(tokens) {
		return search.Look
	}
	return search.Read
}

// spies tells whether it is a table that shows what others do, whatever that is.
func spies(t token) bool {
	name := strings.ToUpper(t.text)
	return t.kind == word && (name == "PROCESSLIST" || name == "PG_LOCKS" || strings.HasPrefix(name, "PG_STAT") || strings.HasPrefix(name, "INNODB_"))
}

// calls tells whether a function is called that is not known. One of a schema is somebody's own, whatever its name.
func calls(tokens []token) bool {
	for i, t := range tokens {
		switch {
		case t.text != "(" || i == 0:
		case tokens[i-1].kind == quoted: // a function by a quoted name, or a list of columns
			return true
		case tokens[i-1].kind != word || named(tokens, i-1):
		case !slices.ContainsFunc(harmless, tokens[i-1].is), i > 2 && tokens[i-2].text == "." && !tokens[i-3].is("PG_CATALOG"):
			return true
		}
	}
	return false
}

// Tables of catalogs that change only when tables do. Others show what is going on.
var catalogs = strings.Fields(`
	TABLES COLUMNS ENGINES STATISTICS KEY_COLUMN_USAGE TABLE_CONSTRAINTS REFERENTIAL_CONSTRAINTS CHECK_CONSTRAINTS SCHEMATA VIEWS
	PG_CLASS PG_ATTRIBUTE PG_TYPE PG_NAMESPACE PG_INDEX PG_CONSTRAINT PG_ATTRDEF PG_ENUM PG_COLLATION PG_SETTINGS PG_TABLES PG_INHERITS
	PG_DESCRIPTION PG_DATABASE PG_ROLES SQLITE_MASTER SQLITE_SCHEMA`)

// What SHOW shows of that kind.
var shown = strings.Fields(`
	VARIABLES COLUMNS FIELDS INDEX INDEXES KEYS CREATE TABLES SESSION FULL SEARCH_PATH SERVER_VERSION TRANSACTION_ISOLATION
	DEFAULT_TRANSACTION_ISOLATION STANDARD_CONFORMING_STRINGS TRANSACTION APPLICATION_NAME LOCK_TIMEOUT STATEMENT_TIMEOUT`)

// onlyLooks tells whether a query sees no row of a table that statements write: it is of the catalog, or of no table, or
// returns no row.
func onlyLooks(tokens []token) bool {
	n := len(tokens)
	switch {
	case n > 4 && tokens[n-4].is("WHERE") && tokens[n-3].text == "1" && tokens[n-2].text == "=" && tokens[n-1].text == "0":
		return true
	case tokens[0].is("SHOW"):
		return n > 1 && slices.ContainsFunc(shown, tokens[1].is) && !has(tokens, "STATUS", "PROCESSLIST")
	case tokens[0].is("DESCRIBE") || tokens[0].is("DESC"):
		return n == 2
	case !tokens[0].is("SELECT"):
		return false
	}
	list := false // of tables, which a comma goes on with
	for i, t := range tokens {
		switch {
		case t.is("FROM") || t.is("JOIN"):
			list = true
			if rest := tokens[i+1:]; len(rest) == 0 || rest[0].text != "(" && !ofCatalog(rest) {
				return false
			}
		case t.is("WHERE") || t.is("ON") || t.is("GROUP") || t.is("ORDER"):
			list = false
		case t.text == "," && list:
			return false
		}
	}
	return true
}

func ofCatalog(tokens []token) bool {
	if len(tokens) > 2 && tokens[1].text == "." {
		return (tokens[0].is("INFORMATION_SCHEMA") || tokens[0].is("PG_CATALOG")) && slices.ContainsFunc(catalogs, tokens[2].is)
	}
	own := strings.ToUpper(tokens[0].text)
	switch {
	case strings.HasPrefix(own, "PRAGMA_"):
		return slices.Contains(looks, strings.TrimPrefix(own, "PRAGMA_"))
	case strings.HasPrefix(own, "PG_"), strings.HasPrefix(own, "SQLITE_"):
		return slices.Contains(catalogs, own)
	}
	return false
}

// named tells whether the word is the name of a common table: WITH name (columns) AS.
func named(tokens []token, i int) bool {
	return i > 0 && (tokens[i-1].is("WITH") || tokens[i-1].is("RECURSIVE"))
}

// Those that change only the connection, and those that only look.
var (
	settings = []string{"BUSY_TIMEOUT", "FOREIGN_KEYS", "SYNCHRONOUS", "CACHE_SIZE", "TEMP_STORE", "CASE_SENSITIVE_LIKE",
		"RECURSIVE_TRIGGERS", "QUERY_ONLY", "DEFER_FOREIGN_KEYS", "READ_UNCOMMITTED", "MMAP_SIZE", "CELL_SIZE_CHECK"}
	looks = []string{"TABLE_INFO", "TABLE_XINFO", "TABLE_LIST", "INDEX_LIST", "INDEX_INFO", "INDEX_XINFO", "FOREIGN_KEY_LIST",
		"DATABASE_LIST", "COLLATION_LIST", "COMPILE_OPTIONS", "USER_VERSION", "SCHEMA_VERSION", "JOURNAL_MODE", "PAGE_SIZE"}
)

func pragma(tokens []token) Info {
	rest := tokens[1:]
	if len(rest) > 2 && rest[1].text == "." {
		rest = rest[2:]
	}
	if len(rest) == 0 {
		return Info{Class: search.Define}
	}
	sets := slices.ContainsFunc(rest, func(t token) bool { return t.text == "=" || t.text == "(" })
	switch {
	case slices.ContainsFunc(settings, rest[0].is):
		return Info{Class: search.Local, Does: Settings}
	case !slices.ContainsFunc(looks, rest[0].is):
	case !sets, strings.Contains(strings.ToUpper(rest[0].text), "INFO"), strings.HasSuffix(strings.ToUpper(rest[0].text), "LIST"):
		return Info{Class: search.Look}
	}
	return Info{Class: search.Define}
}
