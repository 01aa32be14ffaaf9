package row

import (
	"context"
	"errors"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
	"github.com/raceproof/raceproof/internal/session"
)

// plainFor is for how long what the catalogue has said is relied on.
const plainFor = time.Second

// longestPlain is how long a text may be. Each database stores much longer ones, but not ones of any length.
const longestPlain = 1 << 16

// Plain says in which columns of a table several writes of a row can be merged into the last of them without anybody being
// able to tell: the database would have stored each value as it is, and done nothing else.
type Plain struct {
	asked   time.Time
	columns []plainColumn
}

type plainColumn struct {
	field  *mapping.Column
	stores dialect.Storage
	merges bool // not only read
}

// Plain returns which columns are plain. What the catalogue says is asked again after a second; nothing is plain
// meanwhile for others. In a transaction nothing is plain: it can have changed the table, or see it as it was.
func (t *Table[T]) Plain(ctx context.Context) (*Plain, error) {
	if t.Pool.InTransaction(ctx) {
		return nil, nil
	}
	if p := t.knownPlain(); p != nil {
		return p, nil
	}
	if !t.asking.TryLock() {
		return nil, nil // somebody else asks; his question can be one that is not answered
	}
	defer t.asking.Unlock()
	p, err := t.askPlain(ctx)
	if err != nil {
		return nil, err
	}
	t.plain.Store(p)
	return p, nil
}

// AskPlain has it known what is plain, for those who would otherwise read a row again after they have written it, and only where
// that costs something.
func (t *Table[T]) AskPlain(ctx context.Context) error {
	if t.Pool.Dialect().ReturningInside || !t.Flat() || t.knownPlain() != nil {
		return nil
	}
	_, err := t.Plain(ctx)
	return err
}

// knownPlain returns what was asked not long ago.
func (t *Table[T]) knownPlain() *Plain {
	if p := t.plain.Load(); p != nil && time.Since(p.asked) < plainFor {
		return p
	}
	return nil
}

// askPlain asks the catalogue. If the database cannot say, nothing is plain.
func (t *Table[T]) askPlain(ctx context.Context) (*Plain, error) {
	d := t.Pool.Dialect()
	p := &Plain{asked: time.Now()}
	err := t.Pool.Read(ctx, func(q session.Querier) error {
		p.columns = make([]plainColumn, len(t.Columns))
		var name, typ string
		var free, long bool
		s := t.sql()
		d.Plain(s, t.Table)
		return q.Rows(ctx, s.Statement(), func() {
			i := slices.IndexFunc(t.Columns, func(c mapping.Column) bool {
				return c.Name == name || d.FoldsNames && strings.EqualFold(c.Name, name)
			})
			if i >= 0 {
				p.columns[i] = t.plainColumn(i, d.Storage(typ), free, long)
			}
		}, &name, &typ, &free, &long)
	})
	switch {
	case err == nil:
		return p, nil
	case session.Ended(ctx) != nil, errors.Is(err, session.ErrClosed), !d.FromServer(err):
		return nil, err
	}
	p.columns = nil
	return p, nil
}

// plainColumn puts together what the database says of a column and what is known of its field.
func (t *Table[T]) plainColumn(i int, s dialect.Storage, free, long bool) (p plainColumn) {
	field := &t.Columns[i]
	if field.Flat() && isBasic(field.Type) {
		p.field = field
	}
	switch {
	case p.field == nil:
	case field.Kind == mapping.Integer && s.Integers, field.Kind == mapping.Bool && s.Bools:
		p.stores, p.merges = s, free
	case field.Kind == mapping.Text && s.Texts:
		p.stores, p.merges = s, free && long
	}
	p.merges = p.merges && i != t.Version && !strings.EqualFold(field.Name, t.Counter) && !slices.Contains(t.Key, i)
	return p
}

// isBasic tells whether a type, or what an sql.Null of it holds, has no methods: drivers look for many.
func isBasic(t reflect.Type) bool {
	if isNull(t) {
		t = t.Field(0).Type
	}
	return reflect.PointerTo(t).NumMethod() == 0
}

func isNull(t reflect.Type) bool { return t.PkgPath() == "database/sql" && t.Kind() == reflect.Struct }

// Integer tells whether a column is an integer to the database and to its field, so that what is read is what is there.
func (p *Plain) Integer(column int) bool { return p.has(column) && p.columns[column].stores.Integers }

// Any tells whether there is a column for which Holds can say true.
func (p *Plain) Any() bool {
	return p != nil && slices.ContainsFunc(p.columns, func(c plainColumn) bool { return c.merges })
}

func (p *Plain) has(column int) bool { return p != nil && column < len(p.columns) }

// Holds tells whether the database would store the value of a column in the struct v, which must be addressable, exactly as it
// is, and do nothing else.
func (p *Plain) Holds(column int, v reflect.Value) bool {
	if !p.has(column) || !p.columns[column].merges {
		return false
	}
	c := &p.columns[column]
	field := c.field.Field(v)
	if isNull(field.Type()) {
		if !field.Field(1).Bool() {
			return false
		}
		field = field.Field(0)
	}
	switch {
	case field.CanInt():
		n := field.Int()
		return n >= c.stores.Min && (n < 0 || uint64(n) <= c.stores.Max)
	case field.CanUint():
		n := field.Uint()
		return n <= math.MaxInt64 && n <= c.stores.Max
	case field.Kind() == reflect.String:
		s := field.String()
		return len(s) <= longestPlain && utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
	}
	return field.Kind() == reflect.Bool
}
