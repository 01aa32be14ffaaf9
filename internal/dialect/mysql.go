package dialect

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// mysql is MariaDB and MySQL with InnoDB, and what speaks their protocol and their SQL: Galera, TiDB.
var mysql = &Dialect{
	Name:     "mysql",
	Drivers:  []string{"mysql"},
	packages: []string{"github.com/go-sql-driver/mysql"},

	quote: '`',

	transactions: transactions{
		Begin: "START TRANSACTION",
		// Not READ UNCOMMITTED, see checkMySQL.
		levels: map[sql.IsolationLevel]string{
			sql.LevelReadCommitted:  "READ COMMITTED",
			sql.LevelRepeatableRead: "REPEATABLE READ",
			sql.LevelSerializable:   "SERIALIZABLE",
		},
		setLevel:      "SET TRANSACTION ISOLATION LEVEL ", // of the next one only
		beginReadOnly: "START TRANSACTION READ ONLY",
		// It sets what the next transaction will be, which is what it would be anyway, and is refused inside one
		// (https://mariadb.com/docs/server/reference/sql-statements/transactions/set-transaction).
		Probe:      "SET TRANSACTION READ WRITE",
		QueriesEnd: true,
		Prepares:   true,

		Settings: "SHOW VARIABLES WHERE Variable_name IN " +
			"('sql_mode', 'autocommit', 'completion_type', 'tx_isolation', 'transaction_isolation', 'version')",
		CheckSettings: checkMySQL,
	},
	waits: waits{
		// MariaDB executes such a comment; MySQL, which has no limit for a single statement, waits as long as it is set to.
		// LEAST keeps a limit of the connection's own that is smaller.
		prefix: "/*M! SET STATEMENT innodb_lock_wait_timeout=LEAST(@@innodb_lock_wait_timeout,%d), " +
			"lock_wait_timeout=LEAST(@@lock_wait_timeout,%d) FOR */ ",
	},
	locks: locks{
		Lock: " FOR UPDATE",
		strengths: map[Strength]Fragment{
			Share:  " LOCK IN SHARE MODE", // MariaDB has no FOR SHARE
			Update: " FOR UPDATE",
		},
		noWait:       " NOWAIT",
		skipLocked:   " SKIP LOCKED",
		waitSeconds:  " WAIT %d",
		withoutLimit: withoutLimit,
		GapsLocked:   true,
		RowAtOnce:    4, // it gives the lock away before the commit is on disk, so that several commits share one fsync
	},
	writes: writes{
		// After the error of a plain INSERT the row is locked against writers only, and two who then want to write it wait for
		// each other. This locks it as UPDATE does
		// (https://dev.mysql.com/doc/refman/8.4/en/innodb-locks-set.html).
		unlessThere:   [2]Fragment{" ON DUPLICATE KEY UPDATE "},
		SkipsAny:      true,
		CountsChanged: true,
		LeftToRight:   true,
		KeyIndex: func(s *SQL, table, column string) {
			schema, name, qualified := strings.Cut(table, ".")
			s.Add("SELECT MIN(index_name) FROM information_schema.statistics WHERE table_schema = ")
			if qualified {
				s.Value(schema)
			} else {
				s.Add("DATABASE()")
				name = schema
			}
			s.Add(" AND table_name = ").Value(name).Add(" AND non_unique = 0 GROUP BY index_name HAVING COUNT(*) = 1 AND MAX(column_name) = ").Value(column)
		},
		useIndex: [2]Fragment{" FORCE INDEX (", ")"},
		Transactional: func(s *SQL, table string) {
			schema, name, qualified := strings.Cut(table, ".")
			s.Add("SELECT t.engine, e.transactions FROM information_schema.tables t JOIN information_schema.engines e ON e.engine = t.engine" +
				" WHERE t.table_schema = ")
			if qualified {
				s.Value(schema)
			} else {
				s.Add("DATABASE()")
				name = schema
			}
			s.Add(" AND t.table_name = ").Value(name)
		},
		FoldsNames: true,
		Plain:      plainMySQL,
		Storage:    storageMySQL,
	},
	values: values{
		NoNaN:      true,
		NoInfinity: true,
	},
	arithmetic: arithmetic{
		// A division by zero yields NULL, or an error, by the connection's mode; an overflow is always an error.
		zeroGuard: [3]Fragment{"CASE ", " WHEN 0 THEN 9223372036854775807 + 1 ELSE ", " END"},
		modGuard:  [3]Fragment{"CASE ", " WHEN 0 THEN 9223372036854775807 + 1 ELSE ", " END"},
		Quotient:  " DIV ",
		decimal:   [2]string{"CAST(", " AS DECIMAL(65,%d))"},
		fractions: true,
	},
	storage: storage{
		Keys:    "VARBINARY(255)", // texts are compared without regard to case, and to spaces at their ends
		Bytes:   "LONGBLOB",
		Instant: "DATETIME(6)", // of UTC
		Now:     "UTC_TIMESTAMP(6)",
		Ago:     [2]Fragment{"UTC_TIMESTAMP(6) - INTERVAL ", " MICROSECOND"},
		Until:   [2]Fragment{"TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), ", ")"},
		Engine:  " ENGINE=InnoDB",

		Unlocked:  " FOR UPDATE SKIP LOCKED",
		WritesOut: true, // a Galera cluster loses updates by prepared statements

		Latest: " LOCK IN SHARE MODE",
		// Only the syntax for several tables takes the name of an index. Without one a small table is looked through as a
		// whole, which waits for every row that somebody has locked.
		DeleteByKey: [2]Fragment{"DELETE t FROM ", " AS t FORCE INDEX (PRIMARY)"},
		Upkeep:      sql.LevelReadCommitted, // REPEATABLE READ locks gaps
	},
	errors: mysqlErrors{},
}

