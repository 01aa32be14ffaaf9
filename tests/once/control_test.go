package once_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// The other half of TestFaults: callers who make an update again after any error, without a key, make far too many.
func TestWithoutOnceTooManyAreMade(t *testing.T) {
	t.Parallel()
	const intended = 400
	for _, name := range onServers {
		for i, pattern := range []string{"lock", "optimistic", "atomic"} {
			t.Run(name+"/"+pattern, func(t *testing.T) {
				t.Parallel()
				w := world.New(t, databases.Named(name), databases.Options{})
				u := w.Patterns()[i]
				last := world.IsCommit
				if w.Kind == servers.Postgres && pattern != "lock" {
					last = world.IsWrite // which is a transaction of its own
				}
				for c := range callers { // each has a row: a write that a conflict keeps from being made does not matter
					w.Look.MustExec(fmt.Sprintf(`INSERT INTO players VALUES (%d, 'own %d', 0, 0, 0)`, 100+c, c))
				}
				var dropped atomic.Int64
				var wg sync.WaitGroup
				for c := range callers {
					wg.Go(func() {
						for n := range intended / callers {
							var rule *faultproxy.Rule
							if (c+n)%4 == 0 {
								rule = w.Proxy.On(last, 1, faultproxy.Drop())
							}
							for range 100 {
								if _, err := u.Update(minute(t), int64(100+c), world.Award(1)); err == nil {
									break
								}
							}
							if rule != nil {
								dropped.Add(int64(rule.Fired()))
							}
						}
					})
				}
				wg.Wait()
				var made int64
				require.NoError(t, w.Look.Get(&made, `SELECT sum(score) FROM players WHERE id >= 100`))
				assert.GreaterOrEqual(t, made*100, int64(intended*115), "more than were intended")
				t.Logf("%s, %s: %d intended, %d answers dropped, %d made", name, pattern, intended, dropped.Load(), made)
			})
		}
	}
}
