package verdicts_test

import (
	"context"
	"errors"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// minute bounds what must not hang.
func minute(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// parameter returns the one of a driver's parameters that is for the database.
func parameter(d databases.Database, postgres, mariadb, value string) databases.Options {
	if d.Kind == servers.MariaDB {
		return databases.Options{Parameters: url.Values{mariadb: {value}}}
	}
	return databases.Options{Parameters: url.Values{postgres: {value}}}
}

// alone tells whether the write of a pattern is a transaction of its own.
func alone(w *world.World, p world.Pattern) bool {
	return w.Kind == servers.Postgres && p.Name != "lock"
}

// What the row was changed by under the snapshot of an updater's transaction is a conflict, and tried again.
func TestSerializationFailureIsRetried(t *testing.T) {
	each(t, onPostgres, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{Isolation: "repeatable read"})
		for _, p := range w.Patterns() {
			commit, _ := w.Hold(7)
			writes, locks := w.Sent(world.IsWrite), w.Sent(world.IsLock)
			done := make(chan error, 1)
			go func() {
				_, err := p.Update(minute(t), 7, world.Award(1))
				done <- err
			}()
			w.Waiting()
			commit()
			require.NoError(t, <-done, p.Name)
			assert.Equal(t, 2, max(writes(), locks()), "%s: what was refused is sent again", p.Name)
			assert.Equal(t, world.Player{ID: 7, Name: "Ada", Score: 102, Version: 2}, w.Row(7), p.Name)
			w.Reset()
		}
	})
}

// A COMMIT that is refused means that nothing was applied: the caller of Transact is told, an updater tries again.
func TestSerializationFailureAtCommit(t *testing.T) {
	each(t, onPostgres, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{Isolation: "serializable"})
		other := w.Fresh.Open(databases.Options{Isolation: "serializable"})
		w.Look.MustExec(`CREATE TABLE gauges (n BIGINT)`)
		w.Look.MustExec(`INSERT INTO gauges VALUES (0)`)
		// cross reads what another transaction writes, which has read what was written before in this one.
		cross := func(ctx context.Context) {
			var n int64
			require.NoError(t, w.DB.Ext(ctx).QueryRowxContext(ctx, `SELECT n FROM gauges`).Scan(&n))
			tx, err := other.Beginx()
			require.NoError(t, err)
			require.NoError(t, tx.Get(&n, `SELECT sum(score) FROM players`))
			_, err = tx.Exec(`UPDATE gauges SET n = n + 1`)
			require.NoError(t, err)
			require.NoError(t, tx.Commit())
		}
		for _, p := range w.Patterns() {
			err := w.DB.Transact(minute(t), func(ctx context.Context) error {
				_, err := p.Update(ctx, 7, world.Award(1))
				require.NoError(t, err)
				cross(ctx)
				return nil
			})
			assert.Equal(t, "40001", codeOf(err), "%s: %v", p.Name, err)
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.Name)
			assert.Equal(t, world.Ada, w.Row(7), p.Name)
			w.Reset()
		}
		commits := w.Sent(world.IsCommit)
		calls := 0
		_, err := w.Pattern("lock").Update(minute(t), 7, world.Change{Func: func(ctx context.Context, p *world.Player) error {
			if calls++; calls > 1 {
				p.Score++
				return nil
			}
			_, err := w.DB.Ext(ctx).ExecContext(ctx, writeBob)
			cross(ctx)
			return err
		}})
		require.NoError(t, err)
		assert.Equal(t, 2, calls)
		assert.Equal(t, 1, commits(), "the row is read again behind what the function has sent, which is refused already")
		assert.Equal(t, world.Player{ID: 7, Name: "Ada", Score: 2, Version: 1}, w.Row(7))
		assert.Equal(t, world.Bob, w.Row(8))
		w.Idle(w.Pool)
	})
}

var errCause = errors.New("the caller has gone")

