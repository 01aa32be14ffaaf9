package atomic

import (
	"reflect"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/row"
)

// Grouping is for package serial, which alone can name its type.
func (u *Updater[T]) Grouping() (*row.Grouping[T, Change], error) {
	locks, err := u.table.NewLocks(dialect.Locking{})
	return &row.Grouping[T, Change]{Table: u.table, Locks: locks, Evaluate: u.evaluate, Size: Change.size}, err
}

// evaluate applies a change that the database would apply too, and would not refuse.
func (u *Updater[T]) evaluate(c Change, row reflect.Value, exact func(column int) bool) (applied, refused bool) {
	m, d := u.table.Mapping, u.table.Pool.Dialect()
	if c.check(m, d) != nil {
		return false, false
	}
	if _, err := c.ordered(m, d); err != nil {
		return false, false
	}
	return c.Evaluate(m, d, row, exact)
}
