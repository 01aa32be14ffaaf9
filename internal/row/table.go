// Package row reads, compares and writes one mapped row. It is what the patterns share, so that none imports another.
package row

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
	"github.com/raceproof/raceproof/internal/session"
)

// A Table is a table of one database, as the patterns use it.
type Table[T any] struct {
	*mapping.Mapping
	Pool *session.Pool

	read      string // the text that selects a row by its key: the mapped columns, and the version if it is hidden
	returning string // the end of a statement that yields the row as it is after it

	verified atomic.Bool
}

// NewTable puts the table and the database together.
func NewTable[T any](db *raceproof.DB, table *raceproof.Table[T]) (*Table[T], error) {
	if db == nil {
		return nil, errors.New("the DB is nil")
	}
	if table == nil {
		return nil, errors.New("the Table is nil")
	}
	t := &Table[T]{Mapping: table.Mapping(), Pool: db.Pool()}
	names := t.sql()
	for i, name := range t.Names() {
		if i > 0 {
			names.Add(", ")
		}
		names.Name(name)
	}
	t.returning = t.sql().Add(" RETURNING ").Append(names).Statement().Text
	s := t.sql().Add("SELECT ").Append(names)
	if t.Hidden() {
		s.Add(", ").Name(t.Counter)
	}
	s.Add(" FROM ").Name(t.Table)
	t.Where(s, make(Key, len(t.Key)))
	t.read = s.Statement().Text
	return t, nil
}

func (t *Table[T]) sql() *dialect.SQL { return t.Pool.Dialect().NewSQL() }

// Hidden tells whether the table has a version column that T does not map.
func (t *Table[T]) Hidden() bool { return t.Counter != "" && t.Version < 0 }

// Verify compares T with the table as it is in the database, once.
func (t *Table[T]) Verify(ctx context.Context) error {
	if t.verified.Load() {
		return nil
	}
	var columns []string
	statement := t.sql().Add("SELECT * FROM ").Name(t.Table).Add(" WHERE 1 = 0").Statement()
	err := t.Pool.Read(ctx, func(q session.Querier) (err error) {
		columns, err = q.Columns(ctx, statement)
		return err
	})
	if err != nil {
		return err
	}
	has := func(name string) bool {
		return slices.ContainsFunc(columns, func(c string) bool { return strings.EqualFold(c, name) })
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
	t.verified.Store(true)
	return nil
}

// Where adds the condition that selects the row with the key.
func (t *Table[T]) Where(s *dialect.SQL, key Key) {
	s.Add(" WHERE ")
	for i, column := range t.Key {
		if i > 0 {
			s.Add(" AND ")
		}
		s.Name(t.Columns[column].Name).Add(" = ").Value(key[i])
	}
}
