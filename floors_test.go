package raceproof_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/raceproof/raceproof"

// floors are the packages of this module from the bottom up, as DESIGN.md draws them. A package imports only packages
// of lower floors. Every package stands here: a new one needs a floor before it can be built on.
var floors = [][]string{
	{"internal/dialect", "internal/fifo", "internal/faultproxy", "internal/servers"},
	{"internal/session", "internal/mapping"},
	{""},
	{"internal/row"},
	{"lock", "atomic", "optimistic", "once", "lease", "serial"},
	{"internal/conformance", "internal/rerun"},
}

// Of the packages below, shipped ones import the standard library, sqlx and each other. Test support may import test
// libraries and drivers, and is imported by no shipped package and stands on no floor but its own.
var testSupport = []string{"internal/conformance", "internal/rerun", "internal/faultproxy", "internal/servers", "internal/testdb"}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Env = append(cmd.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		t.Fatalf("go list: %s", failed.Stderr)
	}
	require.NoError(t, err)
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return all
		}
		require.NoError(t, err)
		all = append(all, p)
	}
}

// broken returns what is wrong with the imports of the packages.
func broken(packages []goPackage) (complaints []string) {
	for _, p := range packages {
		name, _ := relative(p.ImportPath)
		if floor(name) < 0 && !slices.Contains(testSupport, name) {
			complaints = append(complaints, p.ImportPath+" stands on no floor")
		}
		for _, imported := range p.Imports {
			if why := forbidden(name, imported); why != "" {
				complaints = append(complaints, p.ImportPath+" imports "+imported+": "+why)
			}
		}
	}
	return complaints
}

func forbidden(name, imported string) string {
	support := slices.Contains(testSupport, name)
	if other, ours := relative(imported); ours {
		switch {
		case !support && slices.Contains(testSupport, other):
			return "it is test support"
		case name != "internal/testdb" && floor(other) >= floor(name):
			return "it stands no lower"
		}
		return ""
	}
	switch {
	case support:
		return ""
	case imported == "testing" || strings.HasPrefix(imported, "testing/"):
		return "it is for tests"
	case !strings.Contains(strings.Split(imported, "/")[0], "."): // the standard library
		return ""
	case strings.HasPrefix(imported+"/", "github.com/jmoiron/sqlx/"):
		return ""
	}
	return "shipped packages stand on the standard library and sqlx"
}

// relative returns a package's place in this module.
func relative(path string) (name string, ours bool) {
	if path == module {
		return "", true
	}
	return strings.CutPrefix(path, module+"/")
}

func floor(name string) int {
	return slices.IndexFunc(floors, func(names []string) bool { return slices.Contains(names, name) })
}

func TestFloors(t *testing.T) {
	packages := listPackages(t)
	assert.GreaterOrEqual(t, len(packages), 10)
	assert.Empty(t, broken(packages))
}

// The floors are a check only if it can fail.
func TestFloorsCanBreak(t *testing.T) {
	for _, c := range [][2]string{
		{"/lock", module + "/optimistic"},              // sideways
		{"/internal/dialect", module},                  // upwards
		{"", module + "/lock"},                         // the root knows its children
		{"/internal/row", module + "/internal/testdb"}, // test support
		{"/lock", "github.com/mattn/go-sqlite3"},       // a driver
		{"/atomic", "github.com/stretchr/testify/assert"},
		{"/atomic", "testing"},
		{"/internal/session", "golang.org/x/sync/semaphore"},
		{"/new", "fmt"}, // no floor
	} {
		assert.Len(t, broken([]goPackage{{module + c[0], []string{c[1]}}}), 1, "%v", c)
	}
	assert.Empty(t, broken([]goPackage{{module + "/lock", []string{"fmt", "net/http", "github.com/jmoiron/sqlx/reflectx", module}}}))
}
