// Package row reads, compares and writes one mapped row. It is what the patterns share, so that none imports another.
package row

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/fifo"
	"github.com/raceproof/raceproof/internal/mapping"
	"github.com/raceproof/raceproof/internal/session"
)

// A Table is a table of one database, as the patterns use it.
type Table[T any] struct {
	*mapping.Mapping
	Pool *session.Pool

	// Attempts are those that updates of the table make unless they are told otherwise.
	Attempts *session.Attempts

	db      *raceproof.DB
	read    string       // the text that selects a row by its key: the mapped columns, and the version if it is hidden
	columns *dialect.SQL // the mapped columns

	verified atomic.Bool
	index    atomic.Pointer[string] // by which several rows are looked for without locking others; nil or "": none is needed, or there is none
	alone    atomic.Bool            // an UPDATE that returns its row may be a transaction of its own

	plain  atomic.Pointer[Plain]
	asking fifo.Mutex // held by who asks the catalogue what is plain
}

// NewTable puts the table and the database together.
func NewTable[T any](db *raceproof.DB, table *raceproof.Table[T]) (*Table[T], error) {
	if db == nil {
		return nil, errors.New("the DB is nil")
	}
	if table == nil {
		return nil, errors.New("the Table is nil")
	}
	t := &Table[T]{Mapping: table.Mapping(), Pool: db.Pool(), db: db}
	t.Attempts = t.Pool.Attempts(session.DefaultPolicy)
	t.columns = t.sql()
	for i, name := range t.Names() {
		if i > 0 {
			t.columns.Add(", ")
		}
		t.columns.Name(name)
	}
	s := t.sql().Add("SELECT ").Append(t.selected()).Add(" FROM ").Name(t.Table).Add(" WHERE ")
	t.HasKey(s, make(Key, len(t.Key)))
	t.read = s.Statement().Text
	return t, nil
}

// A known table is told by what it is made of.
type known struct {
	t              reflect.Type
	table, counter string
	undecided      bool
}

// Known is NewTable for those who have nowhere to keep what it returns, which is compared with the database only once.
func Known[T any](db *raceproof.DB, table *raceproof.Table[T]) (*Table[T], error) {
	if db == nil || table == nil {
		return NewTable(db, table)
	}
	m := table.Mapping()
	key := known{m.Type, m.Table, m.Counter, m.Undecided}
	if found, ok := db.Pool().Tables.Load(key); ok {
		return found.(*Table[T]), nil
	}
	t, err := NewTable(db, table)
	if err != nil {
		return nil, err
	}
	kept, _ := db.Pool().Tables.LoadOrStore(key, t)
	return kept.(*Table[T]), nil
}

// selected is what a SELECT of rows yields: the mapped columns, and the version if it is hidden.
func (t *Table[T]) selected() *dialect.SQL {
	s := t.sql().Append(t.columns)
	if t.Hidden() {
		s.Add(", ").Name(t.Counter)
	}
	return s
}

// Of returns the DB of the table, nil if there is no table.
func (t *Table[T]) Of() *raceproof.DB {
	if t == nil {
		return nil
	}
	return t.db
}

// Name returns the table's name, empty if there is no table.
func (t *Table[T]) Name() string {
	if t == nil {
		return ""
	}
	return t.Mapping.Table
}

// selects returns the statement that reads the row with a key. In a transaction it can lock the row, and then sees what
// was committed last, which a plain SELECT need not, where a transaction goes on reading what it has begun with.
func (t *Table[T]) selects(key Key, locks bool) dialect.Statement {
	s := dialect.Statement{Text: t.read, Args: key, Read: true}
	if lock := t.Pool.Dialect().Lock; locks && lock != "" {
		s.Text, s.Locks = t.read+string(lock), true
	}
	return s
}

func (t *Table[T]) sql() *dialect.SQL { return t.Pool.Dialect().NewSQL() }

// Hidden tells whether the table has a version column that T does not map.
func (t *Table[T]) Hidden() bool { return t.Counter != "" && t.Version < 0 }

// Verify compares T with the table as it is in the database, once.
func (t *Table[T]) Verify(ctx context.Context) error {
	if t.verified.Load() {
		return nil
	}
	columns, alone, err := t.catalog(ctx)
	if err == nil && len(columns) == 0 { // the database says better what is wrong with the table
		statement := t.sql().Add("SELECT * FROM ").Name(t.Table).Add(" WHERE 1 = 0").Statement()
		err = t.Pool.Read(ctx, func(q session.Querier) (err error) {
			columns, err = q.Columns(ctx, statement)
			return err
		})
	}
	if err != nil {
		return err
	}
	folds := t.Pool.Dialect().FoldsNames
	has := func(name string) bool {
		return slices.ContainsFunc(columns, func(c string) bool { return c == name || folds && strings.EqualFold(c, name) })
	}
	for _, name := range t.Names() {
		if !has(name) {
			return fmt.Errorf("the table has no column %q, which %s maps: it has %s", name, t.Type, strings.Join(columns, ", "))
		}
	}
	if t.Hidden() && !has(t.Counter) {
		return fmt.Errorf("the table has no version column %q: it has %s", t.Counter, strings.Join(columns, ", "))
	}
	if t.Undecided && has(mapping.DefaultVersion) {
		return fmt.Errorf("the table has a column %q that %s does not map: map it, or say WithVersion(%q) or WithoutVersion",
			mapping.DefaultVersion, t.Type, mapping.DefaultVersion)
	}
	t.alone.Store(alone)
	t.verified.Store(true)
	return nil
}

// HasKey adds the condition that a row has the key.
func (t *Table[T]) HasKey(s *dialect.SQL, key Key) {
	for i, column := range t.Key {
		if i > 0 {
			s.Add(" AND ")
		}
		s.Name(t.Columns[column].Name).Add(" = ")
		t.bind(s, column, key[i])
	}
}

// bind binds a value that belongs to a column.
func (t *Table[T]) bind(s *dialect.SQL, column int, value any) {
	switch t.Columns[column].Kind {
	case mapping.Integer:
		s.Integer(value)
	case mapping.Float:
		v := reflect.ValueOf(value)
		if v.Kind() == reflect.Pointer && !v.IsNil() {
			v = v.Elem()
		}
		if v.CanFloat() {
			s.Fraction(v.Float())
			return
		}
		s.Value(value)
	default:
		s.Value(value)
	}
}
