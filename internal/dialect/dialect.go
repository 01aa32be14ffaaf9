// Package dialect says what the SQL of each database looks like, what each database can do, and what its drivers'
// errors mean. It does no I/O and imports no driver.
package dialect

import (
	"database/sql"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A Dialect is one database's text and abilities. Dialects are values that never change.
type Dialect struct {
	Name    string
	Drivers []string // the names under which database/sql knows its drivers

	packages []string // of the types of its drivers
	stubborn []string // those of drivers that go on waiting for a server that is silent when a context has ended

	quote    byte // encloses an identifier
	numbered bool // parameters are $1, $2 and so on, and have the types that the text gives them

	transactions
	waits
	locks
	writes
	values
	arithmetic
	storage

	errors classifier
}

// transactions is how a database's transactions begin and end.
type transactions struct {
	// Begin opens a transaction; on a database with one write lock, one that no other writer can come between.
	Begin string

	// levels are the isolation levels as Begin is followed by them, or as they are set by setLevel before it.
	levels   map[sql.IsolationLevel]string
	setLevel string

	// beginReadOnly opens a transaction that writes nothing, and that nobody waits for. If ReadOnly is not empty, it names a
	// setting of the connection that must be 1 besides, and Look a query that such a transaction can begin to see with.
	beginReadOnly string
	ReadOnly      string
	Look          string

	// Probe changes nothing inside a transaction. Its error, or that there is none, tells whether it was inside one, see
	// Dialect.Outside.
	Probe string

	// CommitChecked commits, and fails where Commit would say nothing of it: outside a transaction, and in one that an
	// error has aborted. It is empty where the probe finds that out before.
	CommitChecked string

	// QueriesEnd: an error that only whoever reads a query's rows sees can end the transaction.
	QueriesEnd bool

	// ErrorsAbort: after an error a transaction does nothing any more until it is rolled back, to a savepoint or whole.
	ErrorsAbort bool

	// OneWriter: the database has one write lock for everything, so that writers of one process are better queued in
	// front of it than left to poll for it.
	OneWriter bool

	// InProcess: a statement runs in this process. It cannot hang on a peer, its result cannot be lost on the way, and
	// interrupting it costs more than waiting for it.
	InProcess bool

	// Prepares: a statement that is not prepared costs a round trip more, or much time.
	Prepares bool

	// Settings yields the names and values of what a connection is set to, and CheckSettings returns an error if the library
	// could not keep its promises with that.
	Settings      string
	CheckSettings func(map[string]string) error

	// Databases lists the attached databases and their files; a database without a file is private to its connection
	// unless the connections share a cache.
	Databases string
}

// waits is how a database waits for locks.
type waits struct {
	// WaitLimit reads how many milliseconds a statement waits for a lock, 0 for ever, and SetWaitLimit sets it for a
	// connection that waits by polling.
	WaitLimit    string
	SetWaitLimit string

	// setWaiting is sent behind what begins a transaction or a savepoint: statements wait for a lock for at most so many
	// milliseconds, to the end of the transaction.
	setWaiting string

	// waiting is added to the condition of a statement, around a number of milliseconds, and prefixed to a statement, with
	// a number of seconds in it: the statement waits for a lock for that long at the most.
	waiting [2]Fragment
	prefix  string
}

// writes is how a database changes and returns rows.
type writes struct {
	// Returning: there is UPDATE ... RETURNING. ReturningInside: it is the best way in a transaction too.
	Returning       bool
	ReturningInside bool

	// Columns yields the name and the type of each column of a table, and whether it can be NULL; Uniques yields the
	// columns of each unique index, separated by commas. They are empty where a statement of its own can be undone after it
	// has yielded a row, so that it need not be known before whether there is one and it can be read.
	Columns func(s *SQL, table string)
	Uniques func(s *SQL, table string)

	// Plain yields, of each column of a table in which an UPDATE puts values into columns and does nothing else, the name, the
	// type as Storage reads it, whether the column is nowhere where a value of it can be refused, and whether that is so too
	// of a text, however long. Of any other table, and of one of which that is not known, it yields nothing.
	Plain   func(s *SQL, table string)
	Storage func(typ string) Storage

	// unlessThere is the end of an INSERT that does nothing if there is a row with the key, around the names of its columns; or,
	// if SkipsAny, if there is any row that cannot be beside the new one, before a column that is set to what it is.
	unlessThere [2]Fragment
	SkipsAny    bool

	// Reorders: of the conditions of a statement any can be evaluated first, for every row of the table.
	Reorders bool
	// Arrays: there are arrays, and unnest, which makes rows of several.
	Arrays bool
	// CountsChanged: an UPDATE does not count the rows that it finds but leaves as they are.
	CountsChanged bool

	// LeftToRight: an assignment sees what those before it in the statement have assigned.
	LeftToRight bool

	// Transactional yields the name of a table's storage engine and whether it has transactions, YES or not.
	Transactional func(s *SQL, table string)

	// KeyIndex yields the names of unique indexes of one column. A statement that looks for rows by several keys locks whatever it
	// looks through, which is the whole of a small table unless it is told the index. It is nil where only rows are locked.
	KeyIndex func(s *SQL, table, column string)
	useIndex [2]Fragment
	// FoldsNames: the names of columns are compared without regard to case, though they are quoted.
	FoldsNames bool
}

// values is what a database makes of values.
type values struct {
	// TimesAreTexts: the database compares times as the texts that they were stored as, whatever their zones.
	TimesAreTexts bool

	// Untyped: a column stores what it is given, and arithmetic makes of it what it can.
	Untyped bool

	// NoNaN: the database stores a NaN as something else, without an error. NoInfinity: it has no infinite numbers.
	NoNaN      bool
	NoInfinity bool
}

// arithmetic is what a database computes otherwise than others.
type arithmetic struct {
	// integerGuard encloses an integer expression, twice, in SQL that fails if the result is not an integer; zeroGuard
	// encloses a divisor in SQL that fails if it is zero. Both are empty where the database fails by itself.
	integerGuard [3]Fragment
	zeroGuard    [3]Fragment
	modGuard     [3]Fragment // the same for the divisor of a remainder

	// real encloses the dividend of a division that is to keep its fraction, where integers divide to an integer whatever
	// the columns are declared as; whole encloses both sides of one that is to drop it, where a column of integers can be of
	// a type that has fractions.
	real  [2]Fragment
	whole [2]Fragment

	// Quotient stands between two integers whose quotient is to drop its fraction.
	Quotient Fragment

	// decimal encloses a parameter that is an exact number, written out; in the second part %d is its number of decimals.
	// fractions: a number with a fraction that is bound as such is not exact, and makes what it meets inexact too, or it is
	// of the type of what it meets, which may be none of fractions.
	decimal   [2]string
	fractions bool
}

// storage is what tables of this module's own are made of and looked through with.
type storage struct {
	// Keys is the type of a column of up to 255 bytes that are compared byte by byte, and that can be a key; Bytes that of
	// any number of bytes.
	Keys, Bytes Fragment

	// Instant is the type of a column for Now, the time by the database's clock; Ago encloses a number of microseconds to
	// be taken from that.
	Instant Fragment
	Now     Fragment
	Ago     [2]Fragment

	// Until encloses an Instant: how many microseconds it is until then by the database's clock, less than 0 if it is over.
	Until [2]Fragment

	// Engine is the end of CREATE TABLE.
	Engine Fragment

	// IndexIfNotExists: there is CREATE INDEX IF NOT EXISTS; else the index is part of CREATE TABLE.
	IndexIfNotExists bool

	// OrNothing is the end of an INSERT that inserts nothing, and counts nothing, if the key is there already; empty where
	// that is an error that IsDuplicate knows, and does not end the transaction.
	OrNothing Fragment

	// Unlocked is the end of a SELECT that locks its rows and leaves out those that somebody else has locked; empty where a
	// transaction has locked everything.
	Unlocked Fragment

	// WritesOut: the values of this module's own are written into its statements, which then need not be prepared.
	WritesOut bool

	// Latest is the end of a SELECT that sees what was committed last, which a transaction that has begun before need not.
	Latest Fragment

	// DeleteByKey encloses the name of a table whose rows are deleted by their keys, and none of the others is looked at.
	DeleteByKey [2]Fragment

	// Upkeep is the isolation level at which as little is locked as can be.
	Upkeep sql.IsolationLevel
}

// known lists the dialects by name.
var known = map[string]*Dialect{
	sqlite.Name:   sqlite,
	postgres.Name: postgres,
	mysql.Name:    mysql,
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

// Schema returns the statements of a dialect as a text, each ended by a semicolon.
func Schema(name string, statements func(*Dialect) []string) (schema string, err error) {
	d, err := ByName(name)
	if err != nil {
		return "", err
	}
	for _, statement := range statements(d) {
		schema += statement + ";\n"
	}
	return schema, nil
}

// ByDriver returns the dialect of the database that a driver talks to. The driver is known by the package of its type,
// as services also register drivers under names of their own, or by the name that it was registered under.
func ByDriver(name, typePackage string) (*Dialect, error) {
	var drivers []string
	for _, d := range known {
		if slices.Contains(d.packages, typePackage) {
			return d, nil
		}
		drivers = append(drivers, d.Drivers...)
	}
	for _, d := range known {
		if slices.Contains(d.Drivers, name) {
			return d, nil
		}
	}
	slices.Sort(drivers)
	return nil, fmt.Errorf("unknown driver %q: known are %s; if it talks to a database of a known dialect, name the dialect",
		name, strings.Join(drivers, ", "))
}

// Stubborn tells whether a driver, or its connection, goes on waiting for a server that is silent when a context has
// ended.
func (d *Dialect) Stubborn(own any) bool {
	t := reflect.TypeOf(own)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return slices.Contains(d.stubborn, t.PkgPath())
}

// A Beginning is how a transaction is begun: by Text, and by statements before that.
type Beginning struct {
	Before []string
	Text   string
}

// BeginWith returns how a transaction of an isolation level is begun, or an error if the database does not have that.
func (d *Dialect) BeginWith(level sql.IsolationLevel, readOnly bool) (b Beginning, err error) {
	b.Text = d.Begin
	if readOnly {
		b.Text = d.beginReadOnly
	}
	if level == sql.LevelDefault {
		return b, nil
	}
	name, ok := d.levels[level]
	switch {
	case !ok:
		var has []string
		for _, l := range slices.Sorted(maps.Keys(d.levels)) {
			has = append(has, l.String())
		}
		return b, fmt.Errorf("isolation level %v: %s has %s", level, d.Name, strings.Join(has, ", "))
	case d.setLevel != "":
		b.Before = []string{d.setLevel + name}
	default:
		b.Text += name
	}
	return b, nil
}

// OnlyLevel returns the isolation level of every transaction, or the default if there are several.
func (d *Dialect) OnlyLevel() sql.IsolationLevel {
	if len(d.levels) > 1 {
		return sql.LevelDefault
	}
	for level := range d.levels {
		return level
	}
	return sql.LevelDefault
}

// SetWaiting returns what is sent behind the text that begins a transaction or a savepoint, so that its statements wait for
// a lock for at most limit; 0 is as long as the connection is set to.
func (d *Dialect) SetWaiting(limit time.Duration) string {
	if limit == 0 || d.setWaiting == "" {
		return ""
	}
	return fmt.Sprintf(d.setWaiting, milliseconds(limit))
}

// ResetWaiting returns what takes SetWaiting back, if the connection itself is set to wait for limit, 0 for ever.
func (d *Dialect) ResetWaiting(limit time.Duration) string {
	if d.setWaiting == "" {
		return ""
	}
	return fmt.Sprintf(d.setWaiting, limit.Milliseconds())
}

// WaitPrefix returns what is written before a statement that is to wait for a lock for about limit, and less than
// twice as long at the most; 0 is as long as the connection is set to. Few texts come of it, so that statements can be
// prepared with them.
func (d *Dialect) WaitPrefix(limit time.Duration) string {
	if limit == 0 || limit > longestWait || d.prefix == "" {
		return ""
	}
	seconds := int64(1)
	for time.Duration(seconds)*time.Second < limit {
		seconds *= 2
	}
	return fmt.Sprintf(d.prefix, seconds, seconds)
}

// WaitPrefixOf is WaitPrefix for a limit that a caller has asked for: it is rounded up to seconds, and no more.
func (d *Dialect) WaitPrefixOf(limit time.Duration) string {
	if d.prefix == "" {
		return ""
	}
	seconds := (limit + time.Second - 1) / time.Second
	return fmt.Sprintf(d.prefix, seconds, seconds)
}

// longestWait is what every database can be told in milliseconds. It is 24 days.
const longestWait = (1<<31 - 1) * time.Millisecond

// milliseconds rounds up: 0 would be for ever.
func milliseconds(d time.Duration) int64 {
	d = min(d, longestWait)
	return max(int64((d+time.Millisecond-1)/time.Millisecond), 1)
}
