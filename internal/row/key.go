package row

import (
	"database/sql/driver"
	"fmt"
	"reflect"
	"strings"

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
		if !comparable(column, v) {
			return nil, fmt.Errorf("key column %q is a %s, and the key a %T", column.Name, column.Type, value)
		}
		k[i] = v
	}
	return k, nil
}

// comparable refuses what some databases would convert and others never match: '7 apples' is 7 to MySQL.
func comparable(c *mapping.Column, v driver.Value) bool {
	_, isInteger := v.(int64)
	if c.Kind == mapping.Integer {
		return isInteger
	}
	if c.Type.Kind() == reflect.String {
		switch v.(type) {
		case string, []byte:
			return true
		}
		return c.Type.Implements(reflect.TypeFor[driver.Valuer]())
	}
	return true
}

func (t *Table[T]) keyNames() []string {
	names := make([]string, len(t.Key))
	for i, column := range t.Key {
		names[i] = t.Columns[column].Name
	}
	return names
}
