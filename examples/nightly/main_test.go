package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	ttl = 300 * time.Millisecond

	asProgram = "NIGHTLY_AS_PROGRAM" // has the test binary be the program
)

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A night is what the processes that were started on one database have said.
type night struct {
	*testing.T
	driver, dsn string
	pool        *sqlx.DB

	mu        sync.Mutex
	processes []*process
	last      *process // that has said that it runs the job
	done      int      // how often one has said that an account is done
}

type process struct {
	cmd  *exec.Cmd
	said bytes.Buffer // guarded by the night
	over chan struct{}
}

func (n *night) start() {
	p := &process{cmd: exec.Command(os.Args[0], "-driver", n.driver, "-dsn", n.dsn, "-ttl", ttl.String(), "-work", "60ms"), over: make(chan struct{})}
	p.cmd.Env = append(p.cmd.Environ(), asProgram+"=yes", "GORACE=atexit_sleep_ms=0")
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	require.NoError(n, err)
	require.NoError(n, p.cmd.Start())
	n.processes = append(n.processes, p)
	go func() {
		defer close(p.over)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			n.hear(p, lines.Text())
		}
	}()
	n.Cleanup(func() {
		if p.cmd.ProcessState == nil {
			n.kill(p)
		}
	})
}

func (n *night) hear(p *process, line string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p.said.WriteString(line + "\n")
	if strings.Contains(line, "runs the job") {
		n.last = p
	}
	if strings.Contains(line, "has done account") {
		n.done++
	}
}

func (n *night) kill(p *process) {
	_ = p.cmd.Process.Kill()
	<-p.over
	_ = p.cmd.Wait()
}

// within waits until something holds, for so long.
func (n *night) within(d time.Duration, holds func() bool) bool {
	for deadline := time.Now().Add(d); ; time.Sleep(time.Millisecond) {
		n.mu.Lock()
		is := holds()
		n.mu.Unlock()
		if is || time.Now().After(deadline) {
			return is
		}
	}
}

func (n *night) until(what string, holds func() bool) {
	n.Helper()
	require.True(n, n.within(30*time.Second, holds), what)
}

// runner waits until some more accounts are done, and returns who works now.
func (n *night) runner(more int) (p *process) {
	n.Helper()
	first := -1
	n.until("accounts are done", func() bool {
		if first < 0 {
			first = n.done
		}
		p = n.last
		return n.done >= first+more
	})
	return p
}

// crash kills who works: another goes on.
func (n *night) crash() {
	p := n.runner(3)
	n.kill(p)
	killed := time.Now()
	n.until("another goes on", func() bool { return n.last != p })
	took := time.Since(killed)
	n.Logf("another runs the job %v after the other was killed", took.Round(time.Millisecond))
	assert.Less(n, took, ttl+time.Second)
}

// stop stops who works until another does. If it has a transaction open that nobody can pass, it is stopped again elsewhere.
func (n *night) stop() {
	for range 5 {
		p := n.runner(1)
		require.NoError(n, p.cmd.Process.Signal(syscall.SIGSTOP))
		overtaken := n.within(3*time.Second, func() bool { return n.last != p })
		if overtaken {
			n.until("the other works", func() bool { return strings.Contains(n.last.said.String(), "has done") })
		}
		require.NoError(n, p.cmd.Process.Signal(syscall.SIGCONT))
		if overtaken {
			n.until("it notices", func() bool {
				said := p.said.String()
				return strings.Contains(said, "cannot commit account") && strings.Contains(said, "is not the one any more: ") && strings.HasSuffix(said, " waits\n")
			})
			return
		}
	}
	require.Fail(n, "nobody has taken over")
}

// Three are started: one is killed and one is stopped while they run the job, and every account is done once.
func TestNight(t *testing.T) {
	each(t, func(t *testing.T, n *night) {
		for range 3 {
			n.start()
		}
		n.crash()
		n.stop()
		for _, p := range n.processes {
			<-p.over
			if p.cmd.ProcessState == nil {
				assert.NoError(t, p.cmd.Wait())
			}
		}
		for id := range accounts {
			assert.Equal(t, int64(10100), n.balance(id+1), id+1)
		}
	})
}

