package dialect

import (
	"database/sql"
	"strings"
)

// postgres is PostgreSQL, and what speaks its protocol and its SQL: CockroachDB, YugabyteDB.
var postgres = &Dialect{
	Name:     "postgres",
	Drivers:  []string{"pgx", "pgx/v5", "postgres"},
	packages: []string{"github.com/jackc/pgx/v5/stdlib", "github.com/lib/pq"},
	stubborn: []string{"github.com/lib/pq"},

	quote:    '"',
	numbered: true,

	transactions: transactions{
		Begin: "BEGIN",
		levels: map[sql.IsolationLevel]string{
			sql.LevelReadCommitted:  " ISOLATION LEVEL READ COMMITTED",
			sql.LevelRepeatableRead: " ISOLATION LEVEL REPEATABLE READ",
			sql.LevelSerializable:   " ISOLATION LEVEL SERIALIZABLE",
		},
		beginReadOnly: "BEGIN READ ONLY",
		Probe:         "SAVEPOINT raceproof_probe; RELEASE SAVEPOINT raceproof_probe",
		// COMMIT of a transaction that an error has aborted rolls it back and reports success, and outside a transaction it
		// is a mere warning (https://www.postgresql.org/docs/current/sql-commit.html). SAVEPOINT fails in both, and the rest
		// of a message is not executed after an error.
		CommitChecked: "SAVEPOINT raceproof_commit; COMMIT",
		ErrorsAbort:   true,
	},
	waits: waits{
		WaitLimit: "SELECT setting FROM pg_settings WHERE name = 'lock_timeout'",
		// Statements without parameters travel together.
		setWaiting: "; SET LOCAL lock_timeout = %d",
		// Evaluated once, before any row is locked, and in force to the end of the statement's own transaction.
		waiting: [2]Fragment{" AND (SELECT set_config('lock_timeout', ", ", true)) IS NOT NULL"},
	},
	locks: locks{
		// Unlike FOR UPDATE it lets others insert rows that refer to this one by a foreign key
		// (https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS).
		Lock: " FOR NO KEY UPDATE",
		strengths: map[Strength]Fragment{
			KeyShare:    " FOR KEY SHARE",
			Share:       " FOR SHARE",
			NoKeyUpdate: " FOR NO KEY UPDATE",
			Update:      " FOR UPDATE",
		},
		of:         " OF ",
		noWait:     " NOWAIT",
		skipLocked: " SKIP LOCKED",
		RowAtOnce:  2, // one has it, and the next waits for it without a round trip in between
	},
	writes: writes{
		Arrays:          true,
		Reorders:        true,
		unlessThere:     [2]Fragment{" ON CONFLICT (", ") DO NOTHING"},
		Returning:       true,
		ReturningInside: true,
		Columns: func(s *SQL, table string) {
			s.Add("SELECT attname, format_type(atttypid, NULL), NOT attnotnull FROM pg_attribute" +
				" WHERE attnum > 0 AND NOT attisdropped AND attrelid = to_regclass(").Value(quoted(table)).Add(")")
		},
		// An UPDATE of a table that others inherit from reaches their rows too, which its indexes do not.
		Uniques: func(s *SQL, table string) {
			s.Add("SELECT string_agg(attname, ',') FROM pg_index JOIN pg_class c ON c.oid = indrelid" +
				" JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY(indkey)" +
				" WHERE indisunique AND indisvalid AND indimmediate AND indpred IS NULL AND indexprs IS NULL" +
				" AND (relkind = 'p' OR NOT EXISTS (SELECT 1 FROM pg_inherits WHERE inhparent = indrelid)) AND indrelid = to_regclass(").
				Value(quoted(table)).Add(") GROUP BY indexrelid")
		},
		Plain:   plainPostgres,
		Storage: storagePostgres,
	},
	arithmetic: arithmetic{
		whole:     [2]Fragment{"CAST(", " AS bigint)"}, // of a NUMERIC(20, 0), for example
		Quotient:  " / ",
		decimal:   [2]string{"CAST(", " AS numeric)"},
		fractions: true,
	},
	storage: storage{
		Keys:    "BYTEA",
		Bytes:   "BYTEA",
		Instant: "TIMESTAMPTZ",
		Now:     "clock_timestamp()",
		Ago:     [2]Fragment{"clock_timestamp() - ", " * interval '1 microsecond'"},
		Until:   [2]Fragment{"CAST(EXTRACT(EPOCH FROM ", " - clock_timestamp()) * 1000000 AS bigint)"},

		Unlocked: " FOR UPDATE SKIP LOCKED",

		IndexIfNotExists: true,
		OrNothing:        " ON CONFLICT DO NOTHING",
		DeleteByKey:      [2]Fragment{"DELETE FROM ", ""},
		Upkeep:           sql.LevelReadCommitted,
	},
	errors: postgresErrors{},
}

