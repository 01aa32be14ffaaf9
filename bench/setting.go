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

	statementCache bool // SQLite: the driver keeps prepared statements by their text
	interpolate    bool // MariaDB: the driver puts arguments into texts, instead of preparing each text for one use
	unsynced       bool // servers: COMMIT does not wait for the disk
}

// settings returns all of a database, those side by side that only differ in the pattern.
func settings(d database) (all []setting) {
	var ways []setting
	switch d {
	case sqlite:
		ways = []setting{{}, {statementCache: true}, {cancellable: true}, {cancellable: true, statementCache: true}}
	case postgres:
		ways = []setting{{cancellable: true}, {cancellable: true, unsynced: true}, {unsynced: true}}
	case mariadb:
		ways = []setting{{cancellable: true}, {cancellable: true, unsynced: true},
			{cancellable: true, unsynced: true, interpolate: true}, {unsynced: true}}
	}
	for _, s := range ways {
		for _, p := range patterns {
			s.database, s.pattern = d, p
			all = append(all, s)
		}
	}
	return all
}

// columns are what the settings of a database differ in, for the head of a table.
func (d database) columns() []string {
	switch d {
	case sqlite:
		return []string{"Context", "Statement cache", "Pattern"}
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
		return []string{ctx, choose(s.statementCache, "on", "off"), p}
	case mariadb:
		return []string{commit, ctx, choose(s.interpolate, "true", "false"), p}
	}
	return []string{commit, ctx, p}
}

// String names the setting as benchmarks are named, for benchstat to tell the parts apart.
func (s setting) String() string {
	name := fmt.Sprintf("db=%s/pattern=%s/ctx=%s", s.database, s.pattern, choose(s.cancellable, "cancel", "bg"))
	if s.database == sqlite {
		return name + "/stmtcache=" + choose(s.statementCache, "on", "off")
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

func choose(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}
