package raceproof_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/testdb"
	"github.com/raceproof/raceproof/optimistic"
)

// Functions are called in the order in which they were given, also if some are given to the level around the one that is
// open: by an object that has kept its context, for example.
func TestHooksOfSeveralLevels(t *testing.T) {
	mine := errors.New("the function's own error")
	for name, c := range map[string]struct {
		inner, outer error
		want         []string
	}{
		"committed":             {nil, nil, []string{"1 committed", "2 committed", "3 committed", "4 committed", "5 committed"}},
		"rolled back":           {nil, mine, []string{"1 rolled back", "2 rolled back", "3 rolled back", "4 rolled back", "5 rolled back"}},
		"the inner rolled back": {mine, nil, []string{"2 rolled back", "3 rolled back", "4 rolled back", "1 committed", "5 committed"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, db := testdb.SQLite(t, playersSchema, ada)
			var n notes
			give := func(ctx context.Context, text string) {
				assert.NoError(t, db.AfterCommit(ctx, n.add(text+" committed")))
				assert.NoError(t, db.AfterRollback(ctx, n.add(text+" rolled back")))
			}
			err := db.Transact(t.Context(), func(outer context.Context) error {
				err := db.Transact(outer, func(inner context.Context) error {
					if c.inner == nil {
						give(inner, "1")
					} else {
						give(outer, "1")
					}
					assert.NoError(t, db.Transact(inner, func(innermost context.Context) error {
						give(innermost, "2")
						give(inner, "3")
						give(innermost, "4")
						return nil
					}))
					give(outer, "5")
					return c.inner
				})
				assert.Equal(t, c.inner, err)
				return c.outer
			})
			assert.Equal(t, c.outer, err)
			assert.Equal(t, c.want, n.take())
		})
	}
}

// What was given to AfterCommit by the function of an optimistic update outside of a transaction is called also if something
// called before it panics, as the row is written.
func TestHooksOfUpdatePanic(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	var n notes
	assert.PanicsWithValue(t, "the first", func() {
		_, _ = optimistic.New(db, players, nil).Update(t.Context(), 7, func(ctx context.Context, p *Player) error {
			p.Score++
			assert.NoError(t, db.AfterCommit(ctx, func(context.Context) { panic("the first") }))
			assert.NoError(t, db.AfterCommit(ctx, n.add("the second")))
			return nil
		})
	})
	assert.Equal(t, []string{"the second"}, n.take())
	wantPlayer(t, pool, Player{7, "Ada", 1, 1})
}

// An optimistic update in the function of another one is written for good before that returns, if there is no transaction
// around them: what becomes of the outer one does not matter to it.
func TestHooksOfUpdateInUpdate(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada, `INSERT INTO players VALUES (8, 'Bob', 0, 0)`)
	u := optimistic.New(db, players, nil)
	mine := errors.New("the function's own error")
	var n notes
	give := func(ctx context.Context, text string) {
		assert.NoError(t, db.AfterCommit(ctx, n.add(text+" committed")))
		assert.NoError(t, db.AfterRollback(ctx, n.add(text+" rolled back")))
	}
	_, err := u.Update(t.Context(), 7, func(ctx context.Context, p *Player) error {
		p.Score++
		give(ctx, "outer")
		_, err := u.Update(ctx, 8, func(ctx context.Context, p *Player) error {
			p.Score++
			give(ctx, "inner")
			return nil
		})
		assert.NoError(t, err)
		assert.Equal(t, []string{"inner committed"}, n.take())
		return mine
	})
	assert.Equal(t, mine, err)
	assert.Equal(t, []string{"outer rolled back"}, n.take())
	wantPlayer(t, pool, Player{7, "Ada", 0, 0})
	wantPlayer(t, pool, Player{8, "Bob", 1, 1})
}

// That something is not known somewhere else does not make it unknown that nothing was written here.
func TestHooksWhenElsewhereIsUnknown(t *testing.T) {
	pool, db := testdb.SQLite(t, playersSchema, ada)
	unknown := fmt.Errorf("another database: %w", raceproof.ErrCommitUnknown)
	for name, call := range map[string]func(func(context.Context) error) error{
		"optimistic": func(f func(context.Context) error) error {
			_, err := optimistic.New(db, players, nil).Update(t.Context(), 7, func(ctx context.Context, p *Player) error {
				p.Score++
				return f(ctx)
			})
			return err
		},
		"Transact": func(f func(context.Context) error) error { return db.Transact(t.Context(), f) },
	} {
		var n notes
		err := call(func(ctx context.Context) error {
			assert.NoError(t, db.AfterCommit(ctx, n.add("committed")))
			assert.NoError(t, db.AfterRollback(ctx, n.add("rolled back")))
			return unknown
		})
		assert.ErrorIs(t, err, unknown, name)
		assert.Equal(t, []string{"rolled back"}, n.take(), name)
	}
	wantPlayer(t, pool, Player{7, "Ada", 0, 0})
}

// The function of an optimistic update has a place among the levels of the transaction around it, and so have those in it.
func TestHooksOfUpdateAmongLevels(t *testing.T) {
	_, db := testdb.SQLite(t, playersSchema, ada)
	mine := errors.New("the function's own error")
	for _, result := range []error{nil, mine} {
		var n notes
		give := func(ctx context.Context, text string) {
			assert.NoError(t, db.AfterCommit(ctx, n.add(text+" committed")))
			assert.NoError(t, db.AfterRollback(ctx, n.add(text+" rolled back")))
		}
		assert.Equal(t, result, db.Transact(t.Context(), func(outer context.Context) error {
			give(outer, "1")
			_, err := optimistic.New(db, players, nil).Update(outer, 7, func(ctx context.Context, p *Player) error {
				p.Score++
				give(ctx, "2")
				assert.NoError(t, db.Transact(ctx, func(inner context.Context) error {
					give(inner, "3")
					give(ctx, "4")
					return nil
				}))
				give(ctx, "5")
				return nil
			})
			assert.NoError(t, err)
			give(outer, "6")
			return result
		}))
		how := map[bool]string{true: " committed", false: " rolled back"}[result == nil]
		assert.Equal(t, []string{"1" + how, "2" + how, "3" + how, "4" + how, "5" + how, "6" + how}, n.take())
	}
}
