package verdicts_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// late is how much longer than its context a call may take on a machine that has much to do. It should be a tenth.
const late = time.Second

// latest is the longest time that a call has taken after the end of its context.
type latest struct {
	after time.Duration
	of    string
}

func (l *latest) String() string {
	return fmt.Sprintf("the latest %v after the end of its context: %s", l.after.Round(time.Millisecond), l.of)
}

// call makes a call whose context ends while the server is silent, and fails the test if it comes back too late. What it
// then still waits for is ended by release.
func (l *latest) call(t *testing.T, ctx context.Context, w *world.World, about string, release func(), f func(context.Context) error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	select {
	case err := <-done:
		if ctx.Err() == nil {
			return err
		}
		done <- err
	case <-ctx.Done():
	}
	ended := time.Now()
	select {
	case err := <-done:
		if after := time.Since(ended); after > l.after {
			l.after, l.of = after, about
		}
		return err
	case <-time.After(late):
		t.Errorf("%s has not come back %v after the end of its context", about, late)
		release()
		return <-done
	}
}

// A server that answers nothing any more holds nobody for long after the end of his context, and a connection that it
// does not answer on is not used again.
func TestSilence(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		w.Pool.SetMaxOpenConns(1) // the one that the call takes
		transact := func(f func(context.Context) error) func(context.Context) error {
			return func(ctx context.Context) error { return w.DB.Transact(ctx, f) }
		}
		nothing := func(context.Context) error { return nil }
		calls := map[string]func(context.Context) error{
			"Transact":             transact(nothing),
			"Transact in Transact": transact(transact(nothing)),
			"Ext in Transact": transact(func(ctx context.Context) error {
				_, err := w.DB.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = score + 1, version = version + 1 WHERE id = 7`)
				return err
			}),
			"query in Transact": transact(func(ctx context.Context) error {
				if _, err := w.DB.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = score + 1, version = version + 1 WHERE id = 7`); err != nil {
					return err
				}
				var name string
				return sqlx.GetContext(ctx, w.DB.Ext(ctx), &name, `SELECT name FROM players WHERE id = 7`)
			}),
		}
		for _, p := range w.Patterns() {
			update := func(ctx context.Context) error {
				_, err := p.Update(ctx, 7, world.Award(1))
				return err
			}
			calls[p.Name], calls[p.Name+" in Transact"] = update, transact(update)
		}
		var latest latest
		for name, call := range calls {
			for answered := range int64(4) { // so many statements are answered before
				about := fmt.Sprintf("%s, after %d answers", name, answered)
				_, err := w.Pattern("atomic").Update(minute(t), 7, world.Award(1))
				require.NoError(t, err)
				w.Idle(w.Pool)
				w.Reset()
				require.Equal(t, 1, w.Pool.Stats().OpenConnections)

				var sent atomic.Int64
				sent.Store(-answered)
				silent := w.Proxy.On(func(string) bool { return sent.Add(1) > 0 }, 1<<30, faultproxy.Withhold())
				ctx, cancel := context.WithCancelCause(t.Context())
				if answered == 1 {
					deadline, end := context.WithTimeoutCause(ctx, 20*time.Millisecond, errCause)
					defer end()
					ctx = deadline
				} else {
					time.AfterFunc(20*time.Millisecond, func() { cancel(errCause) })
				}
				err = latest.call(t, ctx, w, about, silent.Lose, call)
				cancel(nil)
				if silent.Fired() > 0 {
					if name != "query in Transact" || answered < 2 { // else it is the caller's own rows that have failed
						assert.ErrorIs(t, err, errCause, about)
					}
					assert.Error(t, err, about)
					w.Idle(w.Pool)
					assert.Zero(t, w.Pool.Stats().OpenConnections, "%s: the connection is closed", about)
				}
				sent.Store(-1 << 40) // from here on the server answers
				silent.Lose()
				world.Until(t, "the call is over", func() bool { return w.Pool.Stats().InUse == 0 })
				if award := name != "Transact" && name != "Transact in Transact"; award || err != nil {
					verdict(t, w, err, true, about)
				}
			}
		}
		t.Log(&latest)
	})
}
