package raceproof

import (
	"fmt"
	"reflect"

	"github.com/raceproof/raceproof/internal/mapping"
)

// A Table says how the struct T is laid over a table. It never changes and belongs to no database.
//
// T's fields are columns as they are to sqlx: by the db tag, or else by sqlx.NameMapper, which lower-cases the field's
// name; the fields of embedded structs are columns too; `db:"-"` leaves a field out. T may leave out columns of the
// table; what is not mapped is never touched. Columns that can be NULL need pointers or types like sql.NullString.
//
// The key is the field or the fields tagged `db:"name,key"`, or else the one that is column "id". It must be unique in
// the table.
//
// The version column is the field tagged `db:"name,version"`, or else the one that is column "version"; it must be an
// int64 (or int), and NOT NULL in the table. It counts the changes of the row and belongs to this library: every
// updater of a table that has one raises it by one with every change, whether T maps it or [WithVersion] names it. If T
// has no version, and no option speaks of one, a table that turns out to have a column "version" is refused when an
// updater first uses it.
type Table[T any] struct {
	mapping *mapping.Mapping
}

// A TableOption tells NewTable what the tags of a struct cannot.
type TableOption func(*mapping.Options)

// WithVersion names the version column. T need not map it.
func WithVersion(column string) TableOption {
	return func(o *mapping.Options) { o.Version = column }
}

// WithoutVersion says that the table has no version column: if a column is called "version", it is like any other.
func WithoutVersion() TableOption {
	return func(o *mapping.Options) { o.NoVersion = true }
}

// NewTable lays T over the table of a name, which may be qualified by a schema ("game.players"). The error names
// what is wrong: a name that is none, a T that is no struct, has no key, has two fields for one column, a db tag on a
// field that is not exported or with an unknown option, or a version that is no int64. The database is not asked.
func NewTable[T any](name string, options ...TableOption) (*Table[T], error) {
	var o mapping.Options
	for _, option := range options {
		option(&o)
	}
	m, err := mapping.New(reflect.TypeFor[T](), name, o)
	if err != nil {
		return nil, fmt.Errorf("raceproof: %w", err)
	}
	return &Table[T]{m}, nil
}

// MustTable is NewTable for package variables: it panics where NewTable returns an error.
func MustTable[T any](name string, options ...TableOption) *Table[T] {
	t, err := NewTable[T](name, options...)
	if err != nil {
		panic(err)
	}
	return t
}

// Name returns the table's name, as it was given.
func (t *Table[T]) Name() string { return t.mapping.Table }

// Columns returns the columns that T maps, in the order of its fields.
func (t *Table[T]) Columns() []string { return t.mapping.Names() }

// Mapping is for the packages of this module, which alone can name its type.
func (t *Table[T]) Mapping() *mapping.Mapping { return t.mapping }
