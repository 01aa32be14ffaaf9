package dialect

import "reflect"

// A Class is what a database's error means to whoever sent the statement. None of them was applied.
type Class int

const (
	// Other is an error that only its receiver can make sense of: a constraint, a missing table, no database error.
	Other Class = iota
	// Busy: somebody else holds a lock that the statement needs. It can be sent again.
	Busy
	// Conflict: somebody else changed what this transaction has read, or two wait for each other. The whole of it can be
	// run again.
	Conflict
	// OutOfRange: the database cannot represent a value that the statement computed or carried.
	OutOfRange
)

// A classifier knows what a database's errors mean.
type classifier interface {
	class(error) Class
	endsTransaction(error) bool
	outside(probe error) bool
	refused(error) bool
	canceled(error) bool
	fromServer(error) bool
	endsConnection(error) bool
	duplicate(error) bool
	exists(error) bool
}

// Classify tells what an error means.
func (d *Dialect) Classify(err error) Class {
	if err == nil {
		return Other
	}
	return d.errors.class(err)
}

// EndsTransaction tells whether an error means that the whole transaction is gone, and what follows would be none of it.
func (d *Dialect) EndsTransaction(err error) bool { return err != nil && d.errors.endsTransaction(err) }

// Outside tells whether the error of the probe, or that it has none, means that it was sent outside a transaction.
func (d *Dialect) Outside(probe error) bool { return d.errors.outside(probe) }

// Refused tells whether an error of a COMMIT, or of a write that is a transaction of its own, means that it was not
// applied. Of any other it cannot be known: it can be the answer that got lost.
func (d *Dialect) Refused(err error) bool { return d.errors.refused(err) }

// Canceled tells whether an error says that somebody has stopped the statement: its caller, as some drivers ask the
// server to when its context ends, or a limit on its time.
func (d *Dialect) Canceled(err error) bool { return d.errors.canceled(err) }

// FromServer tells whether an error is the database's own answer, so that the connection is as usable as before.
func (d *Dialect) FromServer(err error) bool { return d.errors.fromServer(err) }

// IsDuplicate tells whether an error says that a key is there already.
func (d *Dialect) IsDuplicate(err error) bool { return err != nil && d.errors.duplicate(err) }

// Exists tells whether an error of a CREATE ... IF NOT EXISTS says that somebody else was faster.
func (d *Dialect) Exists(err error) bool { return err != nil && d.errors.exists(err) }

// EndsConnection tells whether the database's own answer can be its last on the connection.
func (d *Dialect) EndsConnection(err error) bool { return d.errors.endsConnection(err) }

// An errorType is a driver's error type and the field or method that holds the database's code, known by name so that
// no driver need be imported. The type is matched exactly: many types have a Code, few mean the database's.
// Without either the error is a number itself.
type errorType struct{ pkg, name, field, method string }

var errorTypes = []errorType{
	{pkg: "github.com/mattn/go-sqlite3", name: "Error", field: "ExtendedCode"},
	{pkg: "modernc.org/sqlite", name: "Error", method: "Code"},
	{pkg: "github.com/ncruces/go-sqlite3", name: "Error", method: "ExtendedCode"},
	{pkg: "github.com/ncruces/go-sqlite3", name: "ErrorCode"},
	{pkg: "github.com/ncruces/go-sqlite3", name: "ExtendedErrorCode"},
	{pkg: "github.com/go-sql-driver/mysql", name: "MySQLError", field: "Number"},
}

// number returns the code that the database gave, from the first error in the tree that a known driver made.
func number(err error) (code int, ok bool) {
	walk(err, func(err error) bool {
		code, ok = ownNumber(err)
		return ok
	})
	return code, ok
}

// sqlState returns the SQLSTATE of the first error in the tree that has one, as those of pgx and lib/pq have.
func sqlState(err error) (state string, ok bool) {
	walk(err, func(err error) bool {
		if e, has := err.(interface{ SQLState() string }); has {
			state, ok = e.SQLState(), true
		}
		return ok
	})
	return state, ok
}

// walk calls f with the errors of a tree, depth first, until it returns true.
func walk(err error, f func(error) bool) bool {
	for err != nil {
		if f(err) {
			return true
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			err = u.Unwrap()
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				if walk(e, f) {
					return true
				}
			}
			return false
		default:
			return false
		}
	}
	return false
}

func ownNumber(err error) (int, bool) {
	pointer := reflect.ValueOf(err)
	v := pointer
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return 0, false
		}
		v = v.Elem()
	}
	t := v.Type()
	for _, known := range errorTypes {
		if t.PkgPath() != known.pkg || t.Name() != known.name {
			continue
		}
		code := v
		switch {
		case known.method != "":
			code = pointer.MethodByName(known.method).Call(nil)[0]
		case known.field != "":
			code = v.FieldByName(known.field)
		}
		if code.CanUint() {
			return int(code.Uint()), true
		}
		return int(code.Int()), true
	}
	return 0, false
}
