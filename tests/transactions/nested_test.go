package transactions_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// An outcome is how the function of a level ends.
type outcome string

const (
	returns  outcome = "returns"
	fails    outcome = "fails"
	violates outcome = "violates" // returns the database's error
	panics   outcome = "panics"
)

var outcomes = []outcome{returns, fails, violates, panics}

// A level is a transaction or a savepoint, which adds to the score before and after those in it.
type level struct {
	before, after int64
	end           outcome
	inner         *level
}

// run runs the level, and holds what is told of its end against what that was.
func (l *level) run(t *testing.T, ctx context.Context, w *world.World) {
	t.Helper()
	var err error
	panicked := func() (value any) {
		defer func() { value = recover() }()
		err = w.DB.Transact(ctx, func(ctx context.Context) error {
			require.NoError(t, exec(ctx, w.DB, add(l.before, 7)))
			if l.inner != nil {
				l.inner.run(t, ctx, w)
			}
			require.NoError(t, exec(ctx, w.DB, add(l.after, 7)), "what happened inside leaves this usable")
			switch l.end {
			case fails:
				return errOwn
			case violates:
				return exec(ctx, w.DB, violate)
			case panics:
				panic(l)
			}
			return nil
		})
		return nil
	}()
	switch l.end {
	case returns:
		require.NoError(t, err)
	case fails:
		require.True(t, err == errOwn, "as it is, not wrapped: %v", err)
	case violates:
		require.Error(t, err)
		require.NotErrorIs(t, err, raceproof.ErrFinished)
		require.NotErrorIs(t, err, raceproof.ErrConflict)
	}
	if l.end == panics {
		require.Same(t, l, panicked)
	} else {
		require.Nil(t, panicked)
	}
}

// kept is what is there of the level's work when it is over.
func (l *level) kept() int64 {
	switch {
	case l == nil || l.end != returns:
		return 0
	default:
		return l.before + l.inner.kept() + l.after
	}
}

// Each level is kept or taken back by itself, in every combination of three, however those inside it end.
func TestLevels(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		w.Pool.SetMaxOpenConns(1) // that none is left behind shows at once
		for _, inner := range outcomes {
			for _, middle := range outcomes {
				for _, outer := range outcomes {
					l := &level{1, 10, outer, &level{100, 1000, middle, &level{10_000, 100_000, inner, nil}}}
					l.run(t, minute(t), w)
					scores(t, w, 1+l.kept(), 1, "%s in %s in %s", inner, middle, outer)
					w.Reset()
				}
			}
		}
	})
}

// One savepoint after the other at one level, each with a name that another one had.
func TestSavepointsInTurn(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		err := w.DB.Transact(minute(t), func(ctx context.Context) error {
			for i, points := range []int64{1, 10, 100, 1000} {
				err := w.DB.Transact(ctx, func(ctx context.Context) error {
					if err := exec(ctx, w.DB, add(points, 7)); err != nil || i%2 == 0 {
						return err
					}
					return errOwn
				})
				if i%2 == 1 {
					require.ErrorIs(t, err, errOwn)
				} else {
					require.NoError(t, err)
				}
			}
			return nil
		})
		require.NoError(t, err)
		scores(t, w, 1+1+100, 1)
	})
}

// While a nested function runs the context around it sends nothing; that is an error, and nothing worse.
func TestOnlyTheInnermostSends(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		err := w.DB.Transact(minute(t), func(outer context.Context) error {
			var left context.Context
			require.NoError(t, w.DB.Transact(outer, func(inner context.Context) error {
				left = inner
				assert.Error(t, exec(outer, w.DB, add(1000, 7)))
				assert.Error(t, w.DB.Transact(outer, func(context.Context) error { panic("called") }))
				return exec(inner, w.DB, writeAda)
			}))
			assert.ErrorIs(t, exec(left, w.DB, add(1000, 7)), raceproof.ErrFinished)
			return exec(outer, w.DB, writeBob)
		})
		require.NoError(t, err)
		scores(t, w, 2, 2)
	})
}

// Two DBs are strangers, also over one database and with one context: what one has locked the other waits for.
func TestStrangers(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		pool, other := w.Open(databases.Options{})
		theirs := w.PatternsOf(other)
		for _, p := range theirs { // the table is known by now
			_, err := p.Update(minute(t), 8, world.Award(0))
			require.NoError(t, err)
		}
		ctx := minute(t)
		assert.Same(t, w.Pool, w.DB.Ext(ctx))
		err := w.DB.Transact(ctx, func(ctx context.Context) error {
			assert.NotSame(t, w.Pool, w.DB.Ext(ctx))
			assert.Same(t, pool, other.Ext(ctx), "a transaction of another DB is none")
			_, err := w.Pattern("lock").Update(ctx, 7, world.Award(1))
			require.NoError(t, err)
			for _, p := range theirs {
				short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
				_, err := p.Update(short, 7, world.Award(10))
				cancel()
				assert.ErrorIs(t, err, context.DeadlineExceeded, p.Name)
				if w.Kind == "" {
					assert.ErrorIs(t, err, raceproof.ErrLocked, p.Name)
				}
			}
			// Where readers wait for nobody they do not see what is not committed.
			n, err := scoreOf(ctx, other, 7)
			require.NoError(t, err)
			assert.Equal(t, int64(1), n)
			return nil
		})
		require.NoError(t, err)
		scores(t, w, 2, 1)
		for _, p := range theirs {
			_, err := p.Update(minute(t), 7, world.Award(10))
			require.NoError(t, err, p.Name)
		}
		scores(t, w, 32, 1)
	})
}

// An option that only the outermost can honour is refused inside, and its function is not called.
func TestOutermostOnly(t *testing.T) {
	eachWorld(t, everywhere, func(t *testing.T, w *world.World) {
		for name, option := range map[string]raceproof.TransactOption{
			"Durable": raceproof.Durable(),
			"Retry":   raceproof.Retry(raceproof.RetryPolicy{}),
		} {
			never := func(context.Context) error { panic("called") }
			err := w.DB.Transact(minute(t), func(ctx context.Context) error {
				assert.ErrorIs(t, w.DB.Transact(ctx, never, option), raceproof.ErrNested, name)
				require.NoError(t, w.DB.Transact(ctx, func(ctx context.Context) error {
					assert.ErrorIs(t, w.DB.Transact(ctx, never, option), raceproof.ErrNested, name)
					return nil
				}))
				return exec(ctx, w.DB, writeAda) // nothing is the worse for it
			}, option)
			require.NoError(t, err, name)
			_, err = w.Pattern("lock").Update(minute(t), 7, world.Change{Func: func(ctx context.Context, p *world.Player) error {
				assert.ErrorIs(t, w.DB.Transact(ctx, never, option), raceproof.ErrNested, "%s, inside an updater", name)
				return nil
			}})
			require.NoError(t, err, name)
		}
		scores(t, w, 3, 1)
	})
}
