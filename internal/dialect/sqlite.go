package dialect

import "database/sql"

// sqlite is SQLite 3.35 or newer, which has RETURNING.
var sqlite = &Dialect{
	Name:     "sqlite",
	Drivers:  []string{"sqlite3", "sqlite"},
	packages: []string{"github.com/mattn/go-sqlite3", "modernc.org/sqlite", "github.com/ncruces/go-sqlite3/driver"},

	// Not a double quote: SQLite reads "name" as a string if there is no such column, so that a misspelt column would
	// become a text instead of an error (https://www.sqlite.org/quirks.html#dblquote).
	quote: '`',

	transactions: transactions{
		// A deferred BEGIN that reads and then writes fails at once, whatever the busy timeout, if somebody else wrote in
		// between (https://www.sqlite.org/isolation.html). BEGIN IMMEDIATE takes the write lock first.
		Begin: "BEGIN IMMEDIATE",
		// There is one level, and drivers accept any.
		levels:        map[sql.IsolationLevel]string{sql.LevelSerializable: ""},
		beginReadOnly: "BEGIN DEFERRED",
		ReadOnly:      "PRAGMA query_only",
		Look:          "SELECT 1 FROM sqlite_master LIMIT 1",
		// Transactions do not nest, so a BEGIN inside one fails, and changes nothing.
		Probe: "BEGIN",
		// An interrupt, a full disk and others roll the whole transaction back
		// (https://www.sqlite.org/lang_transaction.html, "Response To Errors Within A Transaction").
		QueriesEnd: true,
		OneWriter:  true,
		InProcess:  true,
		Prepares:   true,
		Databases:  "SELECT name, coalesce(file, '') FROM pragma_database_list",
	},
	waits: waits{
		WaitLimit:    "PRAGMA busy_timeout",
		SetWaitLimit: "PRAGMA busy_timeout = %d",
	},
	locks: locks{
		RowAtOnce: 2, // one writes, and the next stands in the queue of writers
	},
	writes: writes{
		unlessThere: [2]Fragment{" ON CONFLICT (", ") DO NOTHING"},
		// In a transaction reading the row again is faster than RETURNING, which copies the row to a table of its own, and
		// sees what AFTER triggers have done.
		Returning:  true,
		FoldsNames: true,
		Plain:      plainSQLite,
		Storage:    storageSQLite,
	},
	values: values{
		TimesAreTexts: true,
		Untyped:       true,
		NoNaN:         true,
	},
	arithmetic: arithmetic{
		// An integer operation that overflows yields a REAL (https://www.sqlite.org/datatype3.html), which an INTEGER
		// column then stores. SQL outside a trigger cannot raise an error, but a blob beyond every limit is one, with a code
		// of its own; CASE evaluates it only when its turn comes.
		integerGuard: [3]Fragment{"CASE typeof(", ") WHEN 'real' THEN zeroblob(9223372036854775807) ELSE ", " END"},
		// A division by zero yields NULL.
		zeroGuard: [3]Fragment{"CASE ", " WHEN 0 THEN zeroblob(9223372036854775807) ELSE ", " END"},
		// % casts both sides to integers first, so that what overflowed and was divided can be zero to it.
		modGuard: [3]Fragment{"CASE CAST(", " AS INTEGER) WHEN 0 THEN zeroblob(9223372036854775807) ELSE ", " END"},
		// A NUMERIC column stores 7.0 as the integer 7, and integers divide without a fraction.
		real:     [2]Fragment{"CAST(", " AS REAL)"},
		Quotient: " / ",
	},
	storage: storage{
		Keys:    "BLOB",
		Bytes:   "BLOB",
		Instant: "INTEGER", // in microseconds since 1970; the clock is read to the millisecond
		Now:     "CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)",
		Ago:     [2]Fragment{"CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) - ", ""},
		Until:   [2]Fragment{"", " - CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER)"},

		IndexIfNotExists: true,
		OrNothing:        " ON CONFLICT DO NOTHING",
		DeleteByKey:      [2]Fragment{"DELETE FROM ", ""},
		Upkeep:           sql.LevelSerializable,
	},
	errors: sqliteErrors{},
}

// SQLite's primary result codes that decide something here, and one extended code (https://www.sqlite.org/rescode.html).
const (
	sqliteBusy         = 5
	sqliteLockedShared = 6 | 1<<8 // by another connection with the same cache
	sqliteTooBig       = 18
	sqliteBusySnapshot = 5 | 2<<8
	sqlitePrimaryKey   = 19 | 6<<8
	sqliteUnique       = 19 | 8<<8
)

type sqliteErrors struct{}

func (sqliteErrors) class(err error) Class {
	code, ok := number(err)
	if !ok {
		return Other
	}
	if code == sqliteBusySnapshot {
		return Conflict
	}
	switch {
	case code&0xff == sqliteBusy, code == sqliteLockedShared:
		return Busy // any other "locked" is by the connection itself
	case code&0xff == sqliteTooBig:
		return OutOfRange
	}
	return Other
}

// The probe finds out.
func (sqliteErrors) endsTransaction(error) bool { return false }

func (sqliteErrors) outside(probe error) bool { return probe == nil }

// What runs in this process tells how it ended.
func (sqliteErrors) refused(error) bool { return true }

func (sqliteErrors) canceled(error) bool { return false }

func (sqliteErrors) fromServer(error) bool { return true }

func (sqliteErrors) endsConnection(error) bool { return false }

func (sqliteErrors) duplicate(err error) bool {
	code, _ := number(err)
	return code == sqlitePrimaryKey || code == sqliteUnique
}

func (sqliteErrors) exists(error) bool { return false }
