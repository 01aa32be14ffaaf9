// Package tap stands between database/sql and a driver, and shows every statement, BEGIN, COMMIT and ROLLBACK to somebody
// who decides when it is sent, and sees what comes back. Otherwise it changes nothing: what the driver can do can be
// done through it, and what it cannot is answered as database/sql would answer by itself.
package tap

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"sync"

	"github.com/raceproof/raceproof/racetest/internal/statement"
)

// A Kind is what database/sql asks a driver for.
type Kind int

// The kinds of calls.
const (
	Statement Kind = iota
	Begin
	Commit
	Rollback
)

// A Watcher is shown what happens. Its methods are called in the goroutine that the database is called from.
type Watcher interface {
	// Opened is told of a new connection before it is used. An error closes it.
	Opened(context.Context, *Conn) error

	// Do calls run when the call is to be made, more than once if it wants; each sends the statement again. It returns the
	// error that the caller gets: what run has returned, or one of its own.
	Do(ctx context.Context, call *Call, run func() error) error
}

// A Call is one statement, BEGIN, COMMIT or ROLLBACK.
type Call struct {
	Kind Kind
	Conn *Conn
	SQL  string // of a Statement
	Args []driver.NamedValue
	Seen Seen

	Again bool // it was shown before, and the driver wanted it prepared first
}

// Seen is what the caller was told. Its methods can be called while the caller still reads.
type Seen struct {
	mu       sync.Mutex
	query    bool     // rows can come, and not a number of them
	rows     []string // the first
	count    int      // all that were read
	open     bool     // more can come
	affected int64
	err      error
}

// shown is how many rows are kept.
const shown = 3

func (s *Seen) reset(query bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.query, s.rows, s.count, s.open, s.affected, s.err = query, nil, 0, query, 0, nil
}

func (s *Seen) row(values []driver.Value) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count++; len(s.rows) < shown {
		s.rows = append(s.rows, row(values))
	}
}

func (s *Seen) end(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = false
	if err != nil && err != io.EOF && s.err == nil {
		s.err = err
	}
}

// Rows returns the first rows as text, and how many were read; query is false if the statement was not sent for rows.
func (s *Seen) Rows() (first []string, count int, query bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows, s.count, s.query
}

// Open tells whether rows have not been closed or read to their end.
func (s *Seen) Open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// Affected returns the number of rows affected.
func (s *Seen) Affected() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.affected
}

// Err returns the error that was met while rows were read.
func (s *Seen) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *Seen) affect(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.affected = n
}

func row(values []driver.Value) string {
	if len(values) == 1 {
		return statement.Literal(values[0])
	}
	text := "("
	for i, v := range values {
		if i > 0 {
			text += ", "
		}
		text += statement.Literal(v)
	}
	return text + ")"
}

// New returns a connector whose connections are watched. What owner is can be asked of each.
func New(connector driver.Connector, owner any, watcher Watcher) driver.Connector {
	return &tapped{connector, owner, watcher}
}

type tapped struct {
	driver.Connector
	owner   any
	watcher Watcher
}

func (t *tapped) Connect(ctx context.Context) (driver.Conn, error) {
	own, err := t.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &Conn{own: own, Owner: t.owner, watcher: t.watcher}
	if err := t.watcher.Opened(ctx, c); err != nil {
		return nil, errors.Join(err, own.Close())
	}
	return c, nil
}

// Close is not passed on: the connector is used for other handles as well.
func (t *tapped) Close() error { return nil }
