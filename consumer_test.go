package raceproof_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const consumerMod = `module example.com/consumer

go 1.26.0

require github.com/raceproof/raceproof v0.0.0

replace github.com/raceproof/raceproof => `

const consumerMain = `package main

import (
	"context"
	"fmt"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
)

type row struct{ ID int64 }

func main() {
	db, err := raceproof.New(nil)
	fmt.Println(lock.New(db, raceproof.MustTable[row]("rows"), nil).Update(context.Background(), 1, nil))
	fmt.Println(err)
}
`

// A service that takes this module and uses one package of it gets no driver, no test library, and no higher version
// of anything than sqlx, go-sqlite3 and testify themselves ask for.
func TestConsumer(t *testing.T) {
	here, err := os.Getwd()
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(consumerMod+here+"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(consumerMain), 0o600))
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(cmd.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod")
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "go %v: %s", args, out)
		return string(out)
	}
	run("mod", "tidy")
	run("build", "-o", "consumer", ".")
	linked := run("version", "-m", "consumer")
	for _, module := range []string{"go-sqlite3", "testify", "mysql", "pq", "yaml"} {
		assert.NotContains(t, linked, module)
	}
	assert.Contains(t, linked, "github.com/jmoiron/sqlx")

	ours := graph(run("list", "-m", "-f", "{{.Path}} {{.Version}}", "all"))
	delete(ours, "example.com/consumer")
	delete(ours, module)

	// What the three ask for by themselves, in a module that has nothing else.
	alone := "module example.com/alone\n\ngo 1.26.0\n\nrequire (\n"
	for _, module := range []string{"github.com/jmoiron/sqlx", "github.com/mattn/go-sqlite3", "github.com/stretchr/testify"} {
		alone += "\t" + module + " " + required(t, module) + "\n"
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), []byte(alone+")\n"), 0o600))
	theirs := graph(run("list", "-m", "-f", "{{.Path}} {{.Version}}", "all"))
	delete(theirs, "example.com/alone")
	assert.NotEmpty(t, ours)
	for module, version := range ours {
		assert.Equal(t, theirs[module], version, module)
	}
}

func graph(list string) map[string]string {
	versions := map[string]string{}
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 0 && fields[0] != "go:" {
			versions[fields[0]] = strings.Join(fields[1:], " ")
		}
	}
	return versions
}

// required returns the version of a module in our go.mod.
func required(t *testing.T, module string) string {
	t.Helper()
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	for line := range strings.Lines(string(mod)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == module {
			return fields[1]
		}
	}
	t.Fatalf("go.mod does not require %s", module)
	return ""
}
