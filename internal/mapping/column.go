package mapping

import (
	"database/sql"
	"database/sql/driver"
	"math"
	"reflect"
	"slices"
	"time"

	"github.com/jmoiron/sqlx/reflectx"
)

// A Kind is what SQL arithmetic makes of a value.
type Kind int

// The kinds of values.
const (
	Other   Kind = iota // of a type with a conversion of its own: only the database knows
	Integer             // a whole number
	Float               // a number with a fraction
	Text
	Bytes
	Bool
	Time
)

// IsNumber tells whether a kind is one of numbers.
func (k Kind) IsNumber() bool { return k == Integer || k == Float }

// Matches tells whether values of two kinds can be compared, and the one be stored where the other is.
func (k Kind) Matches(other Kind) bool {
	return k == other || k == Other || other == Other || k.IsNumber() && other.IsNumber()
}

// A Column is one column and the field it is mapped to.
type Column struct {
	Name string
	Type reflect.Type
	Kind Kind // of a value that is not NULL
	Null bool // the field can hold NULL

	index []int // of the field, as in reflect.Value.FieldByIndex
	flat  bool  // copying the field copies the value: nothing in it is shared with the copy
}

func newColumn(name string, f *reflectx.FieldInfo) Column {
	t := f.Field.Type
	c := Column{Name: name, Type: t, Kind: KindOf(t), Null: holdsNull(t), index: f.Index, flat: isFlat(t)}
	for p := f.Parent; p != nil && p.Parent != nil; p = p.Parent {
		if p.Field.Type.Kind() == reflect.Pointer {
			c.flat = false // a copy of the outer struct shares the embedded one
		}
	}
	return c
}

// Flat tells whether a copy of the struct has a copy of the column's value: they share nothing.
func (c *Column) Flat() bool { return c.flat }

// Field returns the column's field in the struct v, which must be addressable: pointers to embedded structs on the
// way to the field are made.
func (c *Column) Field(v reflect.Value) reflect.Value {
	if len(c.index) == 1 {
		return v.Field(c.index[0])
	}
	return reflectx.FieldByIndexes(v, c.index)
}

// Pointers returns pointers to the fields of the struct v, in the order of the columns, to scan a row into.
func (m *Mapping) Pointers(v reflect.Value) []any {
	pointers := make([]any, len(m.Columns), len(m.Columns)+1)
	for i := range m.Columns {
		pointers[i] = m.Columns[i].Field(v).Addr().Interface()
	}
	return pointers
}

// A Snapshot remembers the values of a struct's fields, so that what was changed later can be told, in place too.
type Snapshot struct {
	mapping *Mapping
	flat    reflect.Value
	deep    map[int]driver.Value
}

// Snapshot remembers the struct v.
func (m *Mapping) Snapshot(v reflect.Value) (Snapshot, error) {
	s := Snapshot{mapping: m, flat: reflect.New(m.Type).Elem()}
	s.flat.Set(v)
	for i := range m.Columns {
		c := &m.Columns[i]
		if c.flat {
			continue
		}
		value, err := Bound(c.Field(v))
		if err != nil {
			return s, err
		}
		if b, ok := value.([]byte); ok {
			value = slices.Clone(b)
		}
		if s.deep == nil {
			s.deep = map[int]driver.Value{}
		}
		s.deep[i] = value
	}
	return s, nil
}

// Restore makes the struct v what it was. It must be Flat.
func (s Snapshot) Restore(v reflect.Value) { v.Set(s.flat) }

// Changed returns the columns whose fields in v are not as they were.
func (s Snapshot) Changed(v reflect.Value) ([]int, error) {
	return s.mapping.differing(func(i int, c *Column) (bool, error) {
		if c.flat {
			return sameField(c.Field(s.flat), c.Field(v)), nil
		}
		value, err := Bound(c.Field(v))
		return err == nil && sameValue(s.deep[i], value), err
	})
}

// Changed returns the columns that are not the same in two structs, neither of which is a copy of the other that shares
// something with it.
func (m *Mapping) Changed(before, after reflect.Value) ([]int, error) {
	return m.differing(func(_ int, c *Column) (bool, error) {
		a, b := c.Field(before), c.Field(after)
		if c.flat {
			return sameField(a, b), nil
		}
		was, err := Bound(a)
		if err != nil {
			return false, err
		}
		is, err := Bound(b)
		return err == nil && sameValue(was, is), err
	})
}

func (m *Mapping) differing(same func(int, *Column) (bool, error)) (columns []int, err error) {
	for i := range m.Columns {
		is, err := same(i, &m.Columns[i])
		if err != nil {
			return nil, err
		}
		if !is {
			columns = append(columns, i)
		}
	}
	return columns, nil
}

// sameField compares two flat fields. A NaN that stays one has not changed.
func sameField(a, b reflect.Value) bool {
	if a.CanFloat() && math.IsNaN(a.Float()) {
		return math.IsNaN(b.Float())
	}
	return a.Equal(b)
}

// Bound returns what database/sql would bind for a field.
func Bound(field reflect.Value) (driver.Value, error) {
	return driver.DefaultParameterConverter.ConvertValue(field.Interface())
}

func sameValue(a, b driver.Value) bool {
	ab, aok := a.([]byte)
	bb, bok := b.([]byte)
	if aok || bok {
		return aok && bok && (ab == nil) == (bb == nil) && slices.Equal(ab, bb)
	}
	at, aok := a.(time.Time)
	bt, bok := b.(time.Time)
	if aok || bok {
		// Not by ==, which compares pointers to zones: two that were read apart have zones of their own.
		_, aOffset := at.Zone()
		_, bOffset := bt.Zone()
		return aok && bok && at.Equal(bt) && aOffset == bOffset
	}
	af, aok := a.(float64)
	bf, bok := b.(float64)
	if aok && bok && math.IsNaN(af) && math.IsNaN(bf) {
		return true // a NaN that stays one has not changed
	}
	return a == b
}

var (
	timeType   = reflect.TypeFor[time.Time]()
	valuerType = reflect.TypeFor[driver.Valuer]()

	scannerType = reflect.TypeFor[sql.Scanner]()
)

// isFlat tells whether values of a type share nothing with their copies, or only what is of an immutable type.
func isFlat(t reflect.Type, immutable ...reflect.Type) bool {
	if slices.Contains(immutable, t) {
		return true
	}
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			if !isFlat(t.Field(i).Type, immutable...) {
				return false
			}
		}
		return true
	case reflect.Array:
		return isFlat(t.Elem(), immutable...)
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface, reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return false
	}
	return true
}

func holdsNull(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		return true
	}
	return reflect.PointerTo(t).Implements(scannerType)
}

// KindOf returns the kind of the values of a Go type: of what a pointer points to, of what sql.Null and its like hold.
// A type with a conversion of its own has no kind that could be known.
func KindOf(t reflect.Type) Kind {
	if t.Implements(valuerType) && t.PkgPath() != "database/sql" {
		return Other
	}
	switch t.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return Integer
	case reflect.Float32, reflect.Float64:
		return Float
	case reflect.String:
		return Text
	case reflect.Bool:
		return Bool
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return Bytes
		}
	case reflect.Pointer:
		return KindOf(t.Elem())
	case reflect.Struct:
		if t == timeType {
			return Time
		}
		// sql.Null[T], sql.NullInt64 and the rest of them: the value, and whether it is valid.
		if t.PkgPath() == "database/sql" && t.NumField() == 2 && t.Field(1).Name == "Valid" {
			return KindOf(t.Field(0).Type)
		}
	}
	return Other
}
