package tap

import (
	"database/sql/driver"
	"io"
	"reflect"
	"slices"
	"sync"
)

// rows passes on what the driver reads. What database/sql asks of rows that may or may not answer, it answers in the place
// of those that do not, as database/sql would.
type rows struct {
	own  driver.Rows
	seen *Seen

	peeked bool // the first row is here, and the driver's is not asked for it again
	first  []driver.Value
	err    error // of the first row
	close  sync.Once
	closed error
}

var (
	_ driver.RowsNextResultSet              = (*rows)(nil)
	_ driver.RowsColumnTypeScanType         = (*rows)(nil)
	_ driver.RowsColumnTypeDatabaseTypeName = (*rows)(nil)
	_ driver.RowsColumnTypeLength           = (*rows)(nil)
	_ driver.RowsColumnTypeNullable         = (*rows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*rows)(nil)
)

// peek reads the first row. The driver is not asked for another before the caller has been given this one, so that what
// it points to stays.
func (r *rows) peek() error {
	r.peeked = true
	r.first = make([]driver.Value, len(r.own.Columns()))
	r.err = r.own.Next(r.first)
	if r.err == io.EOF {
		return nil
	}
	return r.err
}

func (r *rows) Columns() []string { return slices.Clone(r.own.Columns()) }

func (r *rows) Next(dest []driver.Value) (err error) {
	if r.peeked {
		r.peeked = false
		copy(dest, r.first)
		err = r.err
	} else {
		err = r.own.Next(dest)
	}
	switch {
	case err == nil:
		r.seen.row(dest)
	case err != io.EOF || !r.HasNextResultSet():
		r.seen.end(err)
	}
	return err
}

// Close closes the driver's once.
func (r *rows) Close() error {
	r.close.Do(func() {
		// What was not read was seen as well: there was a row, or none.
		if r.peeked && r.err == nil {
			r.seen.row(r.first)
		}
		r.seen.end(nil)
		r.closed = r.own.Close()
	})
	return r.closed
}

func (r *rows) HasNextResultSet() bool {
	own, ok := r.own.(driver.RowsNextResultSet)
	return ok && own.HasNextResultSet()
}

func (r *rows) NextResultSet() error {
	own, ok := r.own.(driver.RowsNextResultSet)
	if !ok {
		return io.EOF
	}
	r.peeked = false
	return own.NextResultSet()
}

func (r *rows) ColumnTypeScanType(i int) reflect.Type {
	if own, ok := r.own.(driver.RowsColumnTypeScanType); ok {
		return own.ColumnTypeScanType(i)
	}
	return reflect.TypeFor[any]()
}

func (r *rows) ColumnTypeDatabaseTypeName(i int) string {
	if own, ok := r.own.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return own.ColumnTypeDatabaseTypeName(i)
	}
	return ""
}

func (r *rows) ColumnTypeLength(i int) (int64, bool) {
	if own, ok := r.own.(driver.RowsColumnTypeLength); ok {
		return own.ColumnTypeLength(i)
	}
	return 0, false
}

func (r *rows) ColumnTypeNullable(i int) (nullable, ok bool) {
	if own, is := r.own.(driver.RowsColumnTypeNullable); is {
		return own.ColumnTypeNullable(i)
	}
	return false, false
}

func (r *rows) ColumnTypePrecisionScale(i int) (int64, int64, bool) {
	if own, ok := r.own.(driver.RowsColumnTypePrecisionScale); ok {
		return own.ColumnTypePrecisionScale(i)
	}
	return 0, 0, false
}
