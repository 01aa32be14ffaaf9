package verdicts_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// An error that a caller has swallowed leaves PostgreSQL a transaction that a COMMIT would roll back without a word.
func TestSwallowedErrors(t *testing.T) {
	each(t, onPostgres, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		for name, f := range map[string]func(context.Context){
			"of a statement": func(ctx context.Context) {
				_, err := w.DB.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = -1`)
				require.Equal(t, "23514", codeOf(err))
				_, err = w.DB.Ext(ctx).ExecContext(ctx, writeBob)
				assert.Error(t, err)
			},
			"of a row": func(ctx context.Context) {
				_ = w.DB.Ext(ctx).QueryRowxContext(ctx, `SELECT 1 / level FROM players`).Scan(new(int64))
			},
			"of the second row": func(ctx context.Context) {
				rows, err := w.DB.Ext(ctx).QueryContext(ctx, `SELECT 1 / (n - 2) FROM generate_series(1, 2) n`)
				require.NoError(t, err, "it is the rows that have the error")
				require.True(t, rows.Next())
				_ = rows.Close()
			},
			"after which the context ends up aborted": func(ctx context.Context) {
				_, _ = w.DB.Ext(ctx).ExecContext(ctx, `SELECT nothing`)
				_, err := w.DB.Ext(ctx).ExecContext(ctx, writeBob)
				if code := saw(d, err); code != "" {
					assert.Contains(t, []string{"42703", "25P02"}, code)
				}
				assert.Error(t, w.DB.Transact(ctx, func(context.Context) error { return nil }))
			},
		} {
			err := w.DB.Transact(minute(t), func(ctx context.Context) error {
				_, err := w.Pattern("atomic").Update(ctx, 7, world.Award(1))
				require.NoError(t, err)
				f(ctx)
				return nil
			})
			require.Error(t, err, name)
			assert.NotEmpty(t, codeOf(err), "%s: the driver's own error: %v", name, err)
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, name)
			w.Unchanged(name)
		}
		w.Idle(w.Pool)
	})
}

// Who handles the error of a nested transaction can go on in the one around it.
func TestHandledErrors(t *testing.T) {
	each(t, append(onServers, onSQLite...), func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		for _, p := range w.Patterns() {
			for _, swallows := range []bool{false, true} {
				err := w.DB.Transact(minute(t), func(ctx context.Context) error {
					_, err := p.Update(ctx, 8, world.Award(1))
					require.NoError(t, err)
					_, err = p.Update(ctx, 7, world.Rename("Bob"))
					require.Error(t, err, p.Name)
					for _, missing := range w.PatternsIn(raceproof.MustTable[world.Player]("players_missing")) {
						_, err = missing.Update(ctx, 7, world.Award(1))
						require.Error(t, err, p.Name)
					}
					err = w.DB.Transact(ctx, func(ctx context.Context) error {
						_, err := p.Update(ctx, 7, world.Award(10))
						require.NoError(t, err)
						_, err = w.DB.Ext(ctx).ExecContext(ctx, `UPDATE players SET name = 'Bob' WHERE id = 7`)
						require.Error(t, err)
						if swallows && w.Dialect.ErrorsAbort {
							return nil // what was done before the error is lost all the same
						}
						return err
					})
					require.Error(t, err, p.Name)
					_, err = p.Update(ctx, 8, world.Award(1))
					return err
				})
				require.NoError(t, err, p.Name)
				assert.Equal(t, world.Ada, w.Row(7), p.Name)
				assert.Equal(t, world.Player{ID: 8, Name: "Bob", Score: 3, Version: 2}, w.Row(8), p.Name)
				w.Reset()
			}
		}
		w.Idle(w.Pool)
	})
}

// What the database finds out only at COMMIT is the caller's error, and nothing is applied.
func TestDeferredConstraints(t *testing.T) {
	each(t, onPostgres, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		w.Look.MustExec(`ALTER TABLE players DROP CONSTRAINT players_name_key, ADD UNIQUE (name) DEFERRABLE INITIALLY DEFERRED`)
		w.Look.MustExec(`CREATE TABLE prizes (player BIGINT REFERENCES players DEFERRABLE INITIALLY DEFERRED)`)
		for _, p := range w.Patterns() {
			writes := w.Sent(world.IsWrite)
			_, err := p.Update(minute(t), 7, world.Rename("Bob"))
			assert.Equal(t, "23505", codeOf(err), "%s: %v", p.Name, err)
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.Name)
			assert.ErrorContains(t, err, "players", p.Name)
			assert.Equal(t, 1, writes(), p.Name)
			w.Unchanged(p.Name)

			err = w.DB.Transact(minute(t), func(ctx context.Context) error {
				_, err := p.Update(ctx, 7, world.Rename("Bob"))
				return err
			})
			assert.Equal(t, "23505", codeOf(err), "%s: %v", p.Name, err)
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.Name)
			w.Unchanged(p.Name)
		}
		err := w.DB.Transact(minute(t), func(ctx context.Context) error {
			_, err := w.DB.Ext(ctx).ExecContext(ctx, `INSERT INTO prizes VALUES (99)`)
			return err
		})
		assert.Equal(t, "23503", codeOf(err), err)
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
		w.Idle(w.Pool)
	})
}

// A context that has ended before COMMIT keeps it from being sent.
func TestContextEndsBeforeCommit(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		_, err := w.Pattern("lock").Update(minute(t), 7, world.Award(0)) // the table is known by now
		require.NoError(t, err)
		commits := w.Sent(world.IsCommit)
		check := func(err error) {
			t.Helper()
			assert.ErrorIs(t, err, context.Canceled)
			assert.ErrorIs(t, err, errCause)
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
			w.Unchanged()
		}
		for _, p := range w.Patterns() {
			ctx, cancel := context.WithCancelCause(minute(t))
			check(w.DB.Transact(ctx, func(ctx context.Context) error {
				_, err := p.Update(ctx, 7, world.Award(1))
				cancel(errCause)
				return err
			}))
			if p.Name != "atomic" {
				ctx, cancel := context.WithCancelCause(minute(t))
				_, err := p.Update(ctx, 7, world.Change{Func: func(_ context.Context, p *world.Player) error {
					p.Score++
					cancel(errCause)
					return nil
				}})
				check(err)
			}
			ctx, cancel = context.WithCancelCause(minute(t))
			cancel(errCause)
			_, err := p.Update(ctx, 7, world.Award(1))
			check(err)
		}
		assert.Zero(t, commits())
		w.Idle(w.Pool)
	})
}

// So does one that ends while the server waits for a lock, whatever the server or the driver then says.
func TestContextEndsWhileWaiting(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		for _, p := range w.Patterns() {
			for _, inside := range []bool{false, true} {
				_, rollback := w.Hold(7)
				ctx, cancel := context.WithCancelCause(minute(t))
				done := make(chan error, 1)
				update := func(ctx context.Context) error {
					_, err := p.Update(ctx, 7, world.Award(1))
					return err
				}
				go func() {
					if inside {
						done <- w.DB.Transact(ctx, update)
					} else {
						done <- update(ctx)
					}
				}()
				w.Waiting()
				cancel(errCause)
				err := <-done
				rollback()
				assert.ErrorIs(t, err, context.Canceled, p.Name)
				assert.ErrorIs(t, err, errCause, p.Name)
				if inside || !alone(w, p) {
					assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.Name)
				}
				verdict(t, w, err, true, p.Name)
				w.Reset()
			}
		}
		w.Idle(w.Pool)
	})
}

// The answer to a write that is a transaction of its own is waited for a little longer than the context.
func TestGrace(t *testing.T) {
	each(t, onPostgres[:1], func(t *testing.T, d databases.Database) { // lib/pq cancels at once
		w := world.New(t, d, databases.Options{})
		for _, p := range w.Patterns()[1:] {
			_, err := p.Update(minute(t), 7, world.Award(1))
			require.NoError(t, err)
			world.Until(t, p.Name+" is told in time", func() bool { // on a machine that stalls it is not
				w.Reset()
				rule := w.Proxy.On(world.IsWrite, 1, faultproxy.Withhold())
				ctx, cancel := context.WithCancel(minute(t))
				go func() {
					<-rule.Answered()
					cancel()
					time.AfterFunc(time.Millisecond, rule.Release)
				}()
				_, err := p.Update(ctx, 7, world.Award(1))
				verdict(t, w, err, true, p.Name)
				assert.Equal(t, int64(2), w.Row(7).Score)
				return err == nil
			})
		}
		w.Idle(w.Pool)
	})
}
