package row

import (
	"context"
	"reflect"
	"slices"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
	"github.com/raceproof/raceproof/internal/session"
)

// manyAtMost is how many rows one statement reads or writes.
const manyAtMost = 64

// inOneStatement tells whether rows with the keys are better read and written by one statement than one by one: if each costs
// a round trip.
func (t *Table[T]) inOneStatement(keys int) bool {
	d := t.Pool.Dialect()
	return keys > 1 && len(t.Key) == 1 && !d.InProcess && (d.KeyIndex == nil || t.keyIndex() != "")
}

// keyIndex returns the name of the index to be used for several keys.
func (t *Table[T]) keyIndex() string {
	if name := t.index.Load(); name != nil {
		return *name
	}
	return ""
}

// readMany reads the rows with the keys, which are in order, and locks them if it is told how. It calls add with each that is
// there.
func (t *Table[T]) readMany(ctx context.Context, q session.Querier, keys []Key, l *Lock, add func(*Row[T])) error {
	atMost := manyAtMost
	if t.keysAsArray() {
		atMost = arrayAtMost
	}
	for part := range slices.Chunk(keys, atMost) {
		s := t.sql().Add("SELECT ").Append(t.selected()).Add(" FROM ").Name(t.Table).UseIndex(t.keyIndex()).Add(" WHERE ")
		t.isOneOf(s, part)
		s.Add(" ORDER BY ").Name(t.Columns[t.Key[0]].Name) // everybody locks in one order
		statement := s.Statement()
		statement.Read = true
		if l != nil {
			statement = t.selectsLocked(ctx, statement, l)
		}
		var rows []*Row[T]
		err := q.Many(ctx, statement, func() []any {
			r := &Row[T]{table: t, locked: l != nil}
			rows = append(rows, r)
			return t.dest(&r.Value, (*Counter)(&r.version), true)
		})
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err = r.identify(); err == nil {
				r.before, err = t.Snapshot(reflect.ValueOf(&r.Value).Elem())
			}
			if err != nil {
				return err
			}
			add(r)
		}
	}
	return nil
}

// padded is how many values stand for n in the text of a statement, so that there are few texts.
func padded(n int) int {
	size := 2
	for size < n {
		size *= 2
	}
	return size
}

// isOneOf adds the condition that a row has one of the keys, the last of which is repeated.
func (t *Table[T]) isOneOf(s *dialect.SQL, keys []Key) {
	s.Name(t.Columns[t.Key[0]].Name)
	if t.keysAsArray() {
		s.Add(" = ANY(")
		array(s, len(keys), func(i int) any { return keys[i][0] })
		s.Add(")")
		return
	}
	s.Add(" IN (")
	for i := range padded(len(keys)) {
		if i > 0 {
			s.Add(", ")
		}
		t.bind(s, t.Key[0], keys[min(i, len(keys)-1)][0])
	}
	s.Add(")")
}

// writeMany writes the columns of locked rows that are not as they were read, and raises their versions by the changes that
// were made of them. It returns ErrStale if one is not any more as it was read.
func (t *Table[T]) writeMany(ctx context.Context, q session.Querier, rows []*heldRow[T]) error {
	changed := rows[:0:0]
	for _, r := range rows {
		if err := r.settleChanged(); err != nil {
			return err
		}
		if len(r.changed) > 0 || t.Counter != "" {
			changed = append(changed, r)
		}
	}
	for _, alike := range byColumns(changed) {
		update, atMost := func(rows []*heldRow[T]) *dialect.SQL { return t.updatesOne(rows[0]) }, 1
		switch {
		case !t.inOneStatement(len(alike)):
		case t.asArrays(alike):
			update, atMost = t.updatesByArrays, arrayAtMost
		case t.simple(alike):
			update, atMost = t.updatesMany, manyAtMost
		}
		for part := range slices.Chunk(alike, atMost) {
			if err := t.change(ctx, q, update(part), len(part)); err != nil {
				return err
			}
		}
	}
	return nil
}

// byColumns returns those together that were changed in the same columns, each in the order of the keys: what nobody has changed
// is not written.
func byColumns[T any](rows []*heldRow[T]) (alike [][]*heldRow[T]) {
	slices.SortFunc(rows, func(a, b *heldRow[T]) int {
		if order := slices.Compare(a.changed, b.changed); order != 0 {
			return order
		}
		return a.key.Compare(b.key)
	})
	for len(rows) > 0 {
		n := slices.IndexFunc(rows, func(r *heldRow[T]) bool { return !slices.Equal(r.changed, rows[0].changed) })
		if n < 0 {
			n = len(rows)
		}
		alike, rows = append(alike, rows[:n]), rows[n:]
	}
	return alike
}

