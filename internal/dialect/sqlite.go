package dialect

// sqlite is SQLite 3.35 or newer, which has RETURNING.
var sqlite = &Dialect{
	Name:    "sqlite",
	Drivers: []string{"sqlite3"},

	// Not a double quote: SQLite reads "name" as a string if there is no such column, so that a misspelt column would
	// become a text instead of an error (https://www.sqlite.org/quirks.html#dblquote).
	quote: '`',

	// A deferred BEGIN that reads and then writes fails at once, whatever the busy timeout, if somebody else wrote in
	// between (https://www.sqlite.org/isolation.html). BEGIN IMMEDIATE takes the write lock first.
	Begin: "BEGIN IMMEDIATE",
	// Transactions do not nest, so a BEGIN inside one fails, and changes nothing.
	Outside:   "BEGIN",
	OneWriter: true,
	InProcess: true,

	WaitLimit:    "PRAGMA busy_timeout",
	SetWaitLimit: "PRAGMA busy_timeout = %d",
	Databases:    "SELECT name, coalesce(file, '') FROM pragma_database_list",

	// % casts both sides to integers first, so that what overflowed and was divided can be zero to it.
	modGuard: [3]Fragment{"CASE CAST(", " AS INTEGER) WHEN 0 THEN zeroblob(9223372036854775807) ELSE ", " END"},

	TimesAreTexts: true,
	Untyped:       true,
	NaNIsNull:     true,

	// A NUMERIC column stores 7.0 as the integer 7, and integers divide without a fraction.
	real: [2]Fragment{"CAST(", " AS REAL)"},

	// An integer operation that overflows yields a REAL (https://www.sqlite.org/datatype3.html), which an INTEGER
	// column then stores. SQL outside a trigger cannot raise an error, but a blob beyond every limit is one, with a code
	// of its own; CASE evaluates it only when its turn comes.
	integerGuard: [3]Fragment{"CASE typeof(", ") WHEN 'real' THEN zeroblob(9223372036854775807) ELSE ", " END"},
	// A division by zero yields NULL.
	zeroGuard: [3]Fragment{"CASE ", " WHEN 0 THEN zeroblob(9223372036854775807) ELSE ", " END"},

	classify: classifySQLite,
}

// SQLite's primary result codes that decide something here, and one extended code (https://www.sqlite.org/rescode.html).
const (
	sqliteBusy         = 5
	sqliteLocked       = 6
	sqliteTooBig       = 18
	sqliteBusySnapshot = 5 | 2<<8
)

func classifySQLite(err error) Class {
	code, ok := code(err)
	if !ok {
		return Other
	}
	if code == sqliteBusySnapshot {
		return Conflict
	}
	switch code & 0xff {
	case sqliteBusy, sqliteLocked:
		return Busy
	case sqliteTooBig:
		return OutOfRange
	}
	return Other
}