// checkMySQL refuses what would make the server do something else than it is asked for, without an error.
func checkMySQL(settings map[string]string) error {
	isolation := settings["tx_isolation"] + settings["transaction_isolation"] // the one's or the other's name
	switch {
	// Outside of strict mode a value that is too large is cut off, and a division by zero is NULL, with a warning that nobody
	// sees (https://mariadb.com/docs/server/server-management/variables-and-modes/sql_mode).
	case !strings.Contains(settings["sql_mode"], "STRICT_"):
		return fmt.Errorf("sql_mode is %q: without STRICT_TRANS_TABLES or STRICT_ALL_TABLES the server stores another value "+
			"in the place of one that a column cannot hold, and says nothing", settings["sql_mode"])
	case settings["autocommit"] != "ON":
		return fmt.Errorf("autocommit is %s: every read would begin a transaction, and those behind it would be shown old rows",
			settings["autocommit"])
	case settings["completion_type"] != "NO_CHAIN":
		return fmt.Errorf("completion_type is %s: every COMMIT would begin another transaction", settings["completion_type"])
	case strings.Contains(isolation, "READ-UNCOMMITTED"):
		return errors.New("the isolation level is READ UNCOMMITTED: what is read there can be taken back")
	}
	return nil
}

// withoutLimit: MySQL has neither SELECT ... WAIT nor SET STATEMENT, and would wait for as long as it is set to.
func withoutLimit(settings map[string]string) string {
	if version := settings["version"]; !strings.Contains(version, "MariaDB") {
		return "MySQL " + version
	}
	return ""
}

// Errors of MariaDB and MySQL (https://mariadb.com/docs/server/reference/error-codes,
// https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html).
const (
	myServerShutdown         = 1053
	myCheckread              = 1020 // record has changed since last read
	myUnknownCommand         = 1047 // Galera: the node has no quorum
	myDuplicateEntry         = 1062
	myLockWaitTimeout        = 1205
	myDeadlock               = 1213
	myOutOfRange             = 1264
	myReadOnlyOption         = 1290
	myForeignKeyParent       = 1451
	myForeignKeyChild        = 1452
	myDivisionByZero         = 1365
	myDataTooLong            = 1406
	myDataOutOfRange         = 1690
	myReadOnlyTransaction    = 1792
	myReadOnlyMode           = 1836
	myQueryInterrupted       = 1317
	myStatementTimeout       = 1969
	myConnectionKilled       = 1927
	myRolledBackDuringCommit = 3101
	myLockNowait             = 3572
	myConstraintFailed       = 4025
)

type mysqlErrors struct{}

func (mysqlErrors) class(err error) Class {
	code, _ := number(err)
	switch code {
	case myCheckread, myDeadlock, myRolledBackDuringCommit:
		return Conflict
	case myLockWaitTimeout, myLockNowait:
		return Busy
	case myOutOfRange, myDivisionByZero, myDataTooLong, myDataOutOfRange:
		return OutOfRange
	}
	return Other
}

// The server has rolled the whole transaction back, and would execute what follows as transactions of their own.
func (mysqlErrors) endsTransaction(err error) bool {
	code, _ := number(err)
	return code == myCheckread || code == myDeadlock || code == myRolledBackDuringCommit
}

// Of a COMMIT only these errors are known to mean that nothing was committed.
func (mysqlErrors) refused(err error) bool {
	code, _ := number(err)
	switch code {
	case myCheckread, myDeadlock, myRolledBackDuringCommit, myLockWaitTimeout, myUnknownCommand, myDuplicateEntry,
		myReadOnlyOption, myReadOnlyTransaction, myReadOnlyMode, myForeignKeyParent, myForeignKeyChild, myConstraintFailed:
		return true
	}
	return false
}

func (mysqlErrors) canceled(err error) bool {
	code, _ := number(err)
	return code == myQueryInterrupted || code == myStatementTimeout
}

func (mysqlErrors) outside(probe error) bool { return probe == nil }

func (mysqlErrors) fromServer(err error) bool {
	_, ok := number(err)
	return ok
}

func (mysqlErrors) endsConnection(err error) bool {
	code, _ := number(err)
	return code == myServerShutdown || code == myConnectionKilled
}

func (mysqlErrors) exists(error) bool { return false }

func (mysqlErrors) duplicate(err error) bool {
	code, _ := number(err)
	return code == myDuplicateEntry
}