func (n *night) balance(id int) (b int64) {
	require.NoError(n, n.pool.Get(&b, fmt.Sprintf(`SELECT balance FROM nightly_accounts WHERE id = %d`, id)))
	return b
}

// each runs a test on SQLite, and on the servers that are given: `make test` gives both.
func each(t *testing.T, test func(*testing.T, *night)) {
	for driver, dsn := range map[string]string{
		"sqlite3": "file:" + (&url.URL{Path: filepath.Join(t.TempDir(), "x.db")}).EscapedPath() + "?_journal_mode=WAL&_synchronous=OFF",
		"pgx":     os.Getenv("RACEPROOF_POSTGRES"),
		"mysql":   os.Getenv("RACEPROOF_MARIADB"),
	} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			if dsn == "" {
				require.Empty(t, os.Getenv("RACEPROOF_REQUIRE"), "a server is required, and none is given")
				t.Skip("no server is given")
			}
			n := &night{T: t, driver: driver, dsn: dsn}
			if driver != "sqlite3" {
				n.dsn = fresh(t, driver, dsn)
			}
			pool, err := sqlx.Open(driver, n.dsn)
			require.NoError(t, err)
			t.Cleanup(func() { assert.NoError(t, pool.Close()) })
			n.pool = pool
			test(t, n)
		})
	}
}

// fresh makes a database, on PostgreSQL a schema, until the test ends.
func fresh(t *testing.T, driver, dsn string) string {
	db, err := sqlx.Open(driver, dsn)
	require.NoError(t, err)
	name, what, cascade := "nightly_"+strings.ToLower(rand.Text()), "SCHEMA ", ""
	if driver == "pgx" {
		cascade = " CASCADE"
	}
	_, err = db.Exec("CREATE " + what + name)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := db.Exec("DROP " + what + name + cascade)
		assert.NoError(t, err)
		assert.NoError(t, db.Close())
	})
	if driver == "mysql" {
		config, err := mysql.ParseDSN(dsn)
		require.NoError(t, err)
		config.DBName = name
		return config.FormatDSN()
	}
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	query := u.Query()
	query.Set("search_path", name)
	query.Set("application_name", name)
	u.RawQuery = query.Encode()
	return u.String()
}

func TestBadArguments(t *testing.T) {
	for message, args := range map[string][]string{
		"needs a -dsn":                  nil,
		`unexpected argument "now"`:     {"-dsn", "x", "now"},
		"flag provided but not defined": {"-night", "3"},
		`unknown driver "oracle"`:       {"-driver", "oracle", "-dsn", "x"},
		"the TTL is 1ns":                {"-ttl", "1ns", "-dsn", "file:" + filepath.Join(t.TempDir(), "x.db")},
	} {
		assert.ErrorContains(t, run(context.Background(), args, io.Discard, io.Discard), message)
	}
}

// One that is interrupted gives the lease back.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	interrupted := errors.New("interrupted")
	dsn := "file:" + filepath.Join(t.TempDir(), "x.db")
	err := run(ctx, []string{"-dsn", dsn, "-work", "1ms"}, writer(func(line string) {
		if strings.Contains(line, "has done account 3") {
			cancel(interrupted)
		}
	}), io.Discard)
	assert.ErrorIs(t, err, interrupted)
	var out bytes.Buffer
	require.NoError(t, run(context.Background(), []string{"-dsn", dsn, "-work", "1ms", "-ttl", "1h"}, &out, io.Discard))
	assert.Contains(t, out.String(), "works on account 4\n")
	assert.NotContains(t, out.String(), "works on account 3\n")
	assert.Contains(t, out.String(), "finds nothing to do\n")
}

type writer func(string)

func (w writer) Write(b []byte) (int, error) {
	w(string(b))
	return len(b), nil
}
