package databases_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
)

// of is a database for each kind of server.
var of = map[servers.Kind]string{servers.Postgres: "postgres/pgx", servers.MariaDB: "mariadb/mysql"}

func eachKind(t *testing.T, do func(*testing.T, servers.Kind)) {
	for _, kind := range servers.Kinds {
		t.Run(string(kind), func(t *testing.T) { do(t, kind) })
	}
}

func TestKillAndRestart(t *testing.T) {
	eachKind(t, func(t *testing.T, kind servers.Kind) {
		s := databases.Server(t, kind)
		assert.ErrorContains(t, s.Restart(), "runs")
		f := databases.Named(of[kind]).At(s.DSN("")).Fresh(t)
		pool := f.Open(databases.Options{})
		_, err := pool.Exec(`CREATE TABLE things (n BIGINT)`)
		require.NoError(t, err)
		_, err = pool.Exec(`INSERT INTO things VALUES (1)`)
		require.NoError(t, err)
		tx, err := pool.Beginx()
		require.NoError(t, err)
		_, err = tx.Exec(`INSERT INTO things VALUES (2)`)
		require.NoError(t, err)

		port := s.Port()
		require.NoError(t, s.Kill())
		require.NoError(t, s.Kill()) // nothing is left to kill
		_, err = tx.Exec(`INSERT INTO things VALUES (3)`)
		assert.Error(t, err)
		_ = tx.Rollback() // there is nobody to tell
		require.NoError(t, s.Restart())
		assert.Equal(t, port, s.Port())
		var n []int
		require.NoError(t, f.Open(databases.Options{}).Select(&n, `SELECT n FROM things`))
		assert.Equal(t, []int{1}, n)
	})
}

func TestPause(t *testing.T) {
	eachKind(t, func(t *testing.T, kind servers.Kind) {
		s := databases.Server(t, kind)
		pool := databases.Named(of[kind]).At(s.DSN("")).Open(t, databases.Options{})
		require.NoError(t, pool.Ping())
		require.NoError(t, s.Pause())
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err := pool.ExecContext(ctx, `SELECT 1`)
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		require.NoError(t, s.Continue())
		_, err = pool.Exec(`SELECT 1`)
		assert.NoError(t, err)
	})
}

func TestFlags(t *testing.T) {
	flags := map[servers.Kind][]string{servers.Postgres: {"-c", "max_connections=77"}, servers.MariaDB: {"--max-connections=77"}}
	query := map[servers.Kind]string{servers.Postgres: `SHOW max_connections`, servers.MariaDB: `SELECT @@max_connections`}
	eachKind(t, func(t *testing.T, kind servers.Kind) {
		s := databases.Server(t, kind, flags[kind]...)
		var n int
		require.NoError(t, databases.Named(of[kind]).At(s.DSN("")).Open(t, databases.Options{}).Get(&n, query[kind]))
		assert.Equal(t, 77, n)
	})
}

// temporary returns a folder that the servers' users can come to, and t.TempDir is not.
func temporary(t *testing.T) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "servers-")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(folder, 0o755))
	t.Cleanup(func() { assert.NoError(t, os.RemoveAll(folder)) })
	return folder
}

// within returns the processes that work in a folder. Only Linux tells.
func within(t *testing.T, folder string) (pids []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	require.NoError(t, err)
	for _, link := range links {
		if cwd, err := os.Readlink(link); err == nil && strings.HasPrefix(cwd, folder) {
			pids = append(pids, link)
		}
	}
	return pids
}

func TestStop(t *testing.T) {
	eachKind(t, func(t *testing.T, kind servers.Kind) {
		folder := temporary(t)
		t.Setenv("TMPDIR", folder)
		for name, before := range map[string]func(*servers.Server) error{
			"running": func(*servers.Server) error { return nil },
			"paused":  (*servers.Server).Pause,
			"killed":  (*servers.Server).Kill,
		} {
			s := databases.Server(t, kind)
			entries, err := os.ReadDir(folder)
			require.NoError(t, err)
			assert.Len(t, entries, 1)
			if runtime.GOOS == "linux" {
				assert.NotEmpty(t, within(t, folder))
			}
			require.NoError(t, before(s), name)
			require.NoError(t, s.Stop(), name)
			require.NoError(t, s.Stop(), name)
			assert.Error(t, s.Restart(), name)
			entries, err = os.ReadDir(folder)
			require.NoError(t, err)
			assert.Empty(t, entries, name)
			assert.Empty(t, within(t, folder), name)
			_, err = net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port())))
			assert.Error(t, err, name)
		}
	})
}

// TestOrphan is the other half of TestServersEndWithTheirParent: it starts a server and waits to be killed.
func TestOrphan(t *testing.T) {
	kind := servers.Kind(os.Getenv("RACEPROOF_TEST_ORPHAN"))
	if kind == "" {
		return
	}
	s := databases.Server(t, kind)
	if os.Getenv("RACEPROOF_TEST_PAUSED") != "" {
		require.NoError(t, s.Pause())
	}
	_, err := os.Stdout.WriteString("port " + strconv.Itoa(s.Port()) + "\n")
	require.NoError(t, err)
	select {}
}

func TestServersEndWithTheirParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // nobody tells the server
	}
	eachKind(t, func(t *testing.T, kind servers.Kind) {
		for _, paused := range []string{"", "yes"} {
			databases.Named(of[kind]).Fresh(t) // only where there are servers
			folder := temporary(t)
			child := exec.Command(os.Args[0], "-test.run=^TestOrphan$")
			child.Env = append(child.Environ(), "RACEPROOF_REPORT=", "RACEPROOF_TEST_ORPHAN="+string(kind), "RACEPROOF_TEST_PAUSED="+paused, "TMPDIR="+folder)
			out, err := child.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, child.Start())
			started := false
			for lines := bufio.NewScanner(out); !started && lines.Scan(); {
				started = strings.HasPrefix(lines.Text(), "port ")
			}
			require.True(t, started)
			assert.NotEmpty(t, within(t, folder))
			require.NoError(t, child.Process.Kill())
			assert.Error(t, child.Wait())
			assert.Eventually(t, func() bool { return len(within(t, folder)) == 0 }, 30*time.Second, 5*time.Millisecond)
		}
	})
}
