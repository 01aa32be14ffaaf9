package tap

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
)

type stmt struct {
	own  driver.Stmt
	conn *Conn
	text string
}

var (
	_ driver.StmtExecContext   = (*stmt)(nil)
	_ driver.StmtQueryContext  = (*stmt)(nil)
	_ driver.NamedValueChecker = (*stmt)(nil)
)

func (s *stmt) Close() error  { return s.own.Close() }
func (s *stmt) NumInput() int { return s.own.NumInput() }

// Exec is not called by database/sql.
func (s *stmt) Exec([]driver.Value) (driver.Result, error) { return nil, driver.ErrSkip }

// Query is not called by database/sql.
func (s *stmt) Query([]driver.Value) (driver.Rows, error) { return nil, driver.ErrSkip }

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.exec(ctx, &Call{SQL: s.text, Args: args}, func() (driver.Result, error) { return s.run(ctx, args) })
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.query(ctx, &Call{SQL: s.text, Args: args}, func() (driver.Rows, error) { return s.send(ctx, args) })
}

func (s *stmt) run(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if own, ok := s.own.(driver.StmtExecContext); ok {
		return own.ExecContext(ctx, args)
	}
	//lint:ignore SA1019 there are drivers that have only this
	return plain(ctx, args, s.own.Exec)
}

func (s *stmt) send(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if own, ok := s.own.(driver.StmtQueryContext); ok {
		return own.QueryContext(ctx, args)
	}
	//lint:ignore SA1019 there are drivers that have only this
	return plain(ctx, args, s.own.Query)
}

// A sender is a stmt, or a converting one.
type sender interface {
	run(context.Context, []driver.NamedValue) (driver.Result, error)
	send(context.Context, []driver.NamedValue) (driver.Rows, error)
}

// converting is a statement of a driver that converts arguments by their place.
type converting struct {
	*stmt
	by driver.ColumnConverter //lint:ignore SA1019 there are drivers that have only this
}

func (c *converting) ColumnConverter(i int) driver.ValueConverter { return c.by.ColumnConverter(i) }

// CheckNamedValue asks the statement, then the connection, as database/sql does.
func (s *stmt) CheckNamedValue(v *driver.NamedValue) error {
	if own, ok := s.own.(driver.NamedValueChecker); ok {
		return own.CheckNamedValue(v)
	}
	return s.conn.CheckNamedValue(v)
}

type tx struct {
	own  driver.Tx
	conn *Conn
	ctx  context.Context
}

// Commit and Rollback are called in the goroutine of whoever ends the transaction, or in one of database/sql's if the
// context has ended. They have no context: what has begun is to be ended whatever became of it.
func (t *tx) Commit() error {
	return t.conn.do(context.WithoutCancel(t.ctx), &Call{Kind: Commit, SQL: "COMMIT"}, t.own.Commit)
}

func (t *tx) Rollback() error {
	return t.conn.do(context.WithoutCancel(t.ctx), &Call{Kind: Rollback, SQL: "ROLLBACK"}, t.own.Rollback)
}

func sqlLevel(l driver.IsolationLevel) string {
	if l == 0 {
		return ""
	}
	return strings.ToUpper(sql.IsolationLevel(l).String())
}
