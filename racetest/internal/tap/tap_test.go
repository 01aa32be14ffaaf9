package tap

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// onlooker lets everything pass, unless it has an error of its own.
type onlooker struct {
	calls  []*Call
	opened int
	refuse error // what Opened returns
	own    error // what Do returns, without the driver
	twice  bool  // send everything twice
}

func (o *onlooker) Opened(context.Context, *Conn) error { o.opened++; return o.refuse }

func (o *onlooker) Do(_ context.Context, call *Call, run func() error) error {
	o.calls = append(o.calls, call)
	if o.own != nil {
		return o.own
	}
	if o.twice {
		_ = run()
	}
	return run()
}

type lite struct{ dsn string }

func (l lite) Connect(context.Context) (driver.Conn, error) { return l.Driver().Open(l.dsn) }
func (lite) Driver() driver.Driver                          { return &sqlite3.SQLiteDriver{} }

func newLite(t *testing.T) lite {
	return lite{"file:" + filepath.Join(t.TempDir(), "test.db") + "?_journal_mode=WAL&_synchronous=OFF&_busy_timeout=0"}
}

// workload does all that can be done through database/sql, and returns what it was told.
func workload(t *testing.T, db *sql.DB) (told []string) {
	ctx := t.Context()
	tell := func(what string, values ...any) { told = append(told, fmt.Sprintf("%s: %#v", what, values)) }
	fault := func(what string, err error) {
		var e sqlite3.Error
		tell(what, fmt.Sprint(err), errors.As(err, &e), e.Code, e.ExtendedCode, errors.Is(err, context.Canceled), errors.Is(err, sql.ErrNoRows))
	}
	exec := func(query string, args ...any) {
		r, err := db.ExecContext(ctx, query, args...)
		fault(query, err)
		if err == nil {
			id, err := r.LastInsertId()
			n, err2 := r.RowsAffected()
			tell(query, id, err, n, err2)
		}
	}
	query := func(q func(context.Context, string, ...any) (*sql.Rows, error), text string, args ...any) {
		rows, err := q(ctx, text, args...)
		fault(text, err)
		if err != nil {
			return
		}
		columns, err := rows.Columns()
		tell(text, columns, err)
		types, err := rows.ColumnTypes()
		fault(text, err)
		for _, c := range types {
			length, hasLength := c.Length()
			nullable, hasNullable := c.Nullable()
			precision, scale, hasScale := c.DecimalSize()
			tell("column", c.Name(), c.DatabaseTypeName(), c.ScanType(), length, hasLength, nullable, hasNullable, precision, scale, hasScale)
		}
		for {
			for rows.Next() {
				values, dest := make([]any, len(columns)), make([]any, len(columns))
				for i := range values {
					dest[i] = &values[i]
				}
				fault("Scan", rows.Scan(dest...))
				tell("row", values...)
			}
			if !rows.NextResultSet() {
				break
			}
		}
		fault("Err", rows.Err())
		fault("Close", rows.Close())
	}
	exec("CREATE TABLE t (i INTEGER PRIMARY KEY, s VARCHAR(9), b BLOB, f REAL, d DATETIME, o BOOLEAN NOT NULL DEFAULT 1, u UNIQUE)")
	when := time.Date(2024, 2, 29, 12, 30, 0, 5000, time.UTC)
	exec("INSERT INTO t (s, b, f, d, u) VALUES (?, ?, ?, ?, ?), (NULL, NULL, NULL, NULL, NULL)", "a\x00b", []byte{0, 1, 255}, 1.5, when, 1)
	exec("INSERT INTO t (s, u) VALUES (:name, @other)", sql.Named("name", "n"), sql.Named("other", 2))
	exec("INSERT INTO t (u) VALUES (2)")
	exec("INSERT INTO t (u) VALUES (?)", struct{}{})
	exec("INSERT INTO t (u) VALUES (?)")
	exec("INSERT INTO nowhere VALUES (1)")
	exec("UPDATE t SET f = 2; UPDATE t SET f = 3 WHERE i = 1")
	exec("")
	query(db.QueryContext, "SELECT * FROM t ORDER BY i")
	query(db.QueryContext, "SELECT i, s FROM t WHERE i > ? ORDER BY i", 99)
	query(db.QueryContext, "SELECT abs(-9223372036854775808) FROM t")
	query(db.QueryContext, "SELECT CASE i WHEN 2 THEN abs(-9223372036854775808) ELSE i END FROM t ORDER BY i")
	query(db.QueryContext, "INSERT INTO t (u) VALUES (7) RETURNING i, u")
	query(db.QueryContext, "UPDATE t SET s = 'x' WHERE i = 2")
	query(db.QueryContext, "SELECT 1; SELECT 2")
	query(db.QueryContext, "SELEC")

	st, err := db.PrepareContext(ctx, "SELECT count(*) FROM t WHERE i > ?")
	require.NoError(t, err)
	for i := range 3 {
		query(func(ctx context.Context, _ string, args ...any) (*sql.Rows, error) {
			return st.QueryContext(ctx, args...)
		}, "prepared", i)
	}
	_, err = st.ExecContext(ctx)
	fault("prepared", err)
	require.NoError(t, st.Close())
	_, err = db.PrepareContext(ctx, "SELECT x FROM nowhere")
	fault("Prepare", err)

	for _, o := range []*sql.TxOptions{nil, {ReadOnly: true}, {Isolation: sql.LevelSerializable}, {Isolation: sql.LevelSnapshot}} {
		tx, err := db.BeginTx(ctx, o)
		fault("BEGIN", err)
		if err != nil {
			continue
		}
		_, err = tx.ExecContext(ctx, "UPDATE t SET f = f + 1")
		fault("in a transaction", err)
		query(tx.QueryContext, "SELECT f FROM t")
		fault("end", tx.Rollback())
		fault("end", tx.Commit())
	}
	other, err := db.Conn(ctx)
	require.NoError(t, err)
	_, err = other.ExecContext(ctx, "BEGIN IMMEDIATE")
	fault("BEGIN", err)
	exec("UPDATE t SET f = 0")
	_, err = other.ExecContext(ctx, "ROLLBACK")
	fault("ROLLBACK", err)
	fault("Ping", other.PingContext(ctx))
	require.NoError(t, other.Close())

	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = db.ExecContext(ended, "UPDATE t SET f = 1")
	fault("ended", err)
	own, cancel := context.WithCancel(ctx)
	rows, err := db.QueryContext(own, "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c")
	require.NoError(t, err)
	rows.Next()
	cancel()
	for rows.Next() {
	}
	fault("cancelled", rows.Err())
	fault("cancelled", rows.Close())
	return told
}

