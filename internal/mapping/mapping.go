// Package mapping reads which column each field of a struct belongs to, as sqlx maps them, and which of the columns
// are the key and the version.
package mapping

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/jmoiron/sqlx/reflectx"

	"github.com/raceproof/raceproof/internal/dialect"
)

// A Mapping is a struct type laid over a table. It never changes.
type Mapping struct {
	Table   string
	Type    reflect.Type
	Columns []Column
	Key     []int  // indexes in Columns, in the order of the fields
	Version int    // index in Columns, or -1: no mapped version column
	Counter string // the version column, mapped or not; empty: the table has none

	// Undecided: nothing says whether the table has a version column, so a table that turns out to have one of the
	// default name must be asked about.
	Undecided bool

	flat bool
}

// DefaultVersion and DefaultKey are the columns that are the version and the key when no tag says otherwise.
const (
	DefaultVersion = "version"
	DefaultKey     = "id"
)

// Options are what a struct's tags cannot say.
type Options struct {
	Version   string // the version column, which the struct may leave out
	NoVersion bool   // the table has no version column, whatever its columns are called
}

// New lays a struct type over a table.
func New(t reflect.Type, table string, o Options) (*Mapping, error) {
	if err := dialect.CheckTable(table); err != nil {
		return nil, err
	}
	if t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("table %q: %s is not a struct", table, t)
	}
	m := &Mapping{Table: table, Type: t, Version: -1, flat: isFlat(t, timeType)}
	fields, err := columnFields(t)
	if err == nil {
		err = m.addColumns(fields)
	}
	if err == nil {
		err = m.findKey(fields)
	}
	if err == nil {
		err = m.findVersion(fields, o)
	}
	if err != nil {
		return nil, fmt.Errorf("table %q: %s: %w", table, t, err)
	}
	return m, nil
}

// columnFields returns the fields of t that are columns to sqlx, in order: the exported ones, those of embedded
// structs among them, an outer field hiding an inner one of the same name.
func columnFields(t reflect.Type) ([]*reflectx.FieldInfo, error) {
	if err := checkUnexported(t); err != nil {
		return nil, err
	}
	// A mapper of its own: sqlx.NameMapper is a variable that services change.
	tree := reflectx.NewMapperFunc("db", sqlx.NameMapper).TypeMap(t)
	var fields []*reflectx.FieldInfo
	for _, f := range tree.Index {
		if f.Embedded || !isTop(f) {
			continue
		}
		for p := f.Parent; p != nil && p.Parent != nil; p = p.Parent {
			if p.Field.Type.Kind() == reflect.Pointer && !p.Field.IsExported() {
				return nil, fmt.Errorf("struct %s is embedded by pointer and not exported, so that it cannot be made", p.Field.Name)
			}
		}
		if shown := tree.Names[f.Path]; shown != f {
			if shown == nil || len(shown.Index) == len(f.Index) {
				return nil, fmt.Errorf("field %s: another field is column %q too", f.Field.Name, f.Path)
			}
			continue
		}
		fields = append(fields, f)
	}
	slices.SortFunc(fields, func(a, b *reflectx.FieldInfo) int { return slices.Compare(a.Index, b.Index) })
	return fields, nil
}

// isTop tells whether a field belongs to the struct or to one embedded in it, and not to a struct that is a column.
func isTop(f *reflectx.FieldInfo) bool {
	for p := f.Parent; p != nil && p.Parent != nil; p = p.Parent {
		if !p.Embedded {
			return false
		}
	}
	return true
}

func checkUnexported(t reflect.Type) error {
	for _, f := range reflect.VisibleFields(t) {
		if tag, ok := f.Tag.Lookup("db"); ok && tag != "-" && !f.IsExported() && !f.Anonymous {
			return fmt.Errorf("field %s has the tag db:%q but is not exported", f.Name, tag)
		}
	}
	return nil
}

