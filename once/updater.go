package once

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/mapping"
	"github.com/raceproof/raceproof/internal/row"
)

// An Updater makes each update of another updater exactly once. It is safe for concurrent use.
type Updater[T, C any] struct {
	updater raceproof.Updater[T, C]
	db      *raceproof.DB
	of      string           // the table, or else T
	columns *mapping.Mapping // of T, nil if it is laid over no table
	err     error
}

var _ raceproof.Updater[struct{}, int] = (*Updater[struct{}, int])(nil)

// Wrap returns an updater that does what u does, exactly once per key (see [WithKey]) and, where the caller gives none, per
// call: an update whose COMMIT's answer is lost is resolved as [Do] does it. The table that CreateTable makes must be there.
//
// u is an updater of this module, one made of it by raceproof.Bind, or any other that has a method DB() *raceproof.DB and
// takes part in the transaction of that which its context carries. What is wrong with it is reported by Err, and by every
// Update.
func Wrap[T, C any](u raceproof.Updater[T, C]) *Updater[T, C] {
	w := &Updater[T, C]{updater: u}
	if v := reflect.ValueOf(u); u == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		w.err = errors.New("once: Wrap: the updater is nil")
		return w
	}
	if checked, ok := u.(interface{ Err() error }); ok && checked.Err() != nil {
		w.err = fmt.Errorf("once: Wrap: %w", checked.Err())
		return w
	}
	if of, ok := u.(interface{ DB() *raceproof.DB }); ok {
		w.db = of.DB()
	}
	w.of = reflect.TypeFor[T]().String()
	if of, ok := u.(interface{ Table() string }); ok && of.Table() != "" {
		w.of = of.Table()
	}
	if w.db == nil {
		w.err = fmt.Errorf("once: Wrap: %T does not tell its DB: it needs a method DB() *raceproof.DB", u)
	}
	// Whatever T is a row of; if it is none, its updater has found that out.
	w.columns, _ = mapping.New(reflect.TypeFor[T](), "t", mapping.Options{NoVersion: true})
	if w.columns == nil {
		w.columns, _ = mapping.New(reflect.TypeFor[T](), "t", mapping.Options{})
	}
	return w
}

// Err returns what was wrong with the updater that was wrapped.
func (u *Updater[T, C]) Err() error { return u.err }

// DB returns the DB of the updater that was wrapped.
func (u *Updater[T, C]) DB() *raceproof.DB { return u.db }

// Table returns the name of the table of the updater that was wrapped, or "" if it tells none.
func (u *Updater[T, C]) Table() string {
	if of, ok := u.updater.(interface{ Table() string }); ok && u.err == nil {
		return of.Table()
	}
	return ""
}

// Grouping is for package serial, which alone can name its type. Each update is made by the updater itself; with a key that
// the context is given before it is known who makes it, it can be made again if a COMMIT's answer is lost.
func (u *Updater[T, C]) Grouping() (*row.Grouping[T, C], error) {
	return &row.Grouping[T, C]{Once: func(ctx context.Context) (update, hooks context.Context, doubt *row.Doubt) {
		ours := &given{doubt: &row.Doubt{}}
		if callers, _ := ctx.Value(keyOfContext{}).(*given); callers != nil {
			ours.key, hooks = callers.key, context.WithValue(ctx, keyOfContext{}, (*given)(nil))
		} else {
			ours.key, hooks = rand.Text(), ctx
		}
		return context.WithValue(ctx, keyOfContext{}, ours), hooks, ours.doubt
	}}, nil
}

type keyOfContext struct{}

// given is what comes with a context.
type given struct {
	key   string
	doubt *row.Doubt // of who has tried to make the update before; can be nil
}

// WithKey returns a context with which a wrapped updater's Update is made once for the key, whoever calls it, and however
// often, in any process: the first call makes the update, later ones return the row as it was after that. A key is for one
// update: give each that a request makes another one, or put them together into one Do. It is only for Update itself: the
// context that the change is given does not have it. See [Do] for what keys are.
func WithKey(ctx context.Context, key string) context.Context {
	return context.WithValue(ctx, keyOfContext{}, &given{key: key})
}

// Update makes the update, or returns the row as it was after the update that was made with the context's key.
//
// The table (or T, if the updater that was wrapped has no method Table() string), what the change is, the row's key, and the change itself if JSON can express it, are the payload of [Do]: with the
// context's key for another row, another kind of update, or an argument that is seen to be another, Update returns
// ErrKeyReused. An atomic.Change can be expressed; functions cannot, and are not compared: raceproof.Bind makes an updater of
// them whose arguments are.
//
// Without a key in the context, inside a transaction, Update is that of the updater that was wrapped: what is exactly once
// there is the transaction, or not.
//
// The errors are those of the updater that was wrapped and of Do. The row is stored as JSON; if a column would not come
// back as it is, because of a json tag for example, Update returns an error and nothing is changed.
func (u *Updater[T, C]) Update(ctx context.Context, key any, change C) (row T, err error) {
	if u.err != nil {
		return row, u.err
	}
	var ours string
	var opts []Option
	with, _ := ctx.Value(keyOfContext{}).(*given)
	switch {
	case with != nil:
		ours = with.key
		ctx = context.WithValue(ctx, keyOfContext{}, (*given)(nil))
		opts = append(opts, Payload(payloadOf(u.of, key, change)), func(o *options) { o.doubt = with.doubt })
	case u.db.Pool().InTransaction(ctx):
		return u.updater.Update(ctx, key, change)
	default:
		ours = rand.Text()
	}
	return Do(ctx, u.db, ours, func(ctx context.Context) (T, error) {
		row, err := u.updater.Update(ctx, key, change)
		if err == nil {
			err = u.survives(row)
		}
		return row, err
	}, opts...)
}

// payloadOf returns what is to be the same in every call with one key.
func payloadOf(of string, key, change any) any {
	payload := []any{of, key, fmt.Sprintf("%T", change)}
	if data, err := json.Marshal(change); err == nil {
		return append(payload, json.RawMessage(data))
	}
	return payload
}

// survives returns an error if a column of the row would be another after it was stored.
func (u *Updater[T, C]) survives(row T) error {
	if u.columns == nil {
		return nil
	}
	_, back, err := encode(row)
	if err != nil {
		return err
	}
	before, err := u.columns.Snapshot(reflect.ValueOf(&row).Elem())
	if err != nil {
		return err
	}
	changed, err := before.Changed(reflect.ValueOf(&back).Elem())
	for _, i := range changed {
		column := &u.columns.Columns[i]
		if !sameJSON(column.Field(reflect.ValueOf(&row).Elem()), column.Field(reflect.ValueOf(&back).Elem())) {
			return fmt.Errorf("once: column %q of %T is not the same when it was stored as JSON", column.Name, row)
		}
	}
	return err
}

// sameJSON tells whether two fields hold the same JSON, but for its spaces.
func sameJSON(a, b reflect.Value) bool {
	for _, v := range []*reflect.Value{&a, &b} {
		if v.Kind() == reflect.Pointer && !v.IsNil() {
			*v = v.Elem()
		}
		if v.Kind() != reflect.Slice || v.Type().Elem().Kind() != reflect.Uint8 {
			return false
		}
	}
	var compactA, compactB bytes.Buffer
	return json.Compact(&compactA, a.Bytes()) == nil && json.Compact(&compactB, b.Bytes()) == nil && bytes.Equal(compactA.Bytes(), compactB.Bytes())
}
