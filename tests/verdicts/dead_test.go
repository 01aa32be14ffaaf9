package verdicts_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// dead fails the test unless a context's transaction is over for whoever uses it.
func dead(t *testing.T, ctx context.Context, w *world.World) {
	t.Helper()
	_, err := w.DB.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 1000`)
	assert.ErrorIs(t, err, raceproof.ErrFinished)
	rows, err := w.DB.Ext(ctx).QueryContext(ctx, readAda)
	assert.ErrorIs(t, err, raceproof.ErrFinished)
	if err == nil {
		assert.NoError(t, rows.Close())
	}
	assert.ErrorIs(t, w.DB.Ext(ctx).QueryRowxContext(ctx, readAda).Err(), raceproof.ErrFinished)
	for _, p := range w.Patterns() {
		_, err := p.Update(ctx, 8, world.Award(1000))
		assert.ErrorIs(t, err, raceproof.ErrFinished, p.Name)
	}
	assert.ErrorIs(t, w.DB.Transact(ctx, func(context.Context) error { return nil }), raceproof.ErrFinished)
}

// victim makes the context's transaction, which has changed Ada, the victim of a deadlock by what do sends for Bob.
func victim(t *testing.T, w *world.World, do func() error) error {
	t.Helper()
	return deadlocked(&stage{t, w}, do)
}

// A transaction that MariaDB has ended is dead, whoever has seen the error: nothing is committed statement by statement.
func TestDeadTransactions(t *testing.T) {
	ends := map[string]func(*testing.T, context.Context, *world.World){
		"1213": func(t *testing.T, ctx context.Context, w *world.World) {
			assert.Equal(t, "1213", codeOf(victim(t, w, func() error {
				_, err := w.DB.Ext(ctx).ExecContext(ctx, writeBob)
				return err
			})))
		},
		"1213 in an updater": func(t *testing.T, ctx context.Context, w *world.World) {
			err := victim(t, w, func() error {
				_, err := w.Pattern("lock").Update(ctx, 8, world.Award(1))
				return err
			})
			assert.Equal(t, "1213", codeOf(err))
			assert.ErrorIs(t, err, raceproof.ErrConflict)
		},
		"1213 in rows": func(t *testing.T, ctx context.Context, w *world.World) {
			assert.Equal(t, "1213", codeOf(victim(t, w, func() error {
				rows, err := w.DB.Ext(ctx).QueryContext(ctx, `SELECT id FROM players ORDER BY id FOR UPDATE`)
				require.NoError(t, err, "it is the rows that have the error")
				defer func() { _ = rows.Close() }()
				require.True(t, rows.Next())
				require.False(t, rows.Next())
				return rows.Err()
			})))
		},
		"1213 in rows that nobody has looked at": func(t *testing.T, ctx context.Context, w *world.World) {
			assert.NoError(t, victim(t, w, func() error {
				rows, err := w.DB.Ext(ctx).QueryContext(ctx, `SELECT id FROM players ORDER BY id FOR UPDATE`)
				require.NoError(t, err)
				_ = rows.Close()
				return nil
			}))
		},
		"1213 in a nested transaction that swallows it": func(t *testing.T, ctx context.Context, w *world.World) {
			assert.ErrorIs(t, w.DB.Transact(ctx, func(ctx context.Context) error {
				_ = victim(t, w, func() error {
					_, err := w.DB.Ext(ctx).ExecContext(ctx, writeBob)
					return err
				})
				dead(t, ctx, w)
				return nil
			}), raceproof.ErrFinished)
		},
		"1213 in the rows of a nested transaction": func(t *testing.T, ctx context.Context, w *world.World) {
			assert.Error(t, w.DB.Transact(ctx, func(ctx context.Context) error {
				return victim(t, w, func() error {
					rows, err := w.DB.Ext(ctx).QueryContext(ctx, `SELECT id FROM players ORDER BY id FOR UPDATE`)
					require.NoError(t, err)
					_ = rows.Close()
					return errors.New("something else")
				})
			}))
		},
		"1020": func(t *testing.T, ctx context.Context, w *world.World) {
			var n int64
			require.NoError(t, w.DB.Ext(ctx).QueryRowxContext(ctx, `SELECT score FROM players WHERE id = 8`).Scan(&n))
			w.Look.MustExec(`UPDATE players SET level = level + 1 WHERE id = 8`)
			defer w.Look.MustExec(`UPDATE players SET level = level - 1 WHERE id = 8`)
			_, err := w.Pattern("atomic").Update(ctx, 8, world.Award(1))
			assert.Equal(t, "1020", codeOf(err))
			assert.ErrorIs(t, err, raceproof.ErrConflict)
		},
	}
	each(t, onMariaDB, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, parameter(d, "", "innodb_snapshot_isolation", "ON"))
		for name, end := range ends {
			t.Run(name, func(t *testing.T) {
				for _, own := range []error{nil, errors.New("the function's own error")} {
					commits := w.Sent(world.IsCommit)
					err := w.DB.Transact(minute(t), func(ctx context.Context) error {
						_, err := w.Pattern("atomic").Update(ctx, 7, world.Award(1))
						require.NoError(t, err)
						end(t, ctx, w)
						dead(t, ctx, w)
						return own
					}, oneAttempt)
					if own == nil {
						assert.ErrorIs(t, err, raceproof.ErrFinished)
					} else {
						assert.ErrorIs(t, err, own)
					}
					assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
					assert.Zero(t, commits())
					w.Unchanged()
				}
			})
		}
		w.Idle(w.Pool)
	})
}

// A COMMIT of the caller's own is not sent, and the transaction is over.
func TestLeftToTransact(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		for _, statement := range []string{`COMMIT`, `commit work`, ` ROLLBACK`, `COMMIT AND CHAIN`, `BEGIN`, `START TRANSACTION`, `END`, `ABORT`} {
			w := world.New(t, d, databases.Options{})
			err := w.DB.Transact(minute(t), func(ctx context.Context) error {
				_, err := w.Pattern("atomic").Update(ctx, 7, world.Award(1))
				require.NoError(t, err)
				_, err = w.DB.Ext(ctx).ExecContext(ctx, statement)
				assert.ErrorIs(t, err, raceproof.ErrFinished, statement)
				_, err = w.Pattern("atomic").Update(ctx, 8, world.Award(1))
				assert.ErrorIs(t, err, raceproof.ErrFinished, statement)
				return nil
			})
			assert.ErrorIs(t, err, raceproof.ErrFinished, statement)
			w.Unchanged()
		}
	})
}

// What a caller has committed behind Transact's back is committed; Transact says so, and nothing follows it.
func TestEndedByTheCaller(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		var statements []string
		if d.Name == "mariadb/mysql" {
			statements = append(statements, `CREATE TABLE made (n BIGINT)`, `ALTER TABLE made ADD m BIGINT`, `DROP TABLE made`,
				`TRUNCATE TABLE emptied`, `/* a comment */ COMMIT`)
		} else {
			statements = append(statements, `-- a comment
				COMMIT`, `SELECT 1; COMMIT`)
		}
		for _, statement := range statements {
			for _, query := range []bool{false, true} {
				w := world.New(t, d, databases.Options{})
				w.Look.MustExec(`CREATE TABLE emptied (n BIGINT)`)
				w.Look.MustExec(`CREATE TABLE IF NOT EXISTS made (n BIGINT)`)
				if statement == `CREATE TABLE made (n BIGINT)` {
					w.Look.MustExec(`DROP TABLE made`)
				}
				committed := world.Ada
				err := w.DB.Transact(minute(t), func(ctx context.Context) error {
					_, err := w.Pattern("atomic").Update(ctx, 7, world.Award(1))
					require.NoError(t, err)
					if query {
						rows, err := w.DB.Ext(ctx).QueryContext(ctx, statement)
						if err == nil {
							_ = rows.Close()
						}
					} else {
						_, _ = w.DB.Ext(ctx).ExecContext(ctx, statement)
					}
					committed = w.Row(7) // would wait if the transaction were still there
					_, err = w.Pattern("atomic").Update(ctx, 8, world.Award(1))
					assert.Error(t, err, statement)
					return nil
				})
				assert.Error(t, err, statement)
				assert.Equal(t, committed, w.Row(7), statement)
				assert.Equal(t, world.Bob, w.Row(8), statement)
			}
		}
	})
}
