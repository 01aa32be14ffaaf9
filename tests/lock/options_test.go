package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// An asked is a choice of options, where it can be had: in the letters of postgres, mariadb and sqlite. many is where
// SelectWhere has it, if that is somewhere else; "" is nowhere, because it makes no sense there.
type asked struct {
	name               string
	o                  lock.Options
	update, key, many  string
	refusal            string // what the error says where it cannot be had
	nonsense, somewhat bool   // the error is not raceproof.ErrUnsupported, as no database has it; or only sometimes
}

const all = "pms"

var choices = []asked{
	{name: "nothing", update: all, key: all, many: all},
	{name: "NoWait", o: lock.Options{NoWait: true}, update: all, key: all, many: all},
	{name: "SkipLocked", o: lock.Options{SkipLocked: true}, update: "pm", key: "pm", many: "pm", refusal: "SkipLocked"},
	{name: "WaitAtMost", o: lock.Options{WaitAtMost: time.Second}, update: all, key: all, many: all},
	{name: "WaitAtMost a fraction", o: lock.Options{WaitAtMost: 1500 * time.Millisecond}, update: "ps", key: "ps", many: "ps", refusal: "whole seconds"},
	{name: "WaitAtMost a month", o: lock.Options{WaitAtMost: 31 * 24 * time.Hour}, refusal: "limit of 744h"},
	{name: "KeyShare", o: lock.Options{Strength: lock.KeyShare}, key: "p", many: "p", refusal: "KeyShare", somewhat: true},
	{name: "Share", o: lock.Options{Strength: lock.Share}, key: "pm", many: "pm", refusal: "Share", somewhat: true},
	{name: "NoKeyUpdate", o: lock.Options{Strength: lock.NoKeyUpdate}, update: "p", key: "p", many: "p", refusal: "NoKeyUpdate"},
	{name: "Update", o: lock.Options{Strength: lock.Update}, update: "pm", key: "pm", many: "pm", refusal: "Update"},
	{name: "Of", o: lock.Options{Of: []string{"players"}}, update: "p", key: "p", many: "p", refusal: "Of"},
	{name: "Of, Share, NoWait", o: lock.Options{Of: []string{"players"}, Strength: lock.Share, NoWait: true}, key: "p", many: "p", somewhat: true},
	{name: "UpdateFirst", o: lock.Options{UpdateFirst: true}, update: all, key: all, many: all},
	{name: "UpdateFirst, NoWait", o: lock.Options{UpdateFirst: true, NoWait: true}, update: "s", key: "s", many: "s", refusal: "WaitAtMost"},
	{name: "UpdateFirst, SkipLocked", o: lock.Options{UpdateFirst: true, SkipLocked: true}},
	{name: "UpdateFirst, WaitAtMost", o: lock.Options{UpdateFirst: true, WaitAtMost: time.Second}, update: all, key: all, many: all},
	{name: "Limit", o: lock.Options{Limit: 1}, many: all, refusal: "SelectWhere", somewhat: true},
	{name: "Limit, SkipLocked", o: lock.Options{Limit: 1, SkipLocked: true}, many: "pm", somewhat: true},
	{name: "MaxWaiting", o: lock.Options{MaxWaiting: 5}, update: all, refusal: "MaxWaiting", somewhat: true},

	{name: "NoWait, SkipLocked", o: lock.Options{NoWait: true, SkipLocked: true}, refusal: "only one", nonsense: true},
	{name: "NoWait, WaitAtMost", o: lock.Options{NoWait: true, WaitAtMost: time.Second}, refusal: "only one", nonsense: true},
	{name: "a negative WaitAtMost", o: lock.Options{WaitAtMost: -1}, refusal: "negative", nonsense: true},
	{name: "a Strength that is none", o: lock.Options{Strength: 5}, refusal: "Strength(5)", nonsense: true},
	{name: "a negative Strength", o: lock.Options{Strength: -1}, refusal: "Strength(-1)", nonsense: true},
	{name: "UpdateFirst, Strength", o: lock.Options{UpdateFirst: true, Strength: lock.Update}, refusal: "neither Strength nor Of", nonsense: true},
	{name: "UpdateFirst, Of", o: lock.Options{UpdateFirst: true, Of: []string{"players"}}, refusal: "neither Strength nor Of", nonsense: true},
	{name: "Of another table", o: lock.Options{Of: []string{"teams"}}, refusal: `"teams"`, nonsense: true},
	{name: "a negative Limit", o: lock.Options{Limit: -1}, refusal: "Limit", nonsense: true},
	{name: "a Limit beyond all", o: lock.Options{Limit: 1 << 31}, refusal: "Limit", nonsense: true},
	{name: "a negative MaxWaiting", o: lock.Options{MaxWaiting: -1}, refusal: "MaxWaiting", nonsense: true},
	{name: "a MaxWaiting beyond all", o: lock.Options{MaxWaiting: 1<<30 + 1}, refusal: "MaxWaiting", nonsense: true},
}

