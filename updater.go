package raceproof

import (
	"context"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
)

// An Updater changes one row of a table such that no concurrent change of the row is lost.
//
// Update applies the change to the row with the key and returns the row as it is afterwards. If it returns an error
// nothing was changed, and the row is the zero T. The key is the value of the table's key column, or a [Key] if the
// table has several.
//
// C is what the pattern can honestly honour: a [Func] for patterns that compute in Go, an expression for those that
// compute in the database. Updaters are safe for concurrent use.
type Updater[T, C any] interface {
	Update(ctx context.Context, key any, change C) (T, error)
}

// A Func computes a change in Go: it is given the row as it is and changes it in place. The context carries the
// transaction, if the pattern has one: updaters and [DB.Ext] called with it take part in it.
//
// If it returns an error the row stays as it was, and the updater returns that very error. It must not change the key
// or the version, and must not keep the pointer.
type Func[T any] func(ctx context.Context, row *T) error

// A Key is the key of a row in a table with several key columns, in the order of the struct's fields:
//
//	seats.Update(ctx, raceproof.Key{"LH400", "12A"}, change)
type Key []any

// A Condition is what must hold of a row, as package atomic says it: atomic.F("state").Eq("ready"). Its method is for the
// packages of this module, which alone can name the types in it.
type Condition interface {
	WriteCondition(*dialect.SQL, *mapping.Mapping) error
}

// Bind returns an updater that takes an argument of type A, and makes of it the change that u takes. Updaters of
// different patterns bound to one argument type are interchangeable:
//
//	award = raceproof.Bind(byLock, func(points int) raceproof.Func[Player] { ... })
//	award = raceproof.Bind(inSQL, func(points int) atomic.Change { ... })
//
// Bind panics if u or change is nil.
func Bind[T, C, A any](u Updater[T, C], change func(A) C) Updater[T, A] {
	if u == nil {
		panic("raceproof.Bind: the updater is nil")
	}
	if change == nil {
		panic("raceproof.Bind: the function that makes the change is nil")
	}
	return bound[T, C, A]{u, change}
}

type bound[T, C, A any] struct {
	updater Updater[T, C]
	change  func(A) C
}

// DB returns the DB of the updater that is bound, or nil if it tells none.
func (b bound[T, C, A]) DB() *DB {
	if u, ok := b.updater.(interface{ DB() *DB }); ok {
		return u.DB()
	}
	return nil
}

// Table returns the table of the updater that is bound, or "" if it tells none.
func (b bound[T, C, A]) Table() string {
	if u, ok := b.updater.(interface{ Table() string }); ok {
		return u.Table()
	}
	return ""
}

// Err returns what is wrong with the updater that is bound.
func (b bound[T, C, A]) Err() error {
	if u, ok := b.updater.(interface{ Err() error }); ok {
		return u.Err()
	}
	return nil
}

func (b bound[T, C, A]) Update(ctx context.Context, key any, argument A) (T, error) {
	return b.updater.Update(ctx, key, b.change(argument))
}
