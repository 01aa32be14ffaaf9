package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// program builds this program. In its environment there are no servers but those that the variables name.
func program(t *testing.T, variables ...string) func(command ...string) *exec.Cmd {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "withservers")
	out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput()
	require.NoError(t, err, "%s", out)
	return func(command ...string) *exec.Cmd {
		cmd := exec.Command(binary, command...)
		cmd.Env = append(cmd.Environ(), "RACEPROOF_POSTGRES=", "RACEPROOF_MARIADB=", "RACEPROOF_REQUIRE=")
		cmd.Env = append(cmd.Env, variables...)
		return cmd
	}
}

func ended(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

const names = `echo "postgres=$RACEPROOF_POSTGRES mariadb=$RACEPROOF_MARIADB"; exit 7`

func TestWithoutServers(t *testing.T) {
	with := program(t, "PATH=")
	out, errs, code := ended(t, with("/bin/sh", "-c", names))
	assert.Equal(t, "postgres= mariadb=\n", out)
	assert.Contains(t, errs, "withservers: no postgres: ")
	assert.Contains(t, errs, "withservers: no mariadb: ")
	assert.Equal(t, 7, code)

	cmd := with("/bin/sh", "-c", names)
	cmd.Env = append(cmd.Env, "RACEPROOF_REQUIRE=mariadb")
	out, errs, code = ended(t, cmd)
	assert.Empty(t, out)
	assert.Contains(t, errs, "install the Debian package mariadb-server")
	assert.Equal(t, 1, code)

	cmd = with("/bin/sh", "-c", names)
	cmd.Env = append(cmd.Env, "RACEPROOF_REQUIRE=db2")
	_, errs, code = ended(t, cmd)
	assert.Contains(t, errs, `names "db2"`)
	assert.Equal(t, 2, code)

	_, _, code = ended(t, with())
	assert.Equal(t, 2, code)
	_, _, code = ended(t, with("/does/not/exist"))
	assert.Equal(t, 127, code)
}

// Servers that were named are used, and not started.
func TestNamedServers(t *testing.T) {
	with := program(t, "RACEPROOF_POSTGRES=p", "RACEPROOF_MARIADB=m", "RACEPROOF_REQUIRE=postgres,mariadb")
	out, _, code := ended(t, with("sh", "-c", names))
	assert.Equal(t, "postgres=p mariadb=m\n", out)
	assert.Equal(t, 7, code)
	_, _, code = ended(t, with("sh", "-c", "kill -9 $$"))
	assert.Equal(t, 128+9, code)
}

// Signals go to the command, and the servers are stopped after it. Which are installed here is not asked.
func TestSignals(t *testing.T) {
	folder, err := os.MkdirTemp("", "withservers-")
	require.NoError(t, err)
	defer func() { assert.NoError(t, os.RemoveAll(folder)) }()
	require.NoError(t, os.Chmod(folder, 0o755)) // the servers' users must come to it
	with := program(t, "TMPDIR="+folder)
	cmd := with("sh", "-c", "echo started; exec sleep 600")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	assert.Equal(t, "started\n", line)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	_, err = io.Copy(io.Discard, out)
	require.NoError(t, err)
	assert.Error(t, cmd.Wait())
	assert.Equal(t, 128+15, cmd.ProcessState.ExitCode())
	entries, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Empty(t, entries)
}
