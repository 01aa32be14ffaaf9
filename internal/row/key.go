package row

import (
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

func (t *Table[T]) keyNames() []string {
	names := make([]string, len(t.Key))
	for i, column := range t.Key {
		names[i] = t.Columns[column].Name
	}
	return names
}