// settleChanged says which columns are to be written: all that somebody has changed, also if it is as it was by now, because
// each could have been refused; but nothing of a row that has no version and is as it was, which could not be counted.
func (r *heldRow[T]) settleChanged() error {
	r.changed = r.touched
	slices.Sort(r.changed)
	if r.table.Counter != "" {
		return nil
	}
	changed, err := r.before.Changed(reflect.ValueOf(&r.Value).Elem())
	if len(changed) == 0 {
		r.changed = nil
	}
	return err
}

func (t *Table[T]) change(ctx context.Context, q session.Querier, s *dialect.SQL, rows int) error {
	switch n, err := q.Change(ctx, locking(s)); {
	case err != nil:
		return err
	case n > int64(rows):
		return session.ErrAmbiguous
	case n < int64(rows):
		return ErrStale
	}
	return nil
}

// updatesOne is the UPDATE of one row that was changed.
func (t *Table[T]) updatesOne(r *heldRow[T]) *dialect.SQL { return t.SQL(r.updating()) }

func (r *heldRow[T]) updating() Update {
	t := r.table
	u := Update{Set: t.sql(), Where: t.sql(), Key: r.key}
	v := reflect.ValueOf(&r.Value).Elem()
	for _, column := range t.written(r) {
		if len(u.Set.Args()) > 0 {
			u.Set.Add(", ")
		}
		u.Set.Name(t.Columns[column].Name).Add(" = ")
		t.bind(u.Set, column, t.Columns[column].Field(v).Interface())
	}
	t.HasKey(u.Where, r.key)
	if t.Counter != "" {
		if len(u.Set.Args()) > 0 {
			u.Set.Add(", ")
		}
		u.Set.Name(t.Counter).Add(" = ").Integer(r.version + r.raised)
		u.Where.Add(" AND ").Name(t.Counter).Add(" = ").Integer(r.version)
	}
	return u
}

// written are the columns that a row's callers have changed, which the version is none of.
func (t *Table[T]) written(r *heldRow[T]) []int {
	return slices.DeleteFunc(r.changed, func(column int) bool { return column == t.Version })
}

// simple tells whether the values of the columns that were changed can stand in a CASE, where nothing tells the database their
// types.
func (t *Table[T]) simple(rows []*heldRow[T]) bool {
	for _, r := range rows {
		for _, column := range t.written(r) {
			if kind := t.Columns[column].Kind; kind != mapping.Integer && kind != mapping.Text {
				return false
			}
		}
	}
	return true
}

// updatesMany is the UPDATE of several rows that were changed in the same columns: each has the value that belongs to the key.
func (t *Table[T]) updatesMany(rows []*heldRow[T]) *dialect.SQL {
	keys := make([]Key, len(rows))
	for i, r := range rows {
		keys[i] = r.key
	}
	columns := t.written(rows[0])
	u := Update{Set: t.sql(), Where: t.sql()}
	for i, column := range columns {
		if i > 0 {
			u.Set.Add(", ")
		}
		u.Set.Name(t.Columns[column].Name).Add(" = ")
		t.byKey(u.Set, rows, func(s *dialect.SQL, r *heldRow[T]) {
			t.bind(s, column, t.Columns[column].Field(reflect.ValueOf(&r.Value).Elem()).Interface())
		})
	}
	t.isOneOf(u.Where, keys)
	if t.Counter != "" {
		if len(columns) > 0 {
			u.Set.Add(", ")
		}
		u.Set.Name(t.Counter).Add(" = ")
		t.byKey(u.Set, rows, func(s *dialect.SQL, r *heldRow[T]) { s.Integer(r.version + r.raised) })
		u.Where.Add(" AND ").Name(t.Counter).Add(" = ")
		t.byKey(u.Where, rows, func(s *dialect.SQL, r *heldRow[T]) { s.Integer(r.version) })
	}
	return t.sql().Add("UPDATE ").Name(t.Table).UseIndex(t.keyIndex()).Add(" SET ").Append(u.Set).Add(" WHERE ").Append(u.Where)
}

// byKey adds the value that belongs to the row's key.
func (t *Table[T]) byKey(s *dialect.SQL, rows []*heldRow[T], value func(*dialect.SQL, *heldRow[T])) {
	s.Add("CASE ").Name(t.Columns[t.Key[0]].Name)
	for i := range padded(len(rows)) {
		r := rows[min(i, len(rows)-1)]
		s.Add(" WHEN ")
		t.bind(s, t.Key[0], r.key[0])
		s.Add(" THEN ")
		if i < len(rows) {
			value(s, r)
		} else {
			s.Value(nil) // the last key was there already
		}
	}
	s.Add(" END")
}
