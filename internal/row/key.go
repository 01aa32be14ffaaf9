package row

import (
	"bytes"
	"cmp"
	"database/sql/driver"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/mapping"
)

// A Key has the values of a row's key columns, as the driver takes them.
type Key []any

// String shows a key in errors.
func (k Key) String() string {
	parts := make([]string, len(k))
	for i, v := range k {
		if b, ok := v.([]byte); ok {
			parts[i] = fmt.Sprintf("%q", b)
		} else {
			parts[i] = fmt.Sprintf("%#v", v)
		}
	}
	return strings.Join(parts, ", ")
}

// NewKey checks a caller's key: its arity, that nothing in it is NULL, and that it can be compared with the columns.
func (t *Table[T]) NewKey(key any) (Key, error) {
	values, composite := key.(raceproof.Key)
	if !composite {
		values = raceproof.Key{key}
	}
	if len(values) != len(t.Key) {
		return nil, fmt.Errorf("the key has %d values, and %d columns: %s", len(values), len(t.Key), strings.Join(t.keyNames(), ", "))
	}
	k := make(Key, len(values))
	for i, value := range values {
		column := &t.Columns[t.Key[i]]
		v, err := driver.DefaultParameterConverter.ConvertValue(value)
		if err != nil {
			return nil, fmt.Errorf("key column %q: %w", column.Name, err)
		}
		if v == nil {
			return nil, fmt.Errorf("key column %q: the key is NULL", column.Name)
		}
		// '7 apples' is 7 to some databases, and nothing to others.
		if kind := mapping.KindOf(reflect.TypeOf(v)); column.Kind != mapping.Other && kind != column.Kind {
			return nil, fmt.Errorf("key column %q is of type %s, and the key of type %T", column.Name, column.Type, value)
		}
		if _, isTime := v.(time.Time); isTime && t.Pool.Dialect().TimesAreTexts {
			return nil, fmt.Errorf("key column %q: the database compares times as texts", column.Name)
		}
		if b, ok := v.([]byte); ok {
			v = slices.Clone(b) // the caller may use his buffer again
		}
		k[i] = v
	}
	return k, nil
}

// keyOf returns the key that a row has.
func (t *Table[T]) keyOf(value *T) (Key, error) {
	v := reflect.ValueOf(value).Elem()
	k := make(Key, len(t.Key))
	for i, column := range t.Key {
		bound, err := driver.DefaultParameterConverter.ConvertValue(t.Columns[column].Field(v).Interface())
		if err != nil {
			return nil, fmt.Errorf("key column %q: %w", t.Columns[column].Name, err)
		}
		k[i] = bound
	}
	return k, nil
}

// setKey puts a key into the fields of a row, but into those of types with a conversion of their own.
func (t *Table[T]) setKey(value *T, key Key) {
	v := reflect.ValueOf(value).Elem()
	for i, column := range t.Key {
		part := key[i]
		if b, ok := part.([]byte); ok {
			part = slices.Clone(b) // the key stays what it is, whatever becomes of the row
		}
		if t.Columns[column].Kind != mapping.Other {
			set(t.Columns[column].Field(v), reflect.ValueOf(part))
		}
	}
}

// set puts a value into a field of its kind. Numbers that do not fit and other types are left out.
func set(field, v reflect.Value) {
	switch {
	case v.Type().AssignableTo(field.Type()):
		field.Set(v)
	case field.Kind() == reflect.Pointer:
		made := reflect.New(field.Type().Elem())
		set(made.Elem(), v)
		field.Set(made)
	case field.CanInt() && v.CanInt() && !field.OverflowInt(v.Int()):
		field.SetInt(v.Int())
	case field.CanUint() && v.CanInt() && v.Int() >= 0 && !field.OverflowUint(uint64(v.Int())):
		field.SetUint(uint64(v.Int()))
	case field.CanFloat() && v.CanFloat():
		field.SetFloat(v.Float())
	case field.Kind() == v.Kind() && v.CanConvert(field.Type()) && !field.CanInt():
		field.Set(v.Convert(field.Type()))
	}
}

// Compare puts keys of one table in an order that is the same for everybody.
func (k Key) Compare(other Key) int {
	for i := range k {
		if order := compare(k[i], other[i]); order != 0 {
			return order
		}
	}
	return 0
}

// compare compares values of a driver's. Those of different types are in the order of the names of these.
func compare(a, b any) int {
	switch a := a.(type) {
	case int64:
		if b, ok := b.(int64); ok {
			return cmp.Compare(a, b)
		}
	case float64:
		if b, ok := b.(float64); ok {
			return cmp.Compare(a, b)
		}
	case string:
		if b, ok := b.(string); ok {
			return strings.Compare(a, b)
		}
	case []byte:
		if b, ok := b.([]byte); ok {
			return bytes.Compare(a, b)
		}
	case time.Time:
		if b, ok := b.(time.Time); ok {
			return a.Compare(b)
		}
	}
	return strings.Compare(fmt.Sprintf("%T %[1]v", a), fmt.Sprintf("%T %[1]v", b))
}

func (t *Table[T]) keyNames() []string {
	names := make([]string, len(t.Key))
	for i, column := range t.Key {
		names[i] = t.Columns[column].Name
	}
	return names
}
