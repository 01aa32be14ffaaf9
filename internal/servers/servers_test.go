//go:build unix

package servers

import (
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// These tests need no server; those that start real ones are in the module tests.

func TestAbsent(t *testing.T) {
	t.Setenv("PATH", "")
	_, err := Start(Postgres)
	require.ErrorIs(t, err, ErrAbsent)
	assert.ErrorContains(t, err, "install the Debian package postgresql, or set RACEPROOF_POSTGRES "+
		"to the DSN of a running server, such as postgres://postgres@127.0.0.1:5432/postgres?sslmode=disable")
	_, err = Start(MariaDB)
	require.ErrorIs(t, err, ErrAbsent)
	assert.ErrorContains(t, err, "install the Debian package mariadb-server, or set RACEPROOF_MARIADB "+
		"to the DSN of a running server, such as root@tcp(127.0.0.1:3306)/")
}

func TestUnknownKind(t *testing.T) {
	_, err := Start("oracle")
	assert.EqualError(t, err, `there is no server of the kind "oracle"`)
}

// pretend puts programs of the test's own in the place of PostgreSQL's, and makes a new folder for temporary files.
func pretend(t *testing.T, initdb, postgres string) (temporary string) {
	t.Helper()
	who, err := unprivileged("postgres")
	require.NoError(t, err)
	folder, claim, err := who.folder()
	require.NoError(t, err)
	t.Cleanup(func() {
		assert.NoError(t, os.RemoveAll(folder))
		assert.NoError(t, claim.Close())
	})
	require.NoError(t, os.Chmod(folder, 0o755))
	for name, script := range map[string]string{"initdb": initdb, "postgres": postgres} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte("#!/bin/sh\n"+script), 0o755))
	}
	t.Setenv("PATH", folder)
	temporary = filepath.Join(folder, "temporary")
	require.NoError(t, os.Mkdir(temporary, 0o755))
	t.Setenv("TMPDIR", temporary)
	return temporary
}

func assertEmpty(t *testing.T, folder string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Empty(t, entries)
}

func TestServerThatFails(t *testing.T) {
	temporary := pretend(t, "exit 0", "echo no memory >&2; exit 3")
	_, err := Start(Postgres)
	assert.ErrorContains(t, err, "ended when it was started: exit status 3; the end of its log:\nno memory")
	assertEmpty(t, temporary)
}

func TestFolderThatCannotBeMade(t *testing.T) {
	temporary := pretend(t, "echo no space; exit 1", "exit 0")
	_, err := Start(Postgres)
	assert.ErrorContains(t, err, "initdb: exit status 1; the end of its log:\nno space")
	assertEmpty(t, temporary)
}

func TestPortThatIsTakenMeanwhile(t *testing.T) {
	temporary := pretend(t, "exit 0", `echo "arguments: $*"; exit 1`)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	free, err := freePort()
	require.NoError(t, err)
	ports := []int{other.Addr().(*net.TCPAddr).Port, free}
	_, err = start(Postgres, func() (port int, err error) {
		port, ports = ports[0], ports[1:]
		return port, nil
	}, []string{"-c", "fsync=off"})
	assert.ErrorContains(t, err, "fsync=off") // the log of the second attempt, which fails at something else
	assert.Empty(t, ports)
	assertEmpty(t, temporary)
}

func TestGreetings(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		greets       func(net.Conn) error
		want         string
	}{
		{"postgres that is up", "R\x00\x00\x00\x08\x00\x00\x00\x00", postgresGreets, ""},
		{"postgres that starts", "E\x00\x00\x00\x0fC57P03\x00more", postgresGreets, "57P03"},
		{"silence", "", postgresGreets, "EOF"},
		{"mariadb that is up", "\x05\x00\x00\x00\x0a10.11", mariadbGreets, ""},
		{"mariadb that is full", "\x0b\x00\x00\x00\xff\x10\x04Too many", mariadbGreets, "Too many"},
		{"no greeting", "", mariadbGreets, "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			require.NoError(t, err)
			defer func() { _ = l.Close() }()
			go func() {
				server, err := l.Accept()
				if err == nil && c.want != "EOF" {
					_, _ = server.Write([]byte(c.answer))
				} else if err == nil {
					_ = server.(*net.TCPConn).CloseWrite()
				}
			}()
			client, err := net.Dial("tcp", l.Addr().String())
			require.NoError(t, err)
			defer func() { _ = client.Close() }()
			if err = c.greets(client); c.want == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, c.want)
			}
		})
	}
}

// A private folder for temporary files is of no use to the user that a server runs as.
func TestFolderIsReachable(t *testing.T) {
	private := t.TempDir()
	require.NoError(t, os.Chmod(private, 0o700))
	t.Setenv("TMPDIR", private)
	_, claim, err := (&owner{}).folder()
	require.NoError(t, err)
	assert.NoError(t, claim.Close())
	_, _, err = (&owner{&syscall.Credential{Uid: 4711}}).folder()
	assert.ErrorContains(t, err, "user 4711, whom servers of root run as, cannot come to "+private)
}

// What a killed process has left is removed, what others use is not.
func TestSweep(t *testing.T) {
	if runtime.GOOS != "linux" {
		return // nothing is known to be left there
	}
	t.Setenv("TMPDIR", t.TempDir())
	dead, claim, err := (&owner{}).folder()
	require.NoError(t, err)
	require.NoError(t, claim.Close()) // as it is when a process ends
	alive, claim, err := (&owner{}).folder()
	require.NoError(t, err)
	defer func() { _ = claim.Close() }()
	_, other, err := (&owner{}).folder()
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	assert.NoDirExists(t, dead)
	assert.DirExists(t, alive)
}

func TestRequired(t *testing.T) {
	for _, c := range []struct {
		text string
		want []Kind
	}{{"", nil}, {"mariadb", []Kind{MariaDB}}, {"postgres, mariadb,", []Kind{Postgres, MariaDB}}} {
		t.Setenv("RACEPROOF_REQUIRE", c.text)
		kinds, err := Required()
		require.NoError(t, err)
		assert.Equal(t, c.want, kinds)
	}
	t.Setenv("RACEPROOF_REQUIRE", "postgres,mysql")
	_, err := Required()
	assert.EqualError(t, err, `RACEPROOF_REQUIRE names "mysql"; it can name [postgres mariadb]`)
}