// TestTransparent wants everybody told the same with a tap and without.
func TestTransparent(t *testing.T) {
	defer goleak.VerifyNone(t)
	plain := sql.OpenDB(newLite(t))
	want := workload(t, plain)
	require.NoError(t, plain.Close())
	require.Greater(t, len(want), 100)
	o := &onlooker{}
	tapped := sql.OpenDB(New(newLite(t), "me", o))
	got := workload(t, tapped)
	assert.Equal(t, want, got)
	assert.IsType(t, &sqlite3.SQLiteDriver{}, tapped.Driver())
	require.NoError(t, tapped.Close())
	require.NotEmpty(t, o.calls)
	for _, call := range o.calls {
		assert.Equal(t, "me", call.Conn.Owner)
		assert.False(t, call.Seen.Open(), call.SQL)
		assert.True(t, call.Conn.Closed())
	}
}

// TestFirstRowOnce wants a statement that is sent again to be seen once, and memory that stays.
func TestFirstRowOnce(t *testing.T) {
	o := &onlooker{twice: true}
	db := sql.OpenDB(New(newLite(t), nil, o))
	defer func() { assert.NoError(t, db.Close()) }()
	rows, err := db.Query("SELECT CAST('first' AS BLOB) UNION ALL SELECT CAST('other' AS BLOB)")
	require.NoError(t, err)
	var texts []string
	var raw, before sql.RawBytes
	for rows.Next() {
		require.NoError(t, rows.Scan(&raw))
		texts = append(texts, string(raw))
		before = raw
		_, err := rows.Columns()
		require.NoError(t, err)
		assert.Equal(t, texts[len(texts)-1], string(before), "nothing is read before the caller asks")
	}
	require.NoError(t, rows.Err())
	assert.Equal(t, []string{"first", "other"}, texts)
	seen, count, query := o.calls[len(o.calls)-1].Seen.Rows()
	assert.Equal(t, []string{"'first'", "'other'"}, seen)
	assert.Equal(t, 2, count)
	assert.True(t, query)
	assert.False(t, o.calls[0].Seen.Open())

	r := db.QueryRow("SELECT 1")
	assert.True(t, o.calls[len(o.calls)-1].Seen.Open(), "not read yet")
	require.NoError(t, r.Scan(new(int)))
	assert.False(t, o.calls[len(o.calls)-1].Seen.Open())
}

