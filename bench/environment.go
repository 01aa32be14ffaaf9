package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// An environment is what figures depend on besides the code.
type environment struct {
	date, cpu, system, versions string
	cores                       int
}

// modules are what the contenders are made of.
var modules = []string{
	"github.com/mattn/go-sqlite3", "github.com/jackc/pgx/v5", "github.com/go-sql-driver/mysql", "github.com/jmoiron/sqlx",
	"entgo.io/ent", "github.com/uptrace/bun", "gorm.io/gorm", "gorm.io/driver/sqlite", "gorm.io/driver/postgres", "gorm.io/driver/mysql",
}

func findEnvironment(hosts []*host) environment {
	versions := []string{runtime.Version()}
	for _, h := range hosts {
		versions = append(versions, h.database.title()+" "+h.version)
	}
	for _, path := range modules {
		versions = append(versions, path+" "+moduleVersion(path))
	}
	return environment{
		date:     time.Now().UTC().Format(time.DateOnly),
		cpu:      valueIn("/proc/cpuinfo", "model name", ":", "unknown CPU"),
		cores:    runtime.NumCPU(),
		system:   valueIn("/etc/os-release", "PRETTY_NAME", "=", runtime.GOOS) + ", " + runtime.GOOS + "/" + runtime.GOARCH,
		versions: strings.Join(versions, ", "),
	}
}

// String is one paragraph of Markdown.
func (e environment) String() string {
	return fmt.Sprintf("Measured on %s: %s, %d cores, %s; %s.", e.date, e.cpu, e.cores, e.system, e.versions)
}

// moduleVersion returns the version of a module that this program was built with.
func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return m.Version
			}
		}
	}
	return "of an unknown version"
}

// valueIn returns the value of the first line of a file that is the name, a separator and a value, or else a
// substitute: not every system has these files.
func valueIn(file, name, separator, substitute string) string {
	f, err := os.Open(file)
	if err != nil {
		return substitute
	}
	defer func() { _ = f.Close() }()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if n, value, ok := strings.Cut(lines.Text(), separator); ok && strings.TrimSpace(n) == name {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return substitute
}
