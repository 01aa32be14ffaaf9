package row

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
)

// Where a database has arrays, many integers are one parameter, and a statement is one text and one plan whatever their number.

// arrayAtMost is how many rows one statement reads or writes that takes them as arrays.
const arrayAtMost = 1024

// keysAsArray tells whether keys can be sent as an array.
func (t *Table[T]) keysAsArray() bool {
	return t.Pool.Dialect().Arrays && t.Columns[t.Key[0]].Kind == mapping.Integer
}

// asArrays tells whether what was changed can be sent as arrays.
func (t *Table[T]) asArrays(rows []*heldRow[T]) bool {
	return t.keysAsArray() && !slices.ContainsFunc(rows, func(r *heldRow[T]) bool {
		return slices.ContainsFunc(t.written(r), func(column int) bool { return t.Columns[column].Kind != mapping.Integer })
	})
}

// array adds an array of as many integers as there are.
func array(s *dialect.SQL, n int, integer func(int) any) {
	var b strings.Builder
	b.WriteByte('{')
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		switch v := integer(i).(type) {
		case int64:
			b.WriteString(strconv.FormatInt(v, 10))
		case nil:
			b.WriteString("NULL")
		default:
			panic(fmt.Sprintf("row: an array of integers has a %T", v)) // of no other value it is said that it is an Integer
		}
	}
	b.WriteByte('}')
	s.Add("CAST(CAST(").Value(b.String()).Add(" AS text) AS bigint[])")
}

// updatesByArrays is updatesMany with an array for each column.
func (t *Table[T]) updatesByArrays(rows []*heldRow[T]) *dialect.SQL {
	columns := t.written(rows[0])
	set, from := t.sql(), t.sql()
	add := func(integer func(int) any) dialect.Fragment {
		name := dialect.Fragment("v" + strconv.Itoa(len(from.Args())))
		if len(from.Args()) > 0 {
			from.Add(", ")
		}
		array(from, len(rows), integer)
		return name
	}
	names := []dialect.Fragment{add(func(i int) any { return rows[i].key[0] })}
	assign := func(column string, integer func(int) any) {
		if len(names) > 1 {
			set.Add(", ")
		}
		names = append(names, add(integer))
		set.Name(column).Add(" = v.").Add(names[len(names)-1])
	}
	for _, column := range columns {
		assign(t.Columns[column].Name, func(i int) any {
			v, _ := mapping.Bound(t.Columns[column].Field(reflect.ValueOf(&rows[i].Value).Elem()))
			return v
		})
	}
	if t.Counter != "" {
		assign(t.Counter, func(i int) any { return rows[i].version + rows[i].raised })
		names = append(names, add(func(i int) any { return rows[i].version }))
	}
	s := t.sql().Add("UPDATE ").Name(t.Table).Add(" AS t SET ").Append(set).Add(" FROM unnest(").Append(from).Add(") AS v(")
	for i, name := range names {
		if i > 0 {
			s.Add(", ")
		}
		s.Add(name)
	}
	s.Add(") WHERE t.").Name(t.Columns[t.Key[0]].Name).Add(" = v.").Add(names[0])
	if t.Counter != "" {
		s.Add(" AND t.").Name(t.Counter).Add(" = v.").Add(names[len(names)-1])
	}
	return s
}