// TestOwnErrors wants the watcher's errors to come to the caller, and the driver not to be asked.
func TestOwnErrors(t *testing.T) {
	o := &onlooker{}
	db := sql.OpenDB(New(newLite(t), nil, o))
	tx, err := db.Begin()
	require.NoError(t, err)
	o.own = errors.New("not now")
	assert.ErrorIs(t, tx.Commit(), o.own)
	_, err = db.Exec("CREATE TABLE t (v)")
	assert.ErrorIs(t, err, o.own)
	_, err = db.Query("SELECT 1")
	assert.ErrorIs(t, err, o.own)
	_, err = db.Begin()
	assert.ErrorIs(t, err, o.own)
	require.NoError(t, db.Close())

	o = &onlooker{refuse: errors.New("not you")}
	c := &counting{lite: newLite(t)}
	db = sql.OpenDB(New(c, nil, o))
	assert.ErrorIs(t, db.Ping(), o.refuse)
	assert.Equal(t, 1, c.closed, "who is refused is closed")
	require.NoError(t, db.Close())
}

// counting counts how often connections are closed.
type counting struct {
	lite
	closed int
}

func (c *counting) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.lite.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &countingConn{conn.(*sqlite3.SQLiteConn), c}, nil
}

func (c *counting) Close() error { return errors.New("closed, and others need it") }

type countingConn struct {
	*sqlite3.SQLiteConn
	c *counting
}

func (c *countingConn) Close() error { c.c.closed++; return c.SQLiteConn.Close() }

// TestCloseOnce wants connections closed once, whoever asks, and the connector left alone.
func TestCloseOnce(t *testing.T) {
	c, o := &counting{lite: newLite(t)}, &onlooker{}
	db := sql.OpenDB(New(c, nil, o))
	_, err := db.Exec("SELECT 1")
	require.NoError(t, err)
	conn := o.calls[0].Conn
	assert.False(t, conn.Closed())
	require.NoError(t, conn.Close())
	require.NoError(t, conn.Close())
	require.NoError(t, db.Close())
	assert.Equal(t, 1, c.closed)
	assert.True(t, conn.Closed())
}

// TestArgumentsStay wants arguments shown as they were sent.
func TestArgumentsStay(t *testing.T) {
	o := &onlooker{}
	db := sql.OpenDB(New(newLite(t), nil, o))
	defer func() { assert.NoError(t, db.Close()) }()
	arg := []byte("first")
	_, err := db.Exec("SELECT ?", arg)
	require.NoError(t, err)
	copy(arg, "other")
	assert.Equal(t, []byte("first"), o.calls[0].Args[0].Value)
}
