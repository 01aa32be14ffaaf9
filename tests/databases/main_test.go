package databases_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	_ "github.com/mattn/go-sqlite3" // the driver under test
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/tests/databases"
)

func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }

// again runs one test of this binary in a process of its own, with other variables.
func again(t *testing.T, test string, variables ...string) (output string, code int) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^"+test+"$")
	cmd.Env = append(append(cmd.Environ(), "RACEPROOF_REPORT="), variables...) // what is tested here is no case
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		require.NoError(t, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// What a machine has that has no servers.
var bare = []string{"PATH=", "RACEPROOF_POSTGRES=", "RACEPROOF_MARIADB=", "RACEPROOF_REQUIRE="}

func TestAbsentServersAreSkippedAndNamed(t *testing.T) {
	out, code := again(t, "TestOpen", bare...)
	assert.Zero(t, code, out)
	assert.Contains(t, out, "--- PASS: TestOpen/sqlite/mattn")
	for _, want := range []string{
		"--- SKIP: TestOpen/postgres/pgx", "--- SKIP: TestOpen/postgres/pq", "install the Debian package postgresql",
		"--- SKIP: TestOpen/mariadb/mysql", "install the Debian package mariadb-server", "set RACEPROOF_MARIADB to",
	} {
		assert.Contains(t, out, want)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	require.Greater(t, len(lines), 5)
	for i, want := range []string{
		"sqlite/mattn   1 test cases", "sqlite/modernc 1 test cases",
		"postgres/pgx   ABSENT: ", "postgres/pq    ABSENT: ", "mariadb/mysql  ABSENT: ",
	} {
		assert.Contains(t, lines[len(lines)-5+i], want)
	}
}

func TestRequiredServersMustBeThere(t *testing.T) {
	out, code := again(t, "TestOpen", append(bare, "RACEPROOF_REQUIRE=postgres")...)
	assert.Equal(t, 1, code, out)
	assert.Contains(t, out, "--- FAIL: TestOpen/postgres/pgx")
	assert.Contains(t, out, "--- FAIL: TestOpen/postgres/pq")
	assert.Contains(t, out, "--- SKIP: TestOpen/mariadb/mysql")
	out, code = again(t, "TestKillAndRestart", append(bare, "RACEPROOF_REQUIRE=mariadb")...)
	assert.Equal(t, 1, code, out)
	assert.Contains(t, out, "--- FAIL: TestKillAndRestart/mariadb")
}

func TestUnknownRequirement(t *testing.T) {
	out, code := again(t, "TestOpen", append(bare, "RACEPROOF_REQUIRE=postgres,oracle")...)
	assert.Equal(t, 2, code, out)
	assert.Contains(t, out, `RACEPROOF_REQUIRE names "oracle"`)
}

// A server that was named and does not answer is a mistake, not an absence.
func TestNamedServerMustAnswer(t *testing.T) {
	out, code := again(t, "TestOpen", append(bare, "RACEPROOF_MARIADB=root@tcp(127.0.0.1:1)/")...)
	assert.Equal(t, 1, code, out)
	assert.Contains(t, out, "--- FAIL: TestOpen/mariadb/mysql")
}
