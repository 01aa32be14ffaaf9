package once_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// told is a result that says when it is decoded.
type told struct{ Score int64 }

// onDecoding is called when a told is decoded. Only one test, which is not parallel, uses it.
var onDecoding func()

func (r *told) UnmarshalJSON(data []byte) error {
	onDecoding()
	type plain told
	return json.Unmarshal(data, (*plain)(r))
}

// killOthers ends every connection to the world's database but the one that it looks through.
func killOthers(t *testing.T, w *world.World) {
	w.Look.SetMaxOpenConns(1)
	others := ` FROM pg_stat_activity WHERE application_name = current_schema AND pid <> pg_backend_pid()`
	number, kill := `SELECT pid`, `SELECT pg_terminate_backend(%d)`
	if w.Kind == servers.MariaDB {
		others = ` FROM information_schema.processlist WHERE db = database() AND id <> connection_id()`
		number, kill = `SELECT id`, `KILL %d`
	}
	var ids []int64
	require.NoError(t, w.Look.Select(&ids, number+others))
	require.NotEmpty(t, ids)
	for _, id := range ids {
		_, err := w.Look.Exec(fmt.Sprintf(kill, id))
		require.NoError(t, err)
	}
	world.Until(t, "they are gone", func() bool {
		var n int
		require.NoError(t, w.Look.Get(&n, `SELECT count(*)`+others))
		return n == 0
	})
}

// Once the key was found it is known that the work is done: what becomes of the transaction that has only read it does not
// matter any more.
func TestFoundThenKilled(t *testing.T) {
	for _, c := range []struct {
		name string
		then *faultproxy.Action // with every later COMMIT; nil: the server ends the connection before that
	}{{"killed", nil}, {"dropped", ptr(faultproxy.Drop())}, {"cut", ptr(faultproxy.Cut())}} {
		t.Run(c.name, func(t *testing.T) {
			onAll(t, func(t *testing.T, w *world.World) {
				first := w.Proxy.On(world.IsCommit, 1, faultproxy.Drop())
				var later *faultproxy.Rule
				if c.then != nil {
					later = w.Proxy.On(world.IsCommit, 1<<30, *c.then)
				}
				killed := 0
				onDecoding = func() {
					if first.Fired() == 1 && c.then == nil && killed == 0 { // it is the stored one
						killed++
						killOthers(t, w)
					}
				}
				calls := 0
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				defer cancel()
				result, err := once.Do(ctx, w.DB, "a", func(ctx context.Context) (told, error) {
					calls++
					row, err := award(w, w.DB)(ctx)
					return told{row.Score}, err
				})
				require.NoError(t, err)
				assert.Equal(t, told{2}, result)
				assert.Equal(t, 1, calls)
				assert.Equal(t, int64(1), gained(w))
				assert.Equal(t, 1, first.Fired())
				if c.then == nil {
					assert.Equal(t, 1, killed)
				} else {
					assert.Equal(t, 1, later.Fired(), "it is not asked again")
				}
			}, onServers...)
		})
	}
}

func ptr[V any](v V) *V { return &v }

// When the key could be inserted, the COMMIT before can come no more: what the function then says is the last word, also if
// the context has ended meanwhile.
func TestResolvedButContextEnds(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		cut := w.Proxy.On(world.IsCommit, 1, faultproxy.Cut())
		ctx, cancel := context.WithCancelCause(minute(t))
		calls := 0
		var mine error
		_, err := once.Do(ctx, w.DB, "a", func(ctx context.Context) (world.Player, error) {
			row, err := award(w, w.DB)(ctx)
			if calls++; calls == 1 || err != nil {
				return row, err
			}
			cancel(errCause)
			mine = fmt.Errorf("%w: %w", errMine, ctx.Err())
			return row, mine
		})
		require.Equal(t, 1, cut.Fired())
		assert.Equal(t, 2, calls)
		require.ErrorIs(t, err, errMine)
		assert.True(t, err == mine, "it is as it was returned: %v", err)
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
		assert.Zero(t, gained(w))
		assert.False(t, taken(t, w, "a"))
	}, onServers...)
}

// Nothing can be found out through a DB that was closed. A context that never ends does not make that worth waiting for.
func TestClosedWhileUnknown(t *testing.T) {
	onAll(t, func(t *testing.T, w *world.World) {
		_, other := w.Open(databases.Options{})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		dropped := w.Proxy.On(world.IsCommit, 1, faultproxy.Withhold())
		done := make(chan error, 1)
		go func() {
			_, err := once.Do(ctx, w.DB, "a", award(w, w.DB))
			done <- err
		}()
		<-dropped.Answered()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			w.DB.Close() // which may wait for the transaction's end
		}()
		world.Until(t, "it is closed for who comes now", w.DB.Pool().Closed)
		dropped.Lose()
		lost := time.Now()
		select {
		case err := <-done:
			assert.ErrorIs(t, err, raceproof.ErrCommitUnknown)
			assert.ErrorIs(t, err, raceproof.ErrClosed)
		case <-time.After(20 * time.Second):
			require.Fail(t, "it goes on asking")
		}
		t.Logf("told %v after the answer was lost", time.Since(lost).Round(time.Millisecond))
		<-closed
		row, err := once.Do(minute(t), other, "a", never(t))
		require.NoError(t, err)
		assert.Equal(t, int64(2), row.Score)
		assert.Equal(t, int64(1), gained(w))
	}, onServers...)
}
