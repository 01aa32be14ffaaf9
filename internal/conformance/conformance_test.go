package conformance_test

import (
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/conformance"
	"github.com/raceproof/raceproof/internal/testdb"
)

// with opens databases in new files.
func with(parameters ...string) conformance.Open {
	return func(t testing.TB) *sqlx.DB { return testdb.Open(t, testdb.File(t, parameters...)) }
}

// narrow opens databases with one connection, which nobody may want a second of.
func narrow(t testing.TB) *sqlx.DB {
	pool := with()(t)
	pool.SetMaxOpenConns(1)
	return pool
}

func TestPatterns(t *testing.T) {
	databases := map[string]conformance.Open{
		"wal": with(),
		// Writers wait for readers, and COMMIT can be refused.
		"rollback journal": with("_journal_mode=DELETE"),
		// The driver keeps prepared statements, and steps them earlier.
		"statement cache": with("_stmt_cache_size=64"),
	}
	for name, open := range databases {
		for _, p := range conformance.Patterns() {
			t.Run(name+"/"+p.Name, func(t *testing.T) { conformance.Run(t, open, p) })
		}
	}
}

func TestMixed(t *testing.T) {
	for name, open := range map[string]conformance.Open{"wal": with(), "one connection": narrow} {
		t.Run(name, func(t *testing.T) { conformance.Mixed(t, open, conformance.Patterns()) })
	}
}

// The naive updater must fail every check, or the check is no check. Its databases soon give up waiting for locks.
func TestControls(t *testing.T) {
	t.Run("every check", func(t *testing.T) { conformance.Controls(t, with("_busy_timeout=50")) })
	t.Run("loses updates", func(t *testing.T) { conformance.NaiveLoses(t, with()) })
}
