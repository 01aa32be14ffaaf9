package once_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// durable is how a file is opened that is to survive a process that is killed.
func durable(d databases.Database) databases.Options {
	if d.Name == "sqlite/mattn" {
		return databases.Options{Parameters: map[string][]string{"_journal_mode": {"WAL"}, "_synchronous": {"NORMAL"}, "_busy_timeout": {"5000"}}}
	}
	return databases.Options{Parameters: map[string][]string{"_pragma": {"busy_timeout(5000)", "journal_mode(wal)", "synchronous(normal)"}}}
}

// killed is a list of updates, and the processes that are to make them.
type killed struct {
	*testing.T
	w         *world.World
	n         int
	acked     map[int]int64 // the scores that were told, by the update
	inFlight  int           // how many had begun, and were not acknowledged, when a kill came
	unheardOf int           // how many of those had been made
}

// A process that is killed at any moment has made an update or has not. What was not acknowledged is made again, with the
// same key, and each is made exactly once.
func TestProcessIsKilled(t *testing.T) {
	t.Parallel()
	for _, name := range onSQLite {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := databases.Named(name)
			k := &killed{T: t, w: world.New(t, d, durable(d)), n: number() / 2, acked: map[int]int64{}}
			require.NoError(t, once.CreateTable(minute(t), k.w.DB))
			for r := range hot {
				k.w.Look.MustExec(fmt.Sprintf(`INSERT INTO players VALUES (%d, 'hot %d', 0, 0, 0)`, 100+r, r))
			}
			kills := 0
			for ; len(k.acked) < k.n; kills++ {
				k.once(10 + rand.IntN(70))
			}
			scores := map[int]map[int64]bool{}
			for i, score := range k.acked {
				if scores[i%hot] == nil {
					scores[i%hot] = map[int64]bool{}
				}
				scores[i%hot][score] = true
			}
			for r := range hot {
				intended := int64((k.n - r + hot - 1) / hot)
				row := k.w.Row(int64(100 + r))
				assert.Equal(t, intended, row.Score)
				assert.Equal(t, intended, row.Version)
				assert.Len(t, scores[r], int(intended), "each was told what the row was after its own update")
			}
			assert.Equal(t, k.n, keys(t, k.w))
			assert.GreaterOrEqual(t, k.inFlight, k.n/6, "updates that a kill came in the middle of")
			assert.Positive(t, k.unheardOf, "updates that were made and not acknowledged")
			t.Logf("%s: %d updates, %d processes, %d updates in flight at a kill, %d of them had been made", name, k.n, kills, k.inFlight, k.unheardOf)
		})
	}
}

// once runs a process with all that is to be done yet, until it has acknowledged a number of updates.
func (k *killed) once(until int) {
	var list strings.Builder
	for i := range k.n {
		if _, is := k.acked[i]; !is {
			fmt.Fprintln(&list, i)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(cmd.Environ(), childDriver+"="+k.w.Name, childDSN+"="+k.w.DSN(durable(k.w.Database)))
	cmd.Stdin, cmd.Stderr = strings.NewReader(list.String()), os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(k, err)
	require.NoError(k, cmd.Start())
	begun, before := map[int]bool{}, len(k.acked)
	var dead bool
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var i int
		var score int64
		switch n, _ := fmt.Sscan(lines.Text(), &i, &score); n {
		case 1:
			begun[i] = true
		case 2:
			k.acked[i] = score
		}
		if !dead && len(k.acked)-before >= until {
			dead = true
			require.NoError(k, cmd.Process.Kill())
		}
	}
	err = cmd.Wait()
	if !dead {
		require.NoError(k, err, "the process has ended by itself")
	}
	for i := range begun {
		if _, is := k.acked[i]; !is {
			k.inFlight++
			var n int
			require.NoError(k, k.w.Look.Get(&n, `SELECT count(*) FROM raceproof_once WHERE id = ?`, keyOf(i)))
			k.unheardOf += n
		}
	}
}

func keyOf(i int) []byte { return fmt.Appendf(nil, "award %d", i) }

// What the process is told by its environment.
const (
	childDriver = "RACEPROOF_ONCE_CHILD"
	childDSN    = "RACEPROOF_ONCE_DSN"
)
