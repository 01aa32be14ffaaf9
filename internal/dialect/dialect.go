// Package dialect says what the SQL of each database looks like, what each database can do, and what its drivers'
// errors mean. It does no I/O and imports no driver.
package dialect

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Dialect is one database's text and abilities. Dialects are values that never change.
type Dialect struct {
	Name    string
	Drivers []string // the names under which database/sql knows its drivers

	quote byte // encloses an identifier

	// Begin opens a transaction that no other writer can come between.
	Begin string

	// Outside succeeds outside a transaction, which it begins, and fails inside one. It is empty where a transaction
	// does not end without its errors saying so.
	Outside string

	// OneWriter: the database has one write lock for everything, so that writers of one process are better queued in
	// front of it than left to poll for it.
	OneWriter bool

	// InProcess: a statement runs in this process. It cannot hang on a peer, its result cannot be lost on the way, and
	// interrupting it costs more than waiting for it.
	InProcess bool

	// WaitLimit reads, and SetWaitLimit writes, how many milliseconds a statement of this connection waits for a lock.
	WaitLimit    string
	SetWaitLimit string

	// Databases lists the attached databases and their files; a database without a file is private to its connection
	// unless the connections share a cache.
	Databases string

	// TimesAreTexts: the database compares times as the texts that they were stored as, whatever their zones.
	TimesAreTexts bool

	// Untyped: a column stores what it is given, and arithmetic makes of it what it can.
	Untyped bool

	// NaNIsNull: the database stores a NaN as NULL, without an error.
	NaNIsNull bool

	// integerGuard encloses an integer expression, twice, in SQL that fails if the result is not an integer; zeroGuard
	// encloses a divisor in SQL that fails if it is zero. Both are empty where the database fails by itself.
	integerGuard [3]Fragment
	zeroGuard    [3]Fragment
	modGuard     [3]Fragment // the same for the divisor of a remainder

	// real encloses the dividend of a division that is to keep its fraction.
	real [2]Fragment

	classify func(error) Class
}

// known lists the dialects by name.
var known = map[string]*Dialect{
	sqlite.Name: sqlite,
}

// Names returns the names of the dialects.
func Names() []string { return slices.Sorted(maps.Keys(known)) }

// ByName returns the dialect of a name.
func ByName(name string) (*Dialect, error) {
	if d, ok := known[name]; ok {
		return d, nil
	}
	return nil, fmt.Errorf("unknown dialect %q: there is %s", name, strings.Join(Names(), ", "))
}

// ByDriver returns the dialect of the database that a driver talks to. The driver is known by the name that it was
// registered under or, as services also register drivers under names of their own, by the package of its type.
func ByDriver(name, typePackage string) (*Dialect, error) {
	for _, d := range known {
		if slices.Contains(d.Drivers, name) {
			return d, nil
		}
	}
	for pkg, d := range driverPackages {
		if typePackage == pkg {
			return d, nil
		}
	}
	var drivers []string
	for _, d := range known {
		drivers = append(drivers, d.Drivers...)
	}
	slices.Sort(drivers)
	return nil, fmt.Errorf("unknown driver %q: known are %s; if it talks to a database of a known dialect, name the dialect",
		name, strings.Join(drivers, ", "))
}

var driverPackages = map[string]*Dialect{
	"github.com/mattn/go-sqlite3": sqlite,
}
