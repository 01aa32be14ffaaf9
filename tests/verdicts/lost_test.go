package verdicts_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// verdict fails the test unless what a caller was told of an award of one agrees with the row. It can be unknown
// only if the change was handed over to be committed.
func verdict(t *testing.T, w *world.World, err error, handedOver bool, about string) {
	t.Helper()
	row, changed := w.Row(7), world.Player{ID: 7, Name: "Ada", Score: 2, Version: 1}
	switch {
	case err == nil:
		assert.Equal(t, changed, row, about)
	case errors.Is(err, raceproof.ErrCommitUnknown):
		assert.True(t, handedOver, "%s: it is known: %v", about, err)
		assert.Contains(t, []world.Player{world.Ada, changed}, row, about)
	default:
		assert.Equal(t, world.Ada, row, "%s: %v", about, err)
	}
}

func isRead(text string) bool { return strings.HasPrefix(text, "SELECT") && !world.IsLock(text) }

// has tells whether an update consists of such a statement, among others.
func has(w *world.World, p world.Pattern, phase string) bool {
	switch phase {
	case "BEGIN", "COMMIT":
		return !alone(w, p)
	case "lock":
		return p.Name == "lock"
	case "read": // on MariaDB the row is read again after the write
		return p.Name == "optimistic" || !w.Dialect.Returning
	}
	return true
}

// The answer to each statement of each updater is lost in each way.
func TestLostAnswers(t *testing.T) {
	phases := []struct {
		name  string
		match func(string) bool
	}{
		{"BEGIN", world.IsBegin}, {"lock", world.IsLock}, {"read", isRead}, {"write", world.IsWrite}, {"COMMIT", world.IsCommit},
	}
	actions := []struct {
		name string
		do   faultproxy.Action
	}{{"dropped", faultproxy.Drop()}, {"withheld", faultproxy.Withhold()}, {"cut", faultproxy.Cut()}}
	each(t, onServers, func(t *testing.T, d databases.Database) {
		w := world.New(t, d, databases.Options{})
		var latest latest
		cases := 0
		for _, p := range w.Patterns() {
			for _, phase := range phases {
				if !has(w, p, phase.name) {
					continue
				}
				for _, action := range actions {
					about := p.Name + ", " + phase.name + " " + action.name
					_, err := p.Update(minute(t), 7, world.Award(1)) // the table is known by now, and a connection there
					require.NoError(t, err)
					w.Idle(w.Pool)
					w.Reset()

					fired := w.Sent(phase.match)
					rule := w.Proxy.On(phase.match, 1, action.do)
					writes := w.Sent(world.IsWrite)
					ctx, cancel := context.WithTimeoutCause(t.Context(), 30*time.Millisecond, errCause)
					err = latest.call(t, ctx, w, about, rule.Lose, func(ctx context.Context) error {
						_, err := p.Update(ctx, 7, world.Award(1))
						return err
					})
					cancel()
					if rule.Fired() == 0 {
						require.NoError(t, err, about)
						t.Fatal(about + " was not sent")
					}
					cases++
					verdict(t, w, err, phase.name == "COMMIT" || phase.name == "write" && alone(w, p), about)
					if action.name == "withheld" {
						assert.ErrorIs(t, err, context.DeadlineExceeded, about)
						assert.ErrorIs(t, err, errCause, about)
					}
					assert.LessOrEqual(t, writes(), 1, "%s: a write is not sent again", about)
					if phase.name != "BEGIN" && phase.name != "read" {
						assert.LessOrEqual(t, fired(), 1, about)
					}
					w.Idle(w.Pool)
				}
			}
		}
		t.Logf("%d cases; %s", cases, &latest)
	})
}
