//go:build unix

package servers

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// A Kind is one of the servers that can be started.
type Kind string

// The kinds.
const (
	Postgres Kind = "postgres"
	MariaDB  Kind = "mariadb"
)

// Kinds are all of them.
var Kinds = []Kind{Postgres, MariaDB}

// Variable is the environment variable that the tests take the DSN of a running server of this kind from.
func (k Kind) Variable() string { return "RACEPROOF_" + strings.ToUpper(string(k)) }

// Required returns the kinds whose absence is a failure: those that the environment variable RACEPROOF_REQUIRE names,
// with commas between them.
func Required() (kinds []Kind, err error) {
	for word := range strings.SplitSeq(os.Getenv("RACEPROOF_REQUIRE"), ",") {
		kind := Kind(strings.TrimSpace(word))
		switch {
		case slices.Contains(Kinds, kind):
			kinds = append(kinds, kind)
		case kind != "":
			return nil, fmt.Errorf("RACEPROOF_REQUIRE names %q; it can name %v", kind, Kinds)
		}
	}
	return kinds, nil
}

// Report is the environment variable that names a file to which test binaries add what they have tested.
const Report = "RACEPROOF_REPORT"
