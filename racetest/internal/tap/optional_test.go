package tap

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A bare driver can do only what it must. It is no database: it writes down what it is asked for.
type bare struct {
	log  *[]string
	wrap func(*bareConn) driver.Conn // adds what it can do besides
}

func (b bare) Driver() driver.Driver { return nil }

func (b bare) Connect(context.Context) (driver.Conn, error) {
	c := &bareConn{b.log}
	if b.wrap != nil {
		return b.wrap(c), nil
	}
	return c, nil
}

type bareConn struct{ log *[]string }

func (c *bareConn) note(format string, args ...any) {
	*c.log = append(*c.log, fmt.Sprintf(format, args...))
}

func (c *bareConn) Prepare(query string) (driver.Stmt, error) {
	c.note("prepare %s", query)
	if query == "bad" {
		return nil, errors.New("bad statement")
	}
	return &bareStmt{c, query}, nil
}
func (c *bareConn) Close() error              { c.note("close"); return nil }
func (c *bareConn) Begin() (driver.Tx, error) { c.note("begin"); return bareTx{c}, nil }

type bareTx struct{ c *bareConn }

func (t bareTx) Commit() error   { t.c.note("commit"); return nil }
func (t bareTx) Rollback() error { t.c.note("rollback"); return nil }

type bareStmt struct {
	c    *bareConn
	text string
}

func (s *bareStmt) Close() error  { s.c.note("close %s", s.text); return nil }
func (s *bareStmt) NumInput() int { return -1 }
func (s *bareStmt) Exec(args []driver.Value) (driver.Result, error) {
	s.c.note("exec %s %v", s.text, args)
	return driver.ResultNoRows, nil
}
func (s *bareStmt) Query(args []driver.Value) (driver.Rows, error) {
	s.c.note("query %s %v", s.text, args)
	return &bareRows{s.c, 0}, nil
}

type bareRows struct {
	c *bareConn
	n int64
}

// sliceError is an error that cannot be compared.
type sliceError []string

func (e sliceError) Error() string { return fmt.Sprint([]string(e)) }

func (r *bareRows) Columns() []string { return []string{"n"} }
func (r *bareRows) Close() error      { r.c.note("close rows"); return nil }
func (r *bareRows) Next(dest []driver.Value) error {
	if r.n++; r.n > 2 {
		return io.EOF
	}
	dest[0] = r.n
	return nil
}

// The things that a driver may be able to do.
type (
	checks    struct{ *bareConn }
	resets    struct{ *bareConn }
	skips     struct{ *bareConn }
	breaks    struct{ *bareConn }
	converts  struct{ *bareConn }
	converts1 struct{ *bareStmt }
)

func (c checks) CheckNamedValue(v *driver.NamedValue) error {
	if v.Value == "skip" {
		return driver.ErrSkip
	}
	v.Value = fmt.Sprint("checked ", v.Value)
	return nil
}
func (c resets) ResetSession(context.Context) error { c.note("reset"); return nil }
func (c resets) IsValid() bool                      { c.note("valid?"); return false }
func (c resets) Ping(context.Context) error         { c.note("ping"); return errors.New("no answer") }
func (c skips) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	c.note("skip")
	return nil, driver.ErrSkip
}
func (c skips) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	c.note("skip")
	return nil, driver.ErrSkip
}
func (c breaks) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return broken{&bareRows{c.bareConn, 0}}, nil
}

type broken struct{ *bareRows }

func (broken) Next([]driver.Value) error { return sliceError{"torn"} }

func (c converts) Prepare(query string) (driver.Stmt, error) {
	return converts1{&bareStmt{c.bareConn, query}}, nil
}
func (converts1) NumInput() int                               { return 2 }
func (converts1) ColumnConverter(i int) driver.ValueConverter { return place1(i) }

type place1 int

func (p place1) ConvertValue(v any) (driver.Value, error) { return fmt.Sprint(int(p), "=", v), nil }