// quoted is a table's name as to_regclass reads it.
func quoted(table string) string { return `"` + strings.ReplaceAll(table, ".", `"."`) + `"` }

// PostgreSQL's error codes (https://www.postgresql.org/docs/current/errcodes-appendix.html).
const (
	pgSerializationFailure = "40001"
	pgDeadlockDetected     = "40P01"
	pgCompletionUnknown    = "40003"
	pgResolutionUnknown    = "08007"
	pgLockNotAvailable     = "55P03"
	pgNumericOutOfRange    = "22003"
	pgDivisionByZero       = "22012"
	pgStringTooLong        = "22001"
	pgDatetimeOutOfRange   = "22008"
	pgIntervalOutOfRange   = "22015"
	pgUniqueViolation      = "23505"
	pgDuplicateTable       = "42P07"
	pgDuplicateObject      = "42710"
	pgSystemError          = "58"
	pgInternalError        = "XX"
	pgConnectionException  = "08"
	pgQueryCanceled        = "57014"
	pgCrashShutdown        = "57P02"
	pgOperatorIntervention = "57P"
	pgNoActiveTransaction  = "25P01"
)

type postgresErrors struct{}

func (postgresErrors) class(err error) Class {
	state, _ := sqlState(err)
	switch state {
	case pgSerializationFailure, pgDeadlockDetected:
		return Conflict
	case pgLockNotAvailable:
		return Busy
	case pgNumericOutOfRange, pgDivisionByZero, pgStringTooLong, pgDatetimeOutOfRange, pgIntervalOutOfRange:
		return OutOfRange
	}
	return Other
}

// Every error aborts the transaction, and none ends it: what follows is refused until it is rolled back.
func (postgresErrors) endsTransaction(error) bool { return false }

// An error that the server has sent means that the transaction was aborted, but for those that say that they do not
// know, and for those of a server that fails as it commits.
func (postgresErrors) refused(err error) bool {
	state, ok := sqlState(err)
	if !ok {
		return false
	}
	switch state {
	case pgCompletionUnknown, pgResolutionUnknown, pgQueryCanceled, pgCrashShutdown:
		return false
	}
	return !strings.HasPrefix(state, pgSystemError) && !strings.HasPrefix(state, pgInternalError) &&
		!strings.HasPrefix(state, pgConnectionException)
}

func (postgresErrors) canceled(err error) bool {
	state, _ := sqlState(err)
	return state == pgQueryCanceled
}

func (postgresErrors) outside(probe error) bool {
	state, _ := sqlState(probe)
	return state == pgNoActiveTransaction
}

func (postgresErrors) fromServer(err error) bool {
	_, ok := sqlState(err)
	return ok
}

func (postgresErrors) endsConnection(err error) bool {
	state, _ := sqlState(err)
	return strings.HasPrefix(state, pgOperatorIntervention) || strings.HasPrefix(state, pgConnectionException)
}

func (postgresErrors) exists(err error) bool {
	state, _ := sqlState(err)
	return state == pgUniqueViolation || state == pgDuplicateTable || state == pgDuplicateObject
}

func (postgresErrors) duplicate(err error) bool {
	state, _ := sqlState(err)
	return state == pgUniqueViolation
}
