package ncruces

import (
	"testing"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/conformance"
	"github.com/raceproof/raceproof/tests/databases"
)

func open(t testing.TB) *sqlx.DB { return database.Open(t, databases.Options{}) }

func TestPatterns(t *testing.T) {
	for _, p := range conformance.Patterns() {
		t.Run(p.Name, func(t *testing.T) { conformance.Run(t, open, p) })
	}
}

func TestMixed(t *testing.T) { conformance.Mixed(t, open, conformance.Patterns()) }
