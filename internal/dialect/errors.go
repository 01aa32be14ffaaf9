package dialect

import "reflect"

// A Class is what a database's error means to whoever sent the statement. None of them was applied.
type Class int

const (
	// Other is an error that only its receiver can make sense of: a constraint, a missing table, no database error.
	Other Class = iota
	// Busy: somebody else holds a lock that the statement needs. It can be sent again.
	Busy
	// Conflict: somebody else changed what this transaction has read. The whole of it can be run again.
	Conflict
	// OutOfRange: the database cannot represent a value that the statement computed or carried.
	OutOfRange
)

// Classify tells what an error means.
func (d *Dialect) Classify(err error) Class {
	if err == nil {
		return Other
	}
	return d.classify(err)
}

// An errorType is a driver's error type and the field that holds the database's code, known by name so that no
// driver need be imported. The type is matched exactly: many types have a Code, few mean the database's.
type errorType struct{ pkg, name, field string }

var errorTypes = []errorType{
	{"github.com/mattn/go-sqlite3", "Error", "ExtendedCode"},
}

// code returns the code that the database gave, from the first error in the tree that a known driver made.
func code(err error) (int, bool) {
	for err != nil {
		if c, ok := ownCode(err); ok {
			return c, true
		}
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			err = u.Unwrap()
		case interface{ Unwrap() []error }:
			for _, e := range u.Unwrap() {
				if c, ok := code(e); ok {
					return c, true
				}
			}
			return 0, false
		default:
			return 0, false
		}
	}
	return 0, false
}

func ownCode(err error) (int, bool) {
	v := reflect.ValueOf(err)
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return 0, false
		}
		v = v.Elem()
	}
	t := v.Type()
	for _, known := range errorTypes {
		if t.PkgPath() == known.pkg && t.Name() == known.name {
			return int(v.FieldByName(known.field).Int()), true
		}
	}
	return 0, false
}
