package verdicts_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A server that crashes before COMMIT has applied nothing. Of a COMMIT that was handed over it is not known.
func TestCrash(t *testing.T) {
	for _, names := range [][]string{onPostgres, onMariaDB} {
		server := databases.Server(t, databases.Named(names[0]).Kind)
		for _, name := range names {
			t.Run(name, func(t *testing.T) { crash(t, server, databases.Named(name).At(server.DSN(""))) })
		}
	}
}

func crash(t *testing.T, server *servers.Server, d databases.Database) {
	w := world.New(t, d, databases.Options{})
	restart := func() {
		t.Helper()
		require.NoError(t, server.Restart())
		for w.Look.Ping() != nil { // its connections are dead as well
			require.NoError(t, minute(t).Err())
		}
	}
	for _, p := range w.Patterns() {
		_, err := p.Update(minute(t), 7, world.Award(1)) // a connection that may be dead already
		if err != nil {
			_, err = p.Update(minute(t), 7, world.Award(1))
		}
		require.NoError(t, err)
		w.Reset()
		err = w.DB.Transact(minute(t), func(ctx context.Context) error {
			_, err := p.Update(ctx, 7, world.Award(1))
			require.NoError(t, err)
			require.NoError(t, server.Kill())
			_, err = p.Update(ctx, 8, world.Award(1))
			assert.Error(t, err)
			return nil // swallowed
		})
		require.Error(t, err, p.Name)
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, "%s: %v", p.Name, err)
		restart()
		w.Unchanged(p.Name)
		verdict(t, w, first(t, p), true, p.Name+", first on a restarted server")
		w.Reset()

		last := world.IsCommit
		if alone(w, p) {
			last = world.IsWrite
		}
		rule := w.Proxy.On(last, 1, faultproxy.Withhold())
		done := make(chan error, 1)
		go func() {
			_, err := p.Update(minute(t), 7, world.Award(1))
			done <- err
		}()
		<-rule.Answered()
		require.NoError(t, server.Kill())
		rule.Lose()
		assert.ErrorIs(t, <-done, raceproof.ErrCommitUnknown, p.Name)
		restart()
		assert.Equal(t, world.Player{ID: 7, Name: "Ada", Score: 2, Version: 1}, w.Row(7), "%s: it had been committed", p.Name)
		w.Reset()
	}

	// One that does not even greet holds nobody either.
	var latest latest
	w.Pool.SetMaxIdleConns(0)
	w.Idle(w.Pool)
	for _, p := range w.Patterns() {
		require.NoError(t, server.Pause())
		ctx, cancel := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, errCause)
		err := latest.call(t, ctx, w, p.Name, func() { _ = server.Continue() }, func(ctx context.Context) error {
			_, err := p.Update(ctx, 7, world.Award(1))
			return err
		})
		cancel()
		require.NoError(t, server.Continue())
		assert.ErrorIs(t, err, errCause, p.Name)
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.Name)
		verdict(t, w, err, true, p.Name)
		w.Reset()
	}
	t.Log(&latest)
	if d.Kind == servers.MariaDB {
		readOnly(t, w, d)
	}
	w.Idle(w.Pool)
}

// first makes an update, whatever becomes of it.
func first(t *testing.T, p world.Pattern) error {
	_, err := p.Update(minute(t), 7, world.Award(1))
	return err
}

// readOnly makes the whole server read only, which binds only users without a certain privilege.
func readOnly(t *testing.T, w *world.World, d databases.Database) {
	for _, statement := range []string{`CREATE USER reader IDENTIFIED BY 'secret'`, `GRANT SELECT, UPDATE ON players TO reader`, `SET GLOBAL read_only = ON`} {
		w.Look.MustExec(statement)
	}
	db, err := raceproof.New(w.As("reader", "secret", databases.Options{Address: w.Proxy.Addr()}))
	require.NoError(t, err)
	defer db.Close()
	for _, p := range w.PatternsOf(db) {
		w.Calls.Store(0)
		writes := w.Sent(world.IsWrite)
		_, err := p.Update(minute(t), 7, world.Award(1))
		assert.Equal(t, "1290", saw(d, err), "%s: %v", p.Name, err)
		assert.True(t, w.Dialect.Refused(err))
		assert.False(t, w.Dialect.EndsTransaction(err))
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.Name)
		assert.ErrorContains(t, err, "players", p.Name)
		assert.LessOrEqual(t, writes(), 1, p.Name) // lock is refused when it locks
		assert.LessOrEqual(t, w.Calls.Load(), int64(1), p.Name)
		w.Unchanged(p.Name)
	}
	w.Look.MustExec(`SET GLOBAL read_only = OFF`)
}
