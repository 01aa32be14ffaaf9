package row

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
	"github.com/raceproof/raceproof/internal/session"
)

// catalog returns the table's columns, if the database lists them, and whether an UPDATE that returns its row may be a
// transaction of its own, which saves two round trips. Where such a statement cannot be undone once it has yielded its
// row, an error must not be able to come after that: there must be one row at the most, and each of its values must fit
// its field. Of all other tables the rows are updated in an explicit transaction, which is rolled back if the row cannot
// be read.
func (t *Table[T]) catalog(ctx context.Context) (columns []string, alone bool, err error) {
	d := t.Pool.Dialect()
	if d.Transactional != nil {
		if err := t.transactional(ctx); err != nil {
			return nil, false, err
		}
		return nil, false, t.findIndex(ctx)
	}
	if !d.Returning || d.Columns == nil {
		return nil, d.Returning, nil
	}
	fitting, unique := 0, false
	err = t.Pool.Read(ctx, func(q session.Querier) error {
		columns, fitting, unique = nil, 0, false
		var name, typ, index string
		var null bool
		s := t.sql()
		d.Columns(s, t.Table)
		err := q.Rows(ctx, s.Statement(), func() {
			columns = append(columns, name)
			if i := slices.Index(t.Names(), name); i >= 0 && holds(&t.Columns[i], typ, null) {
				fitting++
			}
		}, &name, &typ, &null)
		if err != nil {
			return err
		}
		s = t.sql()
		d.Uniques(s, t.Table)
		return q.Rows(ctx, s.Statement(), func() { unique = unique || t.keyContains(strings.Split(index, ",")) }, &index)
	})
	return columns, unique && fitting == len(t.Columns), err
}

// transactional returns an error if the table's storage engine has no transactions, and so no locks that last.
func (t *Table[T]) transactional(ctx context.Context) (err error) {
	return t.Pool.Read(ctx, func(q session.Querier) error {
		var engine, has string
		var refused error
		s := t.sql()
		t.Pool.Dialect().Transactional(s, t.Table)
		err := q.Rows(ctx, s.Statement(), func() {
			if has != "YES" {
				refused = fmt.Errorf("the table's storage engine is %s, which has no transactions: use InnoDB", engine)
			}
		}, &engine, &has)
		return errors.Join(err, refused)
	})
}

// findIndex finds the index by which several rows can be looked for without locking others.
func (t *Table[T]) findIndex(ctx context.Context) error {
	d := t.Pool.Dialect()
	if d.KeyIndex == nil || len(t.Key) > 1 {
		return nil
	}
	return t.Pool.Read(ctx, func(q session.Querier) error {
		var name string
		found := ""
		s := t.sql()
		d.KeyIndex(s, t.Table, t.Columns[t.Key[0]].Name)
		err := q.Rows(ctx, s.Statement(), func() {
			if dialect.CheckName(name) == nil {
				found = name
			}
		}, &name)
		t.index.Store(&found)
		return err
	})
}

// keyContains tells whether all the columns are of the key, so that the key is unique if they are.
func (t *Table[T]) keyContains(columns []string) bool {
	key := t.keyNames()
	return !slices.ContainsFunc(columns, func(c string) bool { return !slices.Contains(key, c) })
}

// exact are the types of Go that hold every value of a type of the database, but for NULL. A time can be infinite, so that
// nothing holds every time.
var exact = map[string][]reflect.Kind{
	"bigint":            {reflect.Int64, reflect.Int},
	"integer":           {reflect.Int64, reflect.Int, reflect.Int32},
	"smallint":          {reflect.Int64, reflect.Int, reflect.Int32, reflect.Int16},
	"double precision":  {reflect.Float64},
	"real":              {reflect.Float64, reflect.Float32},
	"text":              {reflect.String},
	"character varying": {reflect.String},
	"character":         {reflect.String},
	"boolean":           {reflect.Bool},
	"bytea":             {reflect.Slice},
}

var scannerType = reflect.TypeFor[sql.Scanner]()

// holds tells whether a column's field can hold every value of the type, and NULL if there can be one. Of a type with a
// conversion of its own that cannot be known.
func holds(c *mapping.Column, typ string, null bool) bool {
	t := c.Type
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.PkgPath() == "database/sql" && t.Kind() == reflect.Struct {
		t = t.Field(0).Type
	}
	return c.Kind != mapping.Other && (c.Null || !null) && slices.Contains(exact[typ], t.Kind()) &&
		!reflect.PointerTo(t).Implements(scannerType)
}
