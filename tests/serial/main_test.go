// Package serial_test holds what package serial promises against real databases.
package serial_test

import (
	"os"
	"testing"

	"github.com/go-sql-driver/mysql"
	_ "github.com/mattn/go-sqlite3" // one of the two drivers of that name

	"github.com/raceproof/raceproof/tests/databases"
)

func TestMain(m *testing.M) {
	_ = mysql.SetLogger(&mysql.NopLogger{}) // broken connections are what some tests are about
	os.Exit(databases.Main(m))
}
