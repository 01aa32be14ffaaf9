// Package raceproof changes rows that many callers may change at once.
//
// A row that is read, computed on and written back loses updates as soon as two callers do it at the same time: the
// second write undoes the first, without an error. raceproof has the known ways to prevent that, one package each, all
// behind the one interface [Updater]:
//
//   - package lock holds the row's lock from the read to the commit; any Go function can compute the change.
//   - package optimistic reads without a lock and writes only if the row's version is still the one it read, and else
//     starts again; any Go function that can be run more than once.
//   - package atomic has the database compute the change, in one statement.
//
// [DB.Transact] puts several updates and other statements into one transaction, and makes all of it again if the database
// refuses it because of another one. Package once does work exactly once per key, also if the answer to its COMMIT is lost.
// Package lease holds a name for longer than a transaction, for one process at a time or for a number of them.
//
// A [Table] says once how a struct is laid over a table, a [DB] wraps the service's own pool of connections, and [Bind]
// gives updaters of different patterns one argument type, so that a service can depend on an Updater and choose the
// pattern where it is wired up.
//
// # What every updater promises
//
//   - No update is lost, whichever patterns of this library change a row at the same time, in one process or in many.
//     A writer that does not use it must raise the version column, or else optimistic cannot notice it. On a Galera
//     cluster where several nodes write one row, see [WithoutPreparing].
//   - An error means that nothing was changed, unless it wraps [ErrCommitUnknown]: the answer to a COMMIT that got lost on a
//     network. The zero row is returned with it.
//   - Only the columns that changed are written, and the version; columns that the struct does not map are not touched.
//   - A table's version column, if it has one, rises with every change, whichever pattern made it.
//   - Panics and runtime.Goexit in a caller's function roll back, release what was held, and go on.
//   - A context that ends is noticed while waiting for a turn, a connection or a lock. The error then wraps the
//     context's error and its cause, and also [ErrLocked] if it is known that it was a lock that was waited for.
//   - Every call returns within about a tenth of a second of the end of its context, also if a server does not answer any
//     more, but for the time that a caller's own functions take.
//   - A context that carries a transaction of the same DB makes the update part of it, see [DB.Transact].
//
// # PostgreSQL and MariaDB
//
// Rows are locked one by one, and callers of other rows do not meet. Every write runs on a connection of its own, never
// through the pool's own Exec or Query, which can send a statement a second time; so do reads.
//
// Give contexts a deadline. With one the server gives up waiting for a lock in time, and says so: on PostgreSQL to the
// millisecond (lock_timeout, for the statement or the transaction alone), on MariaDB (innodb_lock_wait_timeout) after whole
// seconds, so that there the connection is given up when the deadline comes first, and the server notices up to twice as
// late. MySQL has no such limit for a single statement: there it notices when innodb_lock_wait_timeout is over, 50 seconds
// unless it is set otherwise. A smaller limit that the connection is set to stays in force.
//
// On PostgreSQL a write by atomic or optimistic is one statement and a transaction of its own, one round trip, if the table's
// key is unique, as an index says, and every column has a field that holds all its values: int64 for BIGINT NOT NULL,
// *string for a TEXT that can be NULL; a time can be infinite, which no time.Time is. Of other tables, and on MariaDB, which has
// no UPDATE ... RETURNING, the update and the reading back are an explicit transaction: BEGIN, UPDATE, SELECT, COMMIT. While
// somebody locks the whole table (ALTER TABLE, LOCK TABLE), the one statement waits until its context ends, and the error
// is then ErrCommitUnknown too.
//
// On MariaDB connections with their prepared statements stay out of the pool for up to 20 milliseconds from one update to
// the next, and about a second under steady use; if the pool has no other left, for 20 milliseconds, and only while other
// updates wait for one. [WithoutPreparing] turns that off.
//
// On MariaDB and MySQL the connections must be in strict mode, with autocommit, without completion_type CHAIN and above READ
// UNCOMMITTED, and the tables of a storage engine with transactions. What is otherwise is refused.
//
// # SQLite
//
// SQLite has one write lock for the whole database. The writers of one DB wait for it in this process, first come
// first served and without a connection; writers outside of it, in other processes or on other handles, are waited for
// by trying again until the context ends or, if it cannot end, for as long as the connection's busy_timeout says.
// Give requests a deadline: a context that can be cancelled but never is waits for as long as the lock is held.
// Make one DB per pool, and one pool per file.
//
// The connection that writers use stays out of the pool from one update to the next, with its statements prepared: for up
// to 20 milliseconds after the last update, for about a second under steady use, and not if it is the last that the pool
// has. [DB.Close] gives it back at once; call it before the pool's Close. Readers of several rows at once, and the service's
// own statements, profit from mattn/go-sqlite3's own cache of statements: _stmt_cache_size=64 in the DSN.
package raceproof