// A lock that cannot be had in time is an error of its own, and nothing is applied.
func TestLocked(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		_, impatient := w.Open(parameter(d, "lock_timeout", "innodb_lock_wait_timeout", "0"))
		if d.Kind == servers.Postgres {
			_, impatient = w.Open(parameter(d, "lock_timeout", "", "20ms"))
		}
		_, rollback := w.Hold(7)
		for _, p := range w.PatternsOf(impatient) {
			_, err := p.Update(context.Background(), 7, world.Award(1))
			assert.ErrorIs(t, err, raceproof.ErrLocked, p.Name)
			assert.Contains(t, []string{"55P03", "1205"}, saw(d, err), p.Name)
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.Name)
		}
		for _, p := range w.Patterns() {
			ctx, cancel := context.WithTimeoutCause(t.Context(), 60*time.Millisecond, errCause)
			_, err := p.Update(ctx, 7, world.Award(1))
			cancel()
			assert.ErrorIs(t, err, context.DeadlineExceeded, p.Name)
			assert.ErrorIs(t, err, errCause, p.Name)
			if d.Kind == servers.Postgres { // MariaDB counts seconds: the context ends before it says so
				assert.ErrorIs(t, err, raceproof.ErrLocked, p.Name)
			}
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.Name)
		}
		// What a caller's own statement was refused takes the whole transaction with it, if he returns the error.
		err := w.DB.Transact(t.Context(), func(ctx context.Context) error {
			_, err := w.Pattern("atomic").Update(ctx, 8, world.Award(1))
			require.NoError(t, err)
			_, err = w.DB.Ext(ctx).ExecContext(ctx, readAda+` FOR UPDATE NOWAIT`)
			return err
		})
		assert.Contains(t, []string{"55P03", "1205"}, codeOf(err), err)
		rollback()
		w.Unchanged()
		w.Idle(w.Pool)
	})
}

// Who is stopped while he waits has applied nothing. Of a write that is a transaction of its own it is not known.
func TestStopped(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		limit := "0.03"
		if d.Kind == servers.Postgres {
			limit = "30ms"
		}
		_, hasty := w.Open(parameter(d, "statement_timeout", "max_statement_time", limit))
		stop, codes := `KILL QUERY `, []string{"1969", "1317"}
		if d.Kind == servers.Postgres {
			stop, codes = `SELECT pg_cancel_backend`, []string{"57014", "57014"}
		}
		for i, p := range append(w.PatternsOf(hasty), w.Patterns()...) {
			_, rollback := w.Hold(7)
			begins := w.Sent(world.IsBegin)
			done := make(chan error, 1)
			go func() {
				_, err := p.Update(minute(t), 7, world.Award(1))
				done <- err
			}()
			if i >= 3 {
				w.Waiting()
				w.Stop(stop)
			}
			err := <-done
			rollback()
			assert.Equal(t, codes[i/3], saw(d, err), "%s: %v", p.Name, err)
			if !alone(w, p) {
				assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.Name)
			}
			assert.LessOrEqual(t, begins(), 1, "%s: not tried again", p.Name)
			w.Unchanged(p.Name)
		}
		w.Idle(w.Pool)
	})
}

// A connection that the server has closed loses what was not committed.
func TestTerminated(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		stop := `KILL `
		if d.Kind == servers.Postgres {
			stop = `SELECT pg_terminate_backend`
		}
		for _, p := range w.Patterns() {
			_, rollback := w.Hold(7)
			done := make(chan error, 1)
			go func() {
				_, err := p.Update(minute(t), 7, world.Award(1))
				done <- err
			}()
			w.Waiting()
			w.Stop(stop)
			err := <-done
			rollback()
			saw(d, err)
			require.Error(t, err, p.Name)
			if !alone(w, p) {
				assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, "%s: %v", p.Name, err)
			}
			w.Unchanged(p.Name)

			err = w.DB.Transact(minute(t), func(ctx context.Context) error {
				_, err := p.Update(ctx, 7, world.Award(1))
				require.NoError(t, err)
				w.Kill(ctx, stop)
				_, err = w.DB.Ext(ctx).ExecContext(ctx, writeBob)
				assert.Error(t, err, p.Name)
				_, err = p.Update(ctx, 8, world.Award(1))
				assert.ErrorIs(t, err, raceproof.ErrFinished, p.Name)
				return nil // swallowed
			})
			require.Error(t, err, p.Name)
			assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, "%s: %v", p.Name, err)
			w.Unchanged(p.Name)
		}
		w.Idle(w.Pool)
		_, err := w.Pattern("lock").Update(minute(t), 7, world.Award(1))
		require.NoError(t, err)
	})
}
