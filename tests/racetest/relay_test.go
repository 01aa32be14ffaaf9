package racetest_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"sync/atomic"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
)

// A relay is a driver whose connections have an actor's own goroutine send what other goroutines of the actor send, one
// after the other. So racetest can choose its order.
type relay struct {
	db   *sql.DB // the actor's
	work chan func()
	sent atomic.Int64 // statements
}

// relayed is an actor that works with the library in several goroutines, of which one at a time sends something.
func (w *world) relayed(f func(context.Context, *raceproof.DB, *relay) error) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, pool *sql.DB) (err error) {
		r := &relay{db: pool, work: make(chan func())}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			through := sql.OpenDB(r)
			defer func() { err = errors.Join(err, through.Close()) }()
			var db *raceproof.DB
			if db, err = raceproof.New(sqlx.NewDb(through, w.Driver)); err == nil {
				defer db.Close()
				err = f(ctx, db, r)
			}
		}()
		for {
			select {
			case work := <-r.work:
				work()
			case <-ended:
				return err
			}
		}
	}
}

// do has the actor's goroutine do it.
func (r *relay) do(work func()) {
	done := make(chan struct{})
	r.work <- func() { defer close(done); work() }
	<-done
}

func (r *relay) Driver() driver.Driver { return r.db.Driver() }

func (r *relay) Connect(ctx context.Context) (driver.Conn, error) {
	var c *sql.Conn
	var err error
	if r.do(func() { c, err = r.db.Conn(ctx) }); err != nil {
		return nil, err
	}
	return &relayConn{r, c}, nil
}

type relayConn struct {
	relay *relay
	conn  *sql.Conn
}

func (c *relayConn) CheckNamedValue(*driver.NamedValue) error { return nil } // the driver behind it knows
func (c *relayConn) Prepare(text string) (driver.Stmt, error) { return &relayStmt{c, text}, nil }
func (c *relayConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

func (c *relayConn) Close() (err error) {
	c.relay.do(func() { err = c.conn.Close() })
	return err
}

func (c *relayConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	c.relay.sent.Add(1)
	var tx *sql.Tx
	var err error
	c.relay.do(func() {
		tx, err = c.conn.BeginTx(context.WithoutCancel(ctx), &sql.TxOptions{Isolation: sql.IsolationLevel(o.Isolation), ReadOnly: o.ReadOnly})
	})
	return &relayTx{c.relay, tx}, err
}

type relayTx struct {
	relay *relay
	tx    *sql.Tx
}

func (t *relayTx) Commit() (err error) {
	t.relay.do(func() { err = t.tx.Commit() })
	return err
}

func (t *relayTx) Rollback() (err error) {
	t.relay.do(func() { err = t.tx.Rollback() })
	return err
}

func plainArgs(args []driver.NamedValue) (values []any) {
	for _, a := range args {
		values = append(values, a.Value)
	}
	return values
}

func (c *relayConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (result driver.Result, err error) {
	c.relay.sent.Add(1)
	c.relay.do(func() { result, err = c.conn.ExecContext(ctx, text, plainArgs(args)...) })
	return result, err
}

func (c *relayConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (_ driver.Rows, err error) {
	c.relay.sent.Add(1)
	all := &relayRows{}
	c.relay.do(func() { err = all.read(c.conn.QueryContext(ctx, text, plainArgs(args)...)) })
	return all, err
}

// relayRows are all there are.
type relayRows struct {
	columns []string
	rows    [][]any
}

func (r *relayRows) read(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	if r.columns, err = rows.Columns(); err != nil {
		return err
	}
	for rows.Next() {
		values, into := make([]any, len(r.columns)), make([]any, len(r.columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		r.rows = append(r.rows, values)
	}
	return rows.Err()
}

func (r *relayRows) Columns() []string { return r.columns }
func (r *relayRows) Close() error      { return nil }

func (r *relayRows) Next(into []driver.Value) error {
	if len(r.rows) == 0 {
		return io.EOF
	}
	for i, value := range r.rows[0] {
		into[i] = value
	}
	r.rows = r.rows[1:]
	return nil
}

// relayStmt is a text: what is behind the relay prepares it if it wants.
type relayStmt struct {
	conn *relayConn
	text string
}

func (s *relayStmt) Close() error                               { return nil }
func (s *relayStmt) NumInput() int                              { return -1 }
func (s *relayStmt) Exec([]driver.Value) (driver.Result, error) { return nil, errors.ErrUnsupported }
func (s *relayStmt) Query([]driver.Value) (driver.Rows, error)  { return nil, errors.ErrUnsupported }
func (s *relayStmt) CheckNamedValue(*driver.NamedValue) error   { return nil }
func (s *relayStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.text, args)
}

func (s *relayStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.text, args)
}
