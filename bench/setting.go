package main

import (
	"context"
	"fmt"
)

// A pattern is a way to keep updates from being lost.
type pattern string

const (
	atomicPattern     pattern = "atomic"
	optimisticPattern pattern = "optimistic"
	lockPattern       pattern = "lock"
)

var patterns = []pattern{atomicPattern, optimisticPattern, lockPattern}

// A setting is what the contenders are compared under.
type setting struct {
	database    database
	pattern     pattern
	cancellable bool // the context can be cancelled, as that of every HTTP request can

	full           bool // SQLite: COMMIT waits for the disk
	statementCache bool // SQLite: the driver keeps prepared statements by their text
	interpolate    bool // MariaDB: the driver puts arguments into texts, instead of preparing each text for one use
	unsynced       bool // servers: COMMIT does not wait for the disk
}

// settings returns all of a database with one caller, those side by side that only differ in the pattern, or only those
// that the goals are set for.
func settings(d database, long bool) (all []setting) {
	ways := systems(d)
	if long {
		ways = append(ways, map[database][]setting{
			sqlite:   {{}, {statementCache: true}, {cancellable: true, statementCache: true}},
			postgres: {{cancellable: true, unsynced: true}, {unsynced: true}},
			mariadb:  {{cancellable: true, unsynced: true}, {cancellable: true, unsynced: true, interpolate: true}, {unsynced: true}},
		}[d]...)
	}
	for _, s := range ways {
		for _, p := range patterns {
			s.database, s.pattern = d, p
			all = append(all, s)
		}
	}
	return all
}

// systems returns a setting for each of the ways to run a database that the goals tell apart.
func systems(d database) []setting {
	if d == sqlite {
		return []setting{{database: d, cancellable: true, full: true}, {database: d, cancellable: true}}
	}
	return []setting{{database: d, cancellable: true}}
}

// system names the database, and how it is run.
func (s setting) system() string {
	if s.database == sqlite {
		return s.database.title() + choose(s.full, " FULL", " NORMAL")
	}
	return s.database.title()
}

// columns are what the settings of a database differ in, for the head of a table.
func (d database) columns() []string {
	switch d {
	case sqlite:
		return []string{"synchronous", "Context", "Statement cache", "Pattern"}
	case mariadb:
		return []string{"COMMIT", "Context", "interpolateParams", "Pattern"}
	}
	return []string{"COMMIT", "Context", "Pattern"}
}

// cells are the values of the columns.
func (s setting) cells() []string {
	ctx, p := choose(s.cancellable, "cancellable", "background"), string(s.pattern)
	commit := choose(s.unsynced, "not synced", "synced")
	switch s.database {
	case sqlite:
		return []string{choose(s.full, "FULL", "NORMAL"), ctx, choose(s.statementCache, "on", "off"), p}
	case mariadb:
		return []string{commit, ctx, choose(s.interpolate, "true", "false"), p}
	}
	return []string{commit, ctx, p}
}

// String names the setting as benchmarks are named, for benchstat to tell the parts apart.
func (s setting) String() string {
	name := fmt.Sprintf("db=%s/pattern=%s/ctx=%s", s.database, s.pattern, choose(s.cancellable, "cancel", "bg"))
	if s.database == sqlite {
		return name + choose(s.full, "/sync=full", "/sync=normal") + "/stmtcache=" + choose(s.statementCache, "on", "off")
	}
	name += "/commit=" + choose(s.unsynced, "unsynced", "synced")
	if s.database == mariadb {
		name += "/interpolate=" + choose(s.interpolate, "on", "off")
	}
	return name
}

// context returns the context that all updates of a run are called with.
func (s setting) context() (context.Context, context.CancelFunc) {
	if s.cancellable {
		return context.WithCancel(context.Background())
	}
	return context.Background(), func() {}
}

func choose[T any](condition bool, yes, no T) T {
	if condition {
		return yes
	}
	return no
}
