package lease_test

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// What a process is told by its environment.
const (
	childWork = "RACEPROOF_LEASE_CHILD" // "fenced", "unfenced" or "crowd"
	childOf   = "RACEPROOF_LEASE_DATABASE"
	childDSN  = "RACEPROOF_LEASE_DSN"
	childName = "RACEPROOF_LEASE_NAME"
	childTime = "RACEPROOF_LEASE_TIME" // the file of SQLite's false clock, if it has one
)

// child is what a process does that the tests stop and kill. It ends when its standard input does.
func child() {
	_ = mysql.SetLogger(&mysql.NopLogger{})
	wire := &wire{}
	pool := openWired(databases.Named(os.Getenv(childOf)), os.Getenv(childDSN), wire)
	db, err := raceproof.New(pool)
	check(err)
	work := os.Getenv(childWork)
	if work == "crowd" {
		crowd(db, os.Getenv(childName))
		return
	}
	w := &writer{db: db, name: os.Getenv(childName), fenced: work == "fenced", wire: wire}
	go w.listen()
	for {
		w.hold()
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// openWired opens a pool whose connections go through the wire; SQLite has none.
func openWired(d databases.Database, dsn string, w *wire) *sqlx.DB {
	var pool *sqlx.DB
	switch d.Name {
	case "postgres/pgx":
		c, err := pgx.ParseConfig(dsn)
		check(err)
		// Otherwise only the first of equal statements has a text.
		c.DefaultQueryExecMode = pgx.QueryExecModeExec
		c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			return w.around(new(net.Dialer).DialContext(ctx, network, address))
		}
		pool = sqlx.NewDb(stdlib.OpenDB(*c), d.Driver)
	case "mariadb/mysql":
		c, err := mysql.ParseDSN(dsn)
		check(err)
		c.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			return w.around(new(net.Dialer).DialContext(ctx, network, address))
		}
		connector, err := mysql.NewConnector(c)
		check(err)
		pool = sqlx.NewDb(sql.OpenDB(connector), d.Driver)
	default:
		pool = openSQLite(d, dsn, os.Getenv(childTime))
	}
	pool.SetMaxOpenConns(databases.Connections)
	pool.SetMaxIdleConns(databases.Connections)
	return pool
}

// A wire calls a function before a statement is sent that has a text in it.
type wire struct {
	mu     sync.Mutex
	text   string
	before func()
}

func (w *wire) on(text string, before func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text, w.before = text, before
}

func (w *wire) around(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return &wired{c, w}, nil
}

type wired struct {
	net.Conn
	*wire
}

func (c *wired) Write(b []byte) (int, error) {
	c.mu.Lock()
	before := c.before
	if before != nil && strings.Contains(string(b), c.text) {
		c.before = nil
	} else {
		before = nil
	}
	c.mu.Unlock()
	if before != nil {
		before()
	}
	return c.Conn.Write(b)
}

// A process is a child, as the test sees it.
type process struct {
	name  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{} // is closed when all that it has said was heard
}

// start starts a child, whose lines are heard one by one, until the test ends.
func start(t *testing.T, w *world.World, work, name string, environment []string, hear func(line string)) *process {
	t.Helper()
	p := &process{name: name, cmd: exec.Command(os.Args[0]), ended: make(chan struct{})}
	p.cmd.Env = append(p.cmd.Environ(), childWork+"="+work, childOf+"="+w.Name, childName+"="+name,
		childDSN+"="+w.DSN(databases.Options{}))
	p.cmd.Env = append(p.cmd.Env, environment...)
	p.cmd.Stderr = os.Stderr
	var err error
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			hear(lines.Text())
		}
	}()
	t.Cleanup(p.kill)
	return p
}

// kill ends the process, at whatever it is, and returns when it is gone.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		<-p.ended
		_ = p.cmd.Wait()
	}
}

// finish lets processes end by themselves.
func finish(t *testing.T, processes []*process) {
	t.Helper()
	for _, p := range processes {
		_ = p.stdin.Close()
	}
	for _, p := range processes {
		if p.cmd.ProcessState == nil {
			<-p.ended
			require.NoError(t, p.cmd.Wait())
		}
	}
}

func (p *process) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(sig))
}

// tell writes a line to the process, which reads it when it can.
func (p *process) tell(t *testing.T, words ...any) {
	t.Helper()
	_, err := fmt.Fprintln(p.stdin, words...)
	require.NoError(t, err)
}
