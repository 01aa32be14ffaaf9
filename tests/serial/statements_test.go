package serial_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// look reads a row through a context's transaction.
func look(ctx context.Context, t *testing.T, w *world.World, id int64) (r Tally) {
	t.Helper()
	require.NoError(t, sqlx.GetContext(ctx, w.DB.Ext(ctx), &r, w.Look.Rebind(`SELECT * FROM tallies WHERE id = ?`), id))
	return r
}

// of returns a call that makes a change of a row with a function.
func of(t *testing.T, p pattern[Tally], key int, f raceproof.Func[Tally]) func() {
	return func() {
		_, err := p.Update(minute(t), key, itself(f))
		assert.NoError(t, err)
	}
}

// What a function reads is what those before it have made of all rows; what it writes is what those after it find.
func TestFunctionsSeeEachOther(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		p := byLock(w, tallies)
		add := func(n int64) raceproof.Func[Tally] {
			return func(_ context.Context, r *Tally) error { r.N += n; return nil }
		}
		together(t, p,
			of(t, p, 1, add(5)),
			of(t, p, 2, add(7)),
			of(t, p, 1, func(ctx context.Context, r *Tally) error {
				assert.Equal(t, Tally{ID: 1, N: 5, Version: 1}, *r)
				assert.Equal(t, *r, look(ctx, t, w, 1), "its own row")
				assert.Equal(t, Tally{ID: 2, N: 7, Version: 1}, look(ctx, t, w, 2), "another row of the group")
				r.N++
				return nil
			}),
			of(t, p, 1, func(ctx context.Context, r *Tally) error {
				assert.Equal(t, Tally{ID: 1, N: 6, Version: 2}, *r)
				assert.NoError(t, send(ctx, w, `UPDATE tallies SET n = n + 100, version = version + 1 WHERE id = 2`))
				nested, err := p.Update(ctx, 3, itself(add(1000)))
				assert.Equal(t, Tally{ID: 3, N: 1000, Version: 1}, nested)
				return err
			}),
			of(t, p, 3, func(_ context.Context, r *Tally) error {
				assert.Equal(t, Tally{ID: 3, N: 1000, Version: 1}, *r)
				r.N++
				return nil
			}),
			of(t, p, 2, func(_ context.Context, r *Tally) error {
				assert.Equal(t, Tally{ID: 2, N: 107, Version: 2}, *r)
				r.N++
				return nil
			}),
			of(t, p, 1, add(1)))
		assert.Equal(t, Tally{ID: 1, N: 7, Version: 3}, tally(t, w, 1))
		assert.Equal(t, Tally{ID: 2, N: 108, Version: 3}, tally(t, w, 2))
		assert.Equal(t, Tally{ID: 3, N: 1001, Version: 2}, tally(t, w, 3))
	})
}

// A transaction inside a function that fails and is swallowed takes back what it has done, and no more.
func TestNestedIsSwallowed(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		p := byLock(w, tallies)
		add := func(_ context.Context, r *Tally) error { r.N++; return nil }
		together(t, p,
			of(t, p, 1, add),
			of(t, p, 1, func(ctx context.Context, r *Tally) error {
				r.N += 10
				assert.NoError(t, send(ctx, w, `UPDATE tallies SET n = n + 100 WHERE id = 3`))
				assert.ErrorIs(t, w.DB.Transact(ctx, func(ctx context.Context) error {
					_, err := p.Update(ctx, 2, itself(add))
					return errors.Join(err, send(ctx, w, `UPDATE tallies SET n = n + 1000 WHERE id = 3`), errOwn)
				}), errOwn)
				return nil
			}),
			of(t, p, 1, add))
		assert.Equal(t, Tally{ID: 1, N: 12, Version: 3}, tally(t, w, 1))
		assert.Equal(t, Tally{ID: 2}, tally(t, w, 2))
		assert.EqualValues(t, 100, tally(t, w, 3).N)
	})
}

// A function that changes its own row by a statement is told so, as by package lock, and nothing of it stays.
func TestOwnRowByStatement(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		p := byLock(w, tallies)
		own := itself(func(ctx context.Context, r *Tally) error {
			r.N++
			return send(ctx, w, `UPDATE tallies SET n = n + 100 WHERE id = 1`)
		})
		_, want := p.bare.Update(minute(t), 1, own)
		require.ErrorIs(t, want, raceproof.ErrConflict)
		add := func(_ context.Context, r *Tally) error { r.N++; return nil }
		serve(t, p,
			of(t, p, 1, add),
			func() {
				_, err := p.Update(minute(t), 1, own)
				assert.EqualError(t, err, want.Error())
				assert.ErrorIs(t, err, raceproof.ErrConflict)
			},
			of(t, p, 1, add))
		assert.Equal(t, Tally{ID: 1, N: 2, Version: 2}, tally(t, w, 1))
	})
}

// Rows that a function has forgotten to close are in nobody's way.
func TestForgottenRows(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		p := byLock(w, tallies)
		forgets := func(ctx context.Context, r *Tally) error {
			rows, err := w.DB.Ext(ctx).QueryxContext(ctx, `SELECT id FROM tallies`)
			if err == nil {
				assert.True(t, rows.Next())
			}
			r.N++
			return err
		}
		together(t, p, of(t, p, 1, forgets), of(t, p, 1, forgets), of(t, p, 2, forgets))
		assert.EqualValues(t, 2, tally(t, w, 1).N)
		assert.EqualValues(t, 1, tally(t, w, 2).N)
	})
}

// A statement that fails is its function's business. On PostgreSQL the transaction around it is not over either.
func TestStatementFails(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		p := byLock(w, tallies)
		add := func(_ context.Context, r *Tally) error { r.N++; return nil }
		together(t, p,
			of(t, p, 1, add),
			func() {
				_, err := p.Update(minute(t), 1, itself(func(ctx context.Context, r *Tally) error {
					r.N += 100
					return send(ctx, w, `UPDATE nowhere SET n = 1`)
				}))
				assert.ErrorContains(t, err, "nowhere")
			},
			of(t, p, 1, add))
		assert.Equal(t, Tally{ID: 1, N: 2, Version: 2}, tally(t, w, 1))
	})
}

// Inside a transaction an updater that serves groups is the one that is wrapped: what it does is rolled back with the rest.
func TestInsideTransact(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		for _, p := range patterns(w, tallies) {
			before := tally(t, w, 1)
			stats := p.Stats()
			assert.ErrorIs(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
				r, err := p.Update(ctx, 1, plus(1))
				assert.NoError(t, err, p.name)
				assert.Equal(t, before.N+1, r.N, p.name)
				return errOwn
			}), errOwn, p.name)
			assert.Equal(t, before, tally(t, w, 1), p.name)
			require.NoError(t, w.DB.Transact(minute(t), func(ctx context.Context) error {
				_, err := p.Update(ctx, 1, plus(1))
				return err
			}), p.name)
			assert.Equal(t, before.N+1, tally(t, w, 1).N, p.name)
			assert.Equal(t, stats, p.Stats(), "%s: it has not queued", p.name)
		}
	})
}