// can tells whether a choice can be had on a database.
func can(where string, w *world.World) bool {
	for _, letter := range where {
		if string(letter) == w.Database.Dialect[:1] {
			return true
		}
	}
	return false
}

// refused fails the test unless the error is that of a choice that cannot be had.
func (a asked) refused(t *testing.T, err error, about string) {
	t.Helper()
	require.Error(t, err, "%s: %s was dropped", a.name, about)
	assert.ErrorContains(t, err, a.refusal, "%s: %s", a.name, about)
	if !a.somewhat {
		assert.Equal(t, !a.nonsense, isUnsupported(err), "%s: %s: %v", a.name, about, err)
	}
}

// Every option is honoured or refused, and refused before anything is sent.
func TestOptions(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		warm(t, w)
		condition := atomic.F("id").Eq(7)
		for _, a := range choices {
			t.Run(a.name, func(t *testing.T) {
				u := lock.New(w.DB, world.Players, &a.o)
				calls := 0
				p, err := u.Update(minute(t), 7, func(_ context.Context, p *world.Player) error { calls++; p.Score++; return nil })
				if can(a.update, w) {
					require.NoError(t, u.Err())
					require.NoError(t, err)
					assert.Equal(t, w.Row(7), p)
				} else {
					a.refused(t, u.Err(), "New")
					assert.Equal(t, u.Err(), err)
					assert.Zero(t, calls)
				}
				assert.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
					p, err := lock.Select(ctx, w.DB, world.Players, 7, &a.o)
					if can(a.key, w) {
						require.NoError(t, err)
						assert.EqualValues(t, 7, p.ID)
					} else {
						a.refused(t, err, "Select")
					}
					rows, err := lock.SelectWhere(ctx, w.DB, world.Players, condition, &a.o)
					if can(a.many, w) {
						require.NoError(t, err)
						require.Len(t, rows, 1)
						assert.EqualValues(t, 7, rows[0].ID)
					} else {
						a.refused(t, err, "SelectWhere")
					}
					return exec(ctx, w, `UPDATE players SET level = 1 WHERE id = 7`)
				}), "the transaction goes on")
			})
		}
	})
}

// What is wrong with the other arguments.
func TestArguments(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		plain := raceproof.MustTable[struct {
			ID    int64 `db:"id"`
			Score int64 `db:"score"`
		}]("players", raceproof.WithoutVersion())
		first := lock.New(w.DB, plain, &lock.Options{UpdateFirst: true})
		assert.ErrorIs(t, first.Err(), raceproof.ErrUnsupported, "there is no version to raise")
		assert.ErrorContains(t, first.Err(), "version")
		assert.Error(t, lock.New(nil, world.Players, nil).Err())
		assert.Error(t, lock.New[world.Player](w.DB, nil, nil).Err())
		_, err := lock.Select(minute(t), w.DB, world.Players, 7, nil)
		assert.ErrorIs(t, err, raceproof.ErrNoTransaction)
		_, err = lock.SelectWhere(minute(t), w.DB, world.Players, atomic.F("id").Eq(7), nil)
		assert.ErrorIs(t, err, raceproof.ErrNoTransaction)
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			_, err := lock.Select(ctx, w.DB, plain, 7, &lock.Options{UpdateFirst: true})
			assert.ErrorIs(t, err, raceproof.ErrUnsupported)
			_, err = lock.Select(ctx, w.DB, world.Players, 99, nil)
			assert.ErrorIs(t, err, raceproof.ErrNotFound)
			_, err = lock.Select(ctx, w.DB, world.Players, 99, &lock.Options{UpdateFirst: true})
			assert.ErrorIs(t, err, raceproof.ErrNotFound)
			_, err = lock.Select(ctx, w.DB, world.Players, "7", nil)
			assert.ErrorContains(t, err, "key")
			_, err = lock.SelectWhere(ctx, w.DB, world.Players, nil, nil)
			assert.ErrorContains(t, err, "nil")
			_, err = lock.SelectWhere(ctx, w.DB, world.Players, atomic.F("height").Eq(7), nil)
			assert.ErrorContains(t, err, "height")
			rows, err := lock.SelectWhere(ctx, w.DB, world.Players, atomic.F("id").Gt(6), nil)
			assert.NoError(t, err)
			assert.Equal(t, []world.Player{world.Ada, world.Bob}, rows)
			rows, err = lock.SelectWhere(ctx, w.DB, world.Players, atomic.F("id").Gt(60), nil)
			assert.NoError(t, err)
			assert.Empty(t, rows)
			return exec(ctx, w, `UPDATE players SET level = 1 WHERE id = 7`)
		}))
		assert.EqualValues(t, 1, w.Row(7).Level, "none of it kept the transaction from going on")
		require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
			_, err := lock.Select(ctx, w.DB, world.Players, 7, nil)
			assert.ErrorIs(t, err, raceproof.ErrUnsupported)
			_, err = lock.SelectWhere(ctx, w.DB, world.Players, atomic.F("id").Eq(7), nil)
			assert.ErrorIs(t, err, raceproof.ErrUnsupported)
			return nil
		}, raceproof.ReadOnly()))
	})
}
