// Package rerun checks how often a write is executed whose answer is lost.
//
// database/sql runs a statement again after driver.ErrBadConn, which drivers must return only if the server cannot have
// executed it. pgx 5.9.0 to 5.12.0 also returns it if the answer to a statement in the simple protocol was lost, which
// every Exec without arguments is sent in, so that a write through *sql.DB is applied twice, and succeeds. On a
// connection that the caller has taken out of the pool nothing is run again, which is why this module writes on no
// other.
//
// The checks import no driver, so that they can be run with several versions of one.
package rerun

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/faultproxy"
)

// A Driver is a database driver to check, and a server to check it with.
type Driver struct {
	Protocol faultproxy.Protocol
	Server   string   // its address
	Modes    []string // names for the ways in which the driver can be told to send statements
	// Open opens a pool in one of the modes, without TLS, for the server that listens on addr.
	Open func(addr, mode string) (*sqlx.DB, error)
	// Twice says which writes a pool of the driver executes twice. If it is nil there is none.
	Twice func(Write) bool
}

// A Write is a way to send a statement that changes a row.
type Write struct {
	Mode      string
	Arguments bool // the statement has some
	Query     bool // it yields the changed row, and is sent as a query
}

func (w Write) String() string {
	s := "Exec"
	if w.Query {
		s = "Query"
	}
	if w.Arguments {
		s += " with arguments"
	}
	return w.Mode + " " + s
}

// limit is far beyond what any check takes; one that runs into it hangs.
const limit = time.Minute

// Check loses the answer to each kind of write, once on a pinned connection, where it must be executed once, and once on
// the pool, as a control: there it must be executed as often as the Driver says.
func Check(t *testing.T, d Driver) {
	table := d.newTable(t)
	for _, mode := range d.Modes {
		for _, w := range []Write{{mode, false, false}, {mode, true, false}, {mode, false, true}, {mode, true, true}} {
			t.Run(w.String()+" pinned", func(t *testing.T) {
				o := table.lose(t, d, w, true)
				assert.Equal(t, 1, o.executed)
				assert.Error(t, o.err)
			})
			t.Run(w.String()+" pool", func(t *testing.T) {
				o := table.lose(t, d, w, false)
				if d.Twice != nil && d.Twice(w) {
					assert.Equal(t, 2, o.executed)
					assert.NoError(t, o.err, "executed twice, and called a success")
				} else {
					assert.Equal(t, 1, o.executed)
					assert.Error(t, o.err)
				}
			})
		}
	}
}

// An outcome is what became of a write.
type outcome struct {
	executed int
	err      error
}

func (o outcome) String() string { return fmt.Sprintf("executed %d, error %v", o.executed, o.err) }

// lose writes to a new row, loses the first answer, and checks that the row has been raised as often as the server was
// asked to.
func (table table) lose(t *testing.T, d Driver, w Write, pinned bool) (o outcome) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	id := table.newRow(t)
	proxy, pool := d.open(t, w.Mode)
	write := table.isWrite
	rule := proxy.On(write, 1, faultproxy.Drop())
	var db sender = pool
	if pinned {
		conn, err := pool.Connx(ctx)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }() // reports only that the connection was lost
		db = conn
	}
	text, args := table.statement(d, w, id)
	if w.Query {
		o.err = query(ctx, db, text, args)
	} else {
		_, o.err = db.ExecContext(ctx, text, args...)
	}
	o.executed = proxy.Executed(write)
	t.Log(o)
	require.Equal(t, 1, rule.Fired(), "the proxy has not seen the write")
	assert.EqualValues(t, o.executed, table.row(t, id).N)
	return o
}

// A sender is a pool, or a connection.
type sender interface {
	ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error)
	QueryxContext(ctx context.Context, text string, args ...any) (*sqlx.Rows, error)
}

// query reads what a statement yields to its end, where a failure may be told.
func query(ctx context.Context, db sender, text string, args []any) error {
	rows, err := db.QueryxContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
	}
	return rows.Err()
}

// open opens a pool through a proxy of its own.
func (d Driver) open(t *testing.T, mode string) (*faultproxy.Proxy, *sqlx.DB) {
	proxy := faultproxy.New(t, d.Protocol, d.Server)
	return proxy, d.openAt(t, proxy.Addr(), mode)
}

func (d Driver) openAt(t *testing.T, addr, mode string) *sqlx.DB {
	pool, err := d.Open(addr, mode)
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}
