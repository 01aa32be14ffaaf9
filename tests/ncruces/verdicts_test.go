package ncruces

import (
	"errors"
	"testing"

	"github.com/ncruces/go-sqlite3"

	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// The driver's errors are classified for what SQLite has done, and updaters act on it.
func TestVerdicts(t *testing.T) {
	world.SQLite(t, database, func(err error) int {
		var (
			long     *sqlite3.Error // if SQLite has a message of its own
			extended sqlite3.ExtendedErrorCode
			code     sqlite3.ErrorCode
		)
		switch {
		case errors.As(err, &long):
			return int(long.ExtendedCode())
		case errors.As(err, &extended):
			return int(extended)
		case errors.As(err, &code):
			return int(code)
		}
		return -1
	})
}
