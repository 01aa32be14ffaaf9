// Package verdicts_test provokes what can go wrong on real servers through the real drivers, and holds the verdict that
// the caller is told against what has become of the row.
package verdicts_test

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
	"github.com/mattn/go-sqlite3"
	moderncsqlite "modernc.org/sqlite"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

func TestMain(m *testing.M) {
	_ = mysql.SetLogger(&mysql.NopLogger{}) // broken connections are what the tests are about
	os.Exit(databases.Main(m))
}

var (
	onPostgres = []string{"postgres/pgx", "postgres/pq"}
	onMariaDB  = []string{"mariadb/mysql"}
	onServers  = slices.Concat(onPostgres, onMariaDB)
	onSQLite   = []string{"sqlite/mattn", "sqlite/modernc"}
)

// each runs a test on databases, one after the other, and fails it if it leaves goroutines behind.
func each(t *testing.T, names []string, test func(*testing.T, databases.Database)) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			d := databases.Named(name)
			if d.Kind != "" {
				d.Fresh(t) // the server is started by then, and what belongs to it runs
			}
			before := runtime.NumGoroutine()
			t.Cleanup(func() {
				world.Until(t, "no goroutine is left behind", func() bool { return runtime.NumGoroutine() <= before })
			})
			test(t, d)
		})
	}
}

// oneAttempt keeps Transact from calling its function again.
var oneAttempt = raceproof.Retry(raceproof.RetryPolicy{MaxAttempts: 1})

// codeOf returns the code of the driver's own error.
func codeOf(err error) string {
	var (
		onPgx     *pgconn.PgError
		onPq      *pq.Error
		onMySQL   *mysql.MySQLError
		onMattn   sqlite3.Error
		onModernc *moderncsqlite.Error
	)
	switch {
	case errors.As(err, &onPgx):
		return onPgx.Code
	case errors.As(err, &onPq):
		return string(onPq.Code)
	case errors.As(err, &onMySQL):
		return strconv.Itoa(int(onMySQL.Number))
	case errors.As(err, &onMattn):
		return strconv.Itoa(int(onMattn.ExtendedCode))
	case errors.As(err, &onModernc):
		return strconv.Itoa(onModernc.Code())
	}
	return ""
}

// provoked are the codes that were seen, by the database.
var provoked struct {
	sync.Mutex
	codes map[string][]string
}

// saw notes the code of an error, and returns it.
func saw(d databases.Database, err error) string {
	code := codeOf(err)
	provoked.Lock()
	defer provoked.Unlock()
	if provoked.codes == nil {
		provoked.codes = map[string][]string{}
	}
	if code != "" && !slices.Contains(provoked.codes[d.Name], code) {
		provoked.codes[d.Name] = append(provoked.codes[d.Name], code)
	}
	return code
}
