package verdicts_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A deadlock is a conflict too. An update of one row can be in one if a trigger changes another table. Who is given up is
// on PostgreSQL the one who looks after his time, so the trigger waits in front of a gate until the other one waits; on
// MariaDB it is the one who has changed less.
func TestDeadlockIsRetried(t *testing.T) {
	each(t, onServers, func(t *testing.T, d databases.Database) {
		o, trigger := databases.Options{}, []string{`CREATE TRIGGER total AFTER UPDATE ON players FOR EACH ROW UPDATE totals SET n = n + 1`}
		if d.Kind == servers.Postgres {
			o = parameter(d, "deadlock_timeout", "", "10ms")
			trigger = []string{
				`CREATE FUNCTION total() RETURNS trigger LANGUAGE plpgsql AS
					'BEGIN PERFORM pg_advisory_xact_lock(hashtext(current_schema)); UPDATE totals SET n = n + 1; RETURN new; END'`,
				`CREATE TRIGGER total AFTER UPDATE ON players FOR EACH ROW EXECUTE FUNCTION total()`,
			}
		}
		w := world.New(t, d, o)
		for _, statement := range append(trigger, `CREATE TABLE totals (n BIGINT)`, `INSERT INTO totals VALUES (0)`,
			`CREATE TABLE ballast (n BIGINT)`) {
			w.Look.MustExec(statement)
		}
		for _, p := range w.Patterns() {
			other, err := w.Look.Beginx()
			require.NoError(t, err)
			gate, err := w.Look.Beginx()
			require.NoError(t, err)
			if d.Kind == servers.Postgres {
				_, err = gate.Exec(`SELECT pg_advisory_xact_lock(hashtext(current_schema))`)
				require.NoError(t, err)
				_, err = other.Exec(`SET LOCAL deadlock_timeout = '60s'`)
			} else {
				require.NoError(t, gate.Rollback())
				_, err = other.Exec(`INSERT INTO ballast VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10)`)
			}
			require.NoError(t, err)
			_, err = other.Exec(`UPDATE totals SET n = n + 1`)
			require.NoError(t, err)
			w.Calls.Store(0)
			writes := w.Sent(world.IsWrite)
			done := make(chan error, 1)
			go func() {
				_, err := p.Update(minute(t), 7, world.Award(1))
				done <- err
			}()
			w.Waiting()
			waits := make(chan error, 1)
			go func() {
				_, err := other.Exec(`UPDATE players SET score = score + 100, version = version + 1 WHERE id = 7`)
				waits <- err
			}()
			if d.Kind == servers.Postgres {
				w.WaitingAre(2)
				require.NoError(t, gate.Rollback())
			}
			require.NoError(t, <-waits)
			require.NoError(t, other.Commit())
			require.NoError(t, <-done, p.Name)
			assert.GreaterOrEqual(t, writes(), 2, p.Name) // optimistic can be overtaken besides
			if p.Name != "atomic" {
				assert.GreaterOrEqual(t, w.Calls.Load(), int64(2), p.Name)
			}
			assert.Equal(t, world.Player{ID: 7, Name: "Ada", Score: 102, Version: 2}, w.Row(7), p.Name)
			w.Reset()
		}
	})
}
