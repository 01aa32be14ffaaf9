package racetest

import (
	"context"
	"strconv"
	"strings"

	"github.com/raceproof/raceproof/racetest/internal/search"
	"github.com/raceproof/raceproof/racetest/internal/statement"
	"github.com/raceproof/raceproof/racetest/internal/tap"
	"github.com/raceproof/raceproof/racetest/internal/waits"
)

// A session is what is known of a connection of an actor.
type session struct {
	conn *tap.Conn
	id   int64 // what the database calls it; 0 if it does not

	// patience is how long SQLite would wait for a lock on this connection, in milliseconds. It is set to 0 there, so that a
	// statement that would wait can be seen.
	patience int64

	inTx    bool
	began   context.Context // of its BEGIN
	class   search.Class    // of all its statements so far
	touched bool            // it has sent a statement that has read or written
	outer   string          // the savepoint that has begun it, if one has
}

// open learns what is to be known of a new connection.
func (e *environment) open(ctx context.Context, c *tap.Conn) (*session, error) {
	s := &session{conn: c}
	if e.database.ID != "" {
		id, err := c.Send(ctx, e.database.ID)
		if err != nil {
			return nil, err
		}
		s.id = integer(id)
	}
	if e.database.Immediate {
		return s, s.impatient(ctx)
	}
	return s, nil
}

// impatient takes the waiting from SQLite, and remembers how long it would have waited.
func (s *session) impatient(ctx context.Context) error {
	patience, err := s.conn.Send(ctx, "PRAGMA busy_timeout")
	if err != nil {
		return err
	}
	s.patience = integer(patience)
	if s.patience == 0 {
		return nil
	}
	return s.conn.Exec(ctx, "PRAGMA busy_timeout = 0")
}

// patient gives the waiting back, for a statement that asks for it or sets it.
func (s *session) patient(ctx context.Context) error {
	if s.patience == 0 {
		return nil
	}
	return s.conn.Exec(ctx, "PRAGMA busy_timeout = "+strconv.FormatInt(s.patience, 10))
}

// integer returns the number that a driver has returned in one type or another.
func integer(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case int32:
		return int64(v)
	case uint64:
		return int64(v)
	case string:
		n, _ := strconv.ParseInt(v, 10, 64)
		return n
	}
	return 0
}

// info says what a call is, given what the connection has done before.
func (e *environment) info(s *session, call *tap.Call) statement.Info {
	var info statement.Info
	switch call.Kind {
	case tap.Begin:
		info.Does = statement.Begins
		if e.database.Immediate {
			info.Class = search.Write // the DSN can say that it takes the lock
		}
	case tap.Commit:
		info.Does = statement.Ends
	case tap.Rollback:
		info = statement.Info{Does: statement.Ends, Undoes: true}
	default:
		info = statement.Of(call.SQL)
	}
	if name, releases := statement.Savepoint(call.SQL); e.database.Immediate && name != "" {
		switch { // https://www.sqlite.org/lang_savepoint.html: without a transaction, it is one
		case !releases && !s.inTx:
			info.Does, info.Savepoint = statement.Begins, name
		case releases && s.inTx && s.outer == name:
			info.Does = statement.Ends
		}
	}
	switch {
	case info.Several:
	case info.Does == statement.Ends && !s.inTx:
		info.Class = search.Write // without autocommit, there is a transaction that nothing has begun
	case info.Does == statement.Ends:
		info.Class = s.class
	case info.Does == statement.Begins && s.inTx:
		info.Class = search.Write // MySQL commits what was before
	case info.Class == search.Look && (s.inTx || !e.database.Catalog):
		// The first query of a transaction decides what it sees from then on.
		info.Class = search.Read
	}
	return info
}

// done notes what a statement that has come back has made of the connection.
func (s *session) done(ctx context.Context, info statement.Info, err error, over bool) {
	switch {
	case info.Does == statement.Begins && err == nil:
		s.inTx, s.began, s.class, s.touched, s.outer = true, ctx, info.Class, info.Several, info.Savepoint
	case info.Does == statement.Ends && over:
		s.inTx, s.class, s.touched = false, search.Local, false
	case info.Does == statement.Settings:
	case s.inTx:
		s.class = max(s.class, info.Class)
		busy, _ := waits.Busy(err)
		s.touched = s.touched || info.Class != search.Local && !busy // what has failed has read, mostly
	}
}

// waits tells whether SQLite would have waited where it has said that it is busy, had it been left to. It does not in a
// transaction that has read or written: whoever it would wait for may be waiting for that to end
// (https://www.sqlite.org/c3ref/busy_handler.html). A text of several statements may have done some of them.
func (s *session) waits(info statement.Info, stale bool) bool {
	switch {
	case s.patience == 0 || stale || info.Several:
		return false
	case info.Does == statement.Ends:
		return true
	}
	return !s.inTx || !s.touched
}

// mentionsPatience tells whether a statement may see or change how long the connection waits.
func mentionsPatience(text string) bool {
	return strings.Contains(strings.ToLower(text), "busy_timeout")
}
