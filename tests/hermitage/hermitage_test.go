// Package hermitage tests what the isolation levels of the installed servers prevent, with the scenarios of Martin
// Kleppmann's Hermitage (https://github.com/ept/hermitage): what this module claims about a server rests on what that
// server does, not on what is written about it.
package hermitage_test

import (
	"database/sql"
	"flag"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/tests/databases"
)

// expected is what each level prevents (✓), and what it lets happen (—). The columns are explained where the scenarios
// are; "snapshot" is innodb_snapshot_isolation.
const expected = `
| server     | level                      | G0 | G1a | G1b | G1c | OTV | PMP | PMP-w | PMP-rw | P4 | G-single | G-single-d | G-single-w | G2-item | G2 | G2-2 |
|:-----------|:---------------------------|:--:|:---:|:---:|:---:|:---:|:---:|:-----:|:------:|:--:|:--------:|:----------:|:----------:|:-------:|:--:|:----:|
| PostgreSQL | read committed             | ✓  | ✓   | ✓   | ✓   | ✓   | —   | —     | —      | —  | —        | —          | —          | —       | —  | —    |
| PostgreSQL | repeatable read            | ✓  | ✓   | ✓   | ✓   | ✓   | ✓   | ✓     | ✓      | ✓  | ✓        | ✓          | ✓          | —       | —  | —    |
| PostgreSQL | serializable               | ✓  | ✓   | ✓   | ✓   | ✓   | ✓   | ✓     | ✓      | ✓  | ✓        | ✓          | ✓          | ✓       | ✓  | ✓    |
| MariaDB    | read uncommitted           | ✓  | —   | —   | —   | —   | —   | ✓     | —      | —  | —        | —          | —          | —       | —  | —    |
| MariaDB    | read committed             | ✓  | ✓   | ✓   | ✓   | ✓   | —   | ✓     | —      | —  | —        | —          | —          | —       | —  | —    |
| MariaDB    | repeatable read            | ✓  | ✓   | ✓   | ✓   | ✓   | ✓   | ✓     | —      | —  | ✓        | ✓          | —          | —       | —  | —    |
| MariaDB    | repeatable read, snapshot  | ✓  | ✓   | ✓   | ✓   | ✓   | ✓   | ✓     | ✓      | ✓  | ✓        | ✓          | ✓          | —       | —  | —    |
| MariaDB    | serializable               | ✓  | ✓   | ✓   | ✓   | ✓   | ✓   | ✓     | ✓      | ✓  | ✓        | ✓          | ✓          | ✓       | ✓  | ✓    |
`

var scenarios = []scenario{
	dirtyWrites, abortedRead, intermediateRead, circularFlow, vanishing,
	predicateRead, predicateWrite, predicateReadWrite, lostUpdate, readSkew, readSkewPredicate, readSkewWrite,
	writeSkew, phantomSkew, readOnlySkew,
}

// A level is an isolation level of a server.
type level struct {
	short  string // in the heads of the scripts
	server string
	name   string
	begin  []string // begins a transaction
}

const (
	postgres = "PostgreSQL"
	mariadb  = "MariaDB"
)

var levels = []level{
	{"p-rc", postgres, "read committed", []string{`BEGIN ISOLATION LEVEL READ COMMITTED`}},
	{"p-rr", postgres, "repeatable read", []string{`BEGIN ISOLATION LEVEL REPEATABLE READ`}},
	{"p-s", postgres, "serializable", []string{`BEGIN ISOLATION LEVEL SERIALIZABLE`}},
	{"m-ru", mariadb, "read uncommitted", innodb("READ UNCOMMITTED", "OFF")},
	{"m-rc", mariadb, "read committed", innodb("READ COMMITTED", "OFF")},
	{"m-rr", mariadb, "repeatable read", innodb("REPEATABLE READ", "OFF")},
	{"m-si", mariadb, "repeatable read, snapshot", innodb("REPEATABLE READ", "ON")},
	{"m-s", mariadb, "serializable", innodb("SERIALIZABLE", "OFF")},
}

// innodb sets the variable too, because newer servers have it on.
func innodb(isolation, snapshot string) []string {
	return []string{
		`SET SESSION innodb_snapshot_isolation = ` + snapshot,
		`SET SESSION TRANSACTION ISOLATION LEVEL ` + isolation,
		`START TRANSACTION`,
	}
}

// The table of every scenario.
const (
	create = `CREATE TABLE test (id INT PRIMARY KEY, value INT NOT NULL)`
	fill   = `INSERT INTO test VALUES (1, 10), (2, 20)`
)

// limit is far beyond what any run takes; one that runs into it hangs.
const limit = time.Minute

// TestGrid compares what every scenario shows at every level with the grid, and what came of its steps with its script.
func TestGrid(t *testing.T) {
	want, err := readGrid(expected)
	require.NoError(t, err)
	require.Len(t, want, len(levels)*len(scenarios))
	var mu sync.Mutex
	measured := grid{}
	t.Cleanup(func() {
		t.Logf("prevented (✓, with the error if a transaction was refused) or possible (—):\n\n%v", measured)
	})
	eachServer(t, func(t *testing.T, w *watch) {
		for _, l := range levels {
			if l.server != w.server {
				continue
			}
			t.Run(l.name, func(t *testing.T) {
				t.Parallel()
				for _, s := range scenarios {
					t.Run(s.name, func(t *testing.T) {
						t.Parallel()
						cell := [3]string{l.server, l.name, s.name}
						got, err := s.try(t.Context(), open(t, l.server), w, l, want[cell])
						if err != nil {
							t.Error(err)
						}
						mu.Lock()
						defer mu.Unlock()
						measured[cell] = got
					})
				}
			})
		}
	})
}

// eachServer runs a test on the servers that are there.
func eachServer(t *testing.T, test func(*testing.T, *watch)) {
	for _, server := range []string{postgres, mariadb} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			test(t, &watch{server: server, pool: open(t, server)})
		})
	}
}

// open opens a fresh database until the test ends, or skips the test if the server is absent.
func open(t *testing.T, server string) *sql.DB {
	return databases.Named(map[string]string{postgres: "postgres/pgx", mariadb: "mariadb/mysql"}[server]).
		Open(t, databases.Options{}).DB
}

// TestMain has all levels run at once: they wait for locks, not for processors. The flag still wins.
func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", strconv.Itoa(len(levels)))
	os.Exit(databases.Main(m))
}
