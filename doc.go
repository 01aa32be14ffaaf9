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
// A [Table] says once how a struct is laid over a table, a [DB] wraps the service's own pool of connections, and [Bind]
// gives updaters of different patterns one argument type, so that a service can depend on an Updater and choose the
// pattern where it is wired up.
//
// # What every updater promises
//
//   - No update is lost, whichever patterns of this library change a row at the same time, in one process or in many.
//     A writer that does not use it must raise the version column, or else optimistic cannot notice it.
//   - An error means that nothing was changed. The zero row is returned with it.
//   - Only the columns that changed are written, and the version; columns that the struct does not map are not touched.
//   - A table's version column, if it has one, rises with every change, whichever pattern made it.
//   - Panics and runtime.Goexit in a caller's function roll back, release what was held, and go on.
//   - A context that ends is noticed while waiting for a turn, a connection or a lock. The error then wraps the
//     context's error and its cause, and also [ErrLocked] if it was a lock that was waited for.
//   - A context that carries a transaction of the same DB makes the update part of it, see [DB.Transact].
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
// has. [DB.Close] gives it back at once; call it before the pool's Close. Readers of several rows at once, and the service's own
// statements, profit from mattn/go-sqlite3's own cache of statements: _stmt_cache_size=64 in the DSN.
package raceproof