func (m *Mapping) addColumns(fields []*reflectx.FieldInfo) error {
	seen := map[string]string{}
	for _, f := range fields {
		name := f.Path
		if err := dialect.CheckName(name); err != nil {
			return fmt.Errorf("field %s: %w", f.Field.Name, err)
		}
		// Databases compare the names of columns without regard to case.
		if other, ok := seen[strings.ToLower(name)]; ok {
			return fmt.Errorf("field %s: field %s is column %q too", f.Field.Name, other, name)
		}
		seen[strings.ToLower(name)] = f.Field.Name
		for option := range f.Options {
			if option != "key" && option != "version" {
				return fmt.Errorf("field %s: unknown option %q in its db tag: there is key and version", f.Field.Name, option)
			}
		}
		m.Columns = append(m.Columns, newColumn(name, f))
	}
	if len(m.Columns) == 0 {
		return fmt.Errorf("no field is a column")
	}
	return nil
}

func has(f *reflectx.FieldInfo, option string) bool {
	_, ok := f.Options[option]
	return ok
}

func (m *Mapping) findKey(fields []*reflectx.FieldInfo) error {
	for i, f := range fields {
		if has(f, "key") {
			m.Key = append(m.Key, i)
		}
	}
	if m.Key == nil {
		if i := m.Index(DefaultKey); i >= 0 {
			m.Key = []int{i}
			return nil
		}
		return fmt.Errorf("no key: tag a field `db:\"name,key\"`, or map one to column %q", DefaultKey)
	}
	return nil
}

func (m *Mapping) findVersion(fields []*reflectx.FieldInfo, o Options) error {
	if o.Version != "" {
		if err := dialect.CheckName(o.Version); err != nil {
			return fmt.Errorf("version column: %w", err)
		}
		if o.NoVersion {
			return fmt.Errorf("version column %q and no version column are both asked for", o.Version)
		}
	}
	tagged := -1
	for i, f := range fields {
		if !has(f, "version") {
			continue
		}
		if tagged >= 0 {
			return fmt.Errorf("fields %s and %s are both tagged as the version", fields[tagged].Field.Name, f.Field.Name)
		}
		tagged = i
	}
	switch {
	case tagged >= 0 && o.NoVersion:
		return fmt.Errorf("field %s is tagged as the version, and no version column is asked for", fields[tagged].Field.Name)
	case tagged >= 0 && o.Version != "" && m.Columns[tagged].Name != o.Version:
		return fmt.Errorf("field %s is tagged as the version, and column %q is asked for", fields[tagged].Field.Name, o.Version)
	case tagged >= 0:
		m.Version = tagged
	case o.Version != "":
		m.Version, m.Counter = m.Index(o.Version), o.Version
	case !o.NoVersion:
		m.Version = m.Index(DefaultVersion)
		m.Undecided = m.Version < 0
	}
	if m.Version < 0 {
		return nil
	}
	c := &m.Columns[m.Version]
	if k := c.Type.Kind(); k != reflect.Int64 && k != reflect.Int {
		return fmt.Errorf("version column %q is a %s: it must be an int64, which is never NULL and does not roll over; "+
			"if it is no version, use the option WithoutVersion", c.Name, c.Type)
	}
	if slices.Contains(m.Key, m.Version) {
		return fmt.Errorf("column %q is both key and version", c.Name)
	}
	m.Counter = c.Name
	return nil
}

// Flat tells whether a struct and its copy share nothing, in fields that are no columns too, so that changing the one never
// changes the other. A time is taken to be its value: nobody can change the location that it points to.
func (m *Mapping) Flat() bool { return m.flat }

// Index returns the index of a column, or -1.
func (m *Mapping) Index(column string) int {
	return slices.IndexFunc(m.Columns, func(c Column) bool { return strings.EqualFold(c.Name, column) })
}

// Names returns the names of the columns.
func (m *Mapping) Names() []string {
	names := make([]string, len(m.Columns))
	for i, c := range m.Columns {
		names[i] = c.Name
	}
	return names
}
