package tap

import (
	"bytes"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A Conn is a watched connection.
type Conn struct {
	Owner any // as given to New
	State any // the watcher's

	own     driver.Conn
	watcher Watcher
	skipped bool // the last call is to be made again, prepared
	close   sync.Once
	closed  atomic.Bool
	err     error // of closing it
}

var (
	_ driver.ExecerContext      = (*Conn)(nil)
	_ driver.QueryerContext     = (*Conn)(nil)
	_ driver.ConnPrepareContext = (*Conn)(nil)
	_ driver.ConnBeginTx        = (*Conn)(nil)
	_ driver.Pinger             = (*Conn)(nil)
	_ driver.SessionResetter    = (*Conn)(nil)
	_ driver.Validator          = (*Conn)(nil)
	_ driver.NamedValueChecker  = (*Conn)(nil)
)

// do shows a call to the watcher.
func (c *Conn) do(ctx context.Context, call *Call, run func() error) error {
	call.Conn = c
	call.Args = kept(call.Args)
	call.Again = c.skipped && call.Kind == Statement
	err := c.watcher.Do(ctx, call, run)
	c.skipped = errors.Is(err, driver.ErrSkip)
	return err
}

// kept returns arguments that stay as they are: the caller may use the memory of his again.
func kept(args []driver.NamedValue) []driver.NamedValue {
	args = slices.Clone(args)
	for i := range args {
		if b, ok := args[i].Value.([]byte); ok {
			args[i].Value = bytes.Clone(b)
		}
	}
	return args
}

// ExecContext has no answer if the driver has none: database/sql then prepares the statement.
func (c *Conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	own, ok := c.own.(driver.ExecerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	return c.exec(ctx, &Call{SQL: query, Args: args}, func() (driver.Result, error) { return own.ExecContext(ctx, query, args) })
}

func (c *Conn) exec(ctx context.Context, call *Call, send func() (driver.Result, error)) (result driver.Result, err error) {
	err = c.do(ctx, call, func() (err error) {
		call.Seen.reset(false)
		if result, err = send(); err != nil {
			return err
		}
		if n, err := result.RowsAffected(); err == nil {
			call.Seen.affect(n)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return result, nil
}

// QueryContext has no answer if the driver has none: database/sql then prepares the statement.
func (c *Conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	own, ok := c.own.(driver.QueryerContext)
	if !ok {
		return nil, driver.ErrSkip
	}
	return c.query(ctx, &Call{SQL: query, Args: args}, func() (driver.Rows, error) { return own.QueryContext(ctx, query, args) })
}

// query sends the statement and looks at its first row: many drivers learn only there what became of the statement, that
// it has to wait for instance. An error that comes with the row is told to the caller where he would meet it by himself.
func (c *Conn) query(ctx context.Context, call *Call, send func() (driver.Rows, error)) (driver.Rows, error) {
	var result *rows
	err := c.do(ctx, call, func() error {
		if result != nil {
			_ = result.own.Close()
			result = nil
		}
		call.Seen.reset(true)
		own, err := send()
		if err != nil {
			call.Seen.end(err)
			return err
		}
		result = &rows{own: own, seen: &call.Seen}
		return result.peek()
	})
	if err != nil && result != nil && errors.Is(err, result.err) { // == would panic with types that cannot be compared
		return result, nil
	}
	if err != nil {
		if result != nil {
			_ = result.Close()
		}
		return nil, err
	}
	return result, nil
}

// plain is for statements of drivers from before contexts.
func plain[R any](ctx context.Context, args []driver.NamedValue, send func([]driver.Value) (R, error)) (none R, err error) {
	values := make([]driver.Value, len(args))
	for i, a := range args {
		if a.Name != "" {
			return none, errors.New("sql: driver does not support the use of Named Parameters")
		}
		values[i] = a.Value
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	return send(values)
}

// unlessEnded is for what drivers from before contexts make: it is undone if the context has ended meanwhile.
func unlessEnded[R any](ctx context.Context, make func() (R, error), undo func(R) error) (none R, err error) {
	made, err := make()
	if err == nil && ctx.Err() != nil {
		_ = undo(made)
		return none, ctx.Err()
	}
	return made, err
}

// Prepare is not called by database/sql.
func (c *Conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

// PrepareContext is not shown: it changes nothing that others see. But lib/pq sends a COPY when it is prepared, which locks
// the table.
func (c *Conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	var own driver.Stmt
	prepare := func() (err error) {
		if p, ok := c.own.(driver.ConnPrepareContext); ok {
			own, err = p.PrepareContext(ctx, query)
		} else {
			own, err = unlessEnded(ctx, func() (driver.Stmt, error) { return c.own.Prepare(query) }, driver.Stmt.Close)
		}
		return err
	}
	var err error
	if text := strings.TrimSpace(query); len(text) > 4 && strings.EqualFold(text[:4], "COPY") {
		err = c.do(ctx, &Call{SQL: query}, prepare)
	} else {
		err = prepare()
	}
	if err != nil {
		c.skipped = false
		return nil, err
	}
	s := &stmt{own, c, query}
	//lint:ignore SA1019 there are drivers that have only this
	if own, ok := own.(driver.ColumnConverter); ok {
		return &converting{s, own}, nil
	}
	return s, nil
}

// Begin is not called by database/sql.
func (c *Conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// BeginTx shows a Begin.
func (c *Conn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	//lint:ignore SA1019 there are drivers that have only this
	begin := func() (driver.Tx, error) { return unlessEnded(ctx, c.own.Begin, driver.Tx.Rollback) }
	if own, ok := c.own.(driver.ConnBeginTx); ok {
		begin = func() (driver.Tx, error) { return own.BeginTx(ctx, o) }
	} else if sql.IsolationLevel(o.Isolation) != sql.LevelDefault {
		return nil, errors.New("sql: driver does not support non-default isolation level")
	} else if o.ReadOnly {
		return nil, errors.New("sql: driver does not support read-only transactions")
	}
	var own driver.Tx
	err := c.do(ctx, &Call{Kind: Begin, SQL: described(o)}, func() (err error) {
		own, err = begin()
		return err
	})
	if err != nil {
		return nil, err
	}
	return &tx{own, c, ctx}, nil
}

// described is what is shown of a BEGIN.
func described(o driver.TxOptions) string {
	text := "BEGIN"
	if level := sqlLevel(o.Isolation); level != "" {
		text += " ISOLATION LEVEL " + level
	}
	if o.ReadOnly {
		text += " READ ONLY"
	}
	return text
}

// Ping asks the driver, if it can be asked.
func (c *Conn) Ping(ctx context.Context) error {
	if own, ok := c.own.(driver.Pinger); ok {
		return own.Ping(ctx)
	}
	return nil
}

// ResetSession asks the driver, if it can be asked.
func (c *Conn) ResetSession(ctx context.Context) error {
	if own, ok := c.own.(driver.SessionResetter); ok {
		return own.ResetSession(ctx)
	}
	return nil
}

// IsValid asks the driver, if it can be asked.
func (c *Conn) IsValid() bool {
	own, ok := c.own.(driver.Validator)
	return !ok || own.IsValid()
}

// CheckNamedValue asks the driver, if it can be asked.
func (c *Conn) CheckNamedValue(v *driver.NamedValue) error {
	if own, ok := c.own.(driver.NamedValueChecker); ok {
		return own.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

// Close closes the driver's connection, once, whoever asks for it.
func (c *Conn) Close() error {
	c.close.Do(func() {
		c.err = c.own.Close()
		c.closed.Store(true)
	})
	return c.err
}

// Closed tells whether it has been closed.
func (c *Conn) Closed() bool { return c.closed.Load() }

// Send executes one statement without arguments that the watcher is not shown, and returns the first value of its first row,
// nil if there is none.
func (c *Conn) Send(ctx context.Context, query string) (driver.Value, error) {
	s, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = s.Close() }()
	own, err := s.(sender).send(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = own.Close() }()
	if len(own.Columns()) == 0 {
		return nil, own.Close()
	}
	values := make([]driver.Value, len(own.Columns()))
	switch err := own.Next(values); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, err
	}
	if b, ok := values[0].([]byte); ok {
		return string(b), nil
	}
	return values[0], nil
}

// Exec executes one statement without arguments that the watcher is not shown.
func (c *Conn) Exec(ctx context.Context, query string) error {
	s, err := c.PrepareContext(ctx, query)
	if err != nil {
		return fmt.Errorf("%s: %w", query, err)
	}
	defer func() { _ = s.Close() }()
	_, err = s.(sender).run(ctx, nil)
	return err
}