// asked does what shows whether a driver can do more, and returns what was told.
func asked(t *testing.T, db *sql.DB) (told []string) {
	ctx := t.Context()
	ended, cancel := context.WithCancel(ctx)
	tell := func(err error) { told = append(told, fmt.Sprint(err)) }
	_, err := db.ExecContext(ctx, "a", 1, "skip")
	tell(err)
	_, err = db.ExecContext(ctx, "b", sql.Named("x", 1), 2)
	tell(err)
	_, err = db.ExecContext(ctx, "bad", 1, 2)
	tell(err)
	for _, o := range []*sql.TxOptions{nil, {}, {ReadOnly: true}, {Isolation: sql.LevelSerializable}} {
		tx, err := db.BeginTx(ctx, o)
		tell(err)
		if err == nil {
			tell(tx.Rollback())
		}
	}
	rows, err := db.QueryContext(ctx, "c", 1, 2)
	tell(err)
	if err == nil {
		for rows.Next() {
			var n any
			tell(rows.Scan(&n))
			told = append(told, fmt.Sprint(n))
		}
		tell(rows.Err())
		types, err := rows.ColumnTypes()
		tell(err)
		for _, c := range types {
			length, hasLength := c.Length()
			nullable, hasNullable := c.Nullable()
			_, _, hasScale := c.DecimalSize()
			told = append(told, fmt.Sprint(c.Name(), c.DatabaseTypeName(), c.ScanType(), length, hasLength, nullable, hasNullable, hasScale))
		}
		told = append(told, fmt.Sprint(rows.NextResultSet()))
		tell(rows.Close())
	}
	tell(db.PingContext(ctx))
	c, err := db.Conn(ended)
	require.NoError(t, err)
	cancel()
	_, err = c.ExecContext(ended, "d", 1, 2)
	tell(err)
	_, err = c.PrepareContext(ended, "d")
	tell(err)
	_, err = c.BeginTx(ended, nil)
	tell(err)
	tell(c.Close())
	tell(db.Close())
	return told
}

// TestOptional wants a driver to be asked for the same, and the caller told the same, whatever the driver can do.
func TestOptional(t *testing.T) {
	for name, wrap := range map[string]func(*bareConn) driver.Conn{
		"nothing":  nil,
		"checks":   func(c *bareConn) driver.Conn { return checks{c} },
		"resets":   func(c *bareConn) driver.Conn { return resets{c} },
		"skips":    func(c *bareConn) driver.Conn { return skips{c} },
		"converts": func(c *bareConn) driver.Conn { return converts{c} },
	} {
		t.Run(name, func(t *testing.T) {
			var want, got []string
			wantTold := asked(t, sql.OpenDB(bare{&want, wrap}))
			gotTold := asked(t, sql.OpenDB(New(bare{&got, wrap}, nil, &onlooker{})))
			assert.Equal(t, wantTold, gotTold)
			assert.Equal(t, want, got)
		})
	}
}

// TestEndedMeanwhile wants what an old driver has made undone if the context ended while it did.
func TestEndedMeanwhile(t *testing.T) {
	for _, tapped := range []bool{false, true} {
		var log []string
		first, endFirst := context.WithCancel(t.Context())
		second, endSecond := context.WithCancel(t.Context())
		defer endFirst()
		defer endSecond()
		var connector driver.Connector = bare{&log, func(c *bareConn) driver.Conn { return ends{c, endFirst, endSecond} }}
		if tapped {
			connector = New(connector, nil, &onlooker{})
		}
		db := sql.OpenDB(connector)
		_, err := db.PrepareContext(first, "a")
		assert.ErrorIs(t, err, context.Canceled)
		_, err = db.BeginTx(second, nil)
		assert.ErrorIs(t, err, context.Canceled)
		require.NoError(t, db.Close())
		assert.Equal(t, []string{"prepare a", "close a", "begin", "rollback", "close"}, log)
	}
}

// ends ends a context while it is at work.
type ends struct {
	*bareConn
	first, second func()
}

func (c ends) Prepare(query string) (driver.Stmt, error) {
	c.first()
	return c.bareConn.Prepare(query)
}
func (c ends) Begin() (driver.Tx, error) { c.second(); return c.bareConn.Begin() }

// TestErrorsThatCannotBeCompared wants them passed on.
func TestErrorsThatCannotBeCompared(t *testing.T) {
	var log []string
	db := sql.OpenDB(New(bare{&log, func(c *bareConn) driver.Conn { return breaks{c} }}, nil, &onlooker{}))
	defer func() { assert.NoError(t, db.Close()) }()
	var e sliceError
	require.ErrorAs(t, db.QueryRow("a").Scan(new(int)), &e)
	assert.Equal(t, sliceError{"torn"}, e)
}

// TestSkip wants it known that a statement comes again, and only if it does.
func TestSkip(t *testing.T) {
	var log []string
	o := &onlooker{}
	db := sql.OpenDB(New(bare{&log, func(c *bareConn) driver.Conn { return skips{c} }}, nil, o))
	_, err := db.Exec("a")
	require.NoError(t, err)
	_, err = db.Exec("bad")
	require.ErrorContains(t, err, "bad statement")
	_, err = db.Exec("b")
	require.NoError(t, err)
	require.NoError(t, db.Close())
	var again []string
	for _, call := range o.calls {
		again = append(again, fmt.Sprint(call.SQL, " ", call.Again))
	}
	assert.Equal(t, []string{"a false", "a true", "bad false", "b false", "b true"}, again)
}
