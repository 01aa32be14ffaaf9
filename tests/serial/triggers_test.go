package serial_test

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A trigger sees each change by itself.
func TestTriggers(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		w.Look.MustExec(`CREATE TABLE audit (id BIGINT NOT NULL, before_n BIGINT NOT NULL, after_n BIGINT NOT NULL)`)
		const line = `INSERT INTO audit VALUES (OLD.id, OLD.n, NEW.n);`
		if w.Kind == servers.Postgres {
			w.Look.MustExec(`CREATE FUNCTION audited() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ` + line + ` RETURN NULL; END $$`)
			w.Look.MustExec(`CREATE TRIGGER audited AFTER UPDATE ON tallies FOR EACH ROW EXECUTE FUNCTION audited()`)
		} else {
			w.Look.MustExec(`CREATE TRIGGER audited AFTER UPDATE ON tallies FOR EACH ROW BEGIN ` + line + ` END`)
		}
		for _, p := range patterns(w, tallies) {
			w.Look.MustExec(`DELETE FROM audit`)
			first := tally(t, w, 1).N
			var c crowd
			open := gate(t, p)
			for range 6 {
				c.queue(t, p, func() { _, err := p.Update(minute(t), 1, plus(1)); assert.NoError(t, err, p.name) })
			}
			open()
			c.Wait()
			var lines []struct {
				Before int64 `db:"before_n"`
				After  int64 `db:"after_n"`
			}
			require.NoError(t, w.Look.Select(&lines, `SELECT before_n, after_n FROM audit WHERE id = 1 ORDER BY after_n`))
			if assert.Len(t, lines, 6, p.name) {
				for i, l := range lines {
					assert.Equal(t, []int64{first + int64(i), first + int64(i) + 1}, []int64{l.Before, l.After}, p.name)
				}
			}
		}
	})
}

// A trigger that has the last word about a row has it about each change, and the callers are told.
func TestTriggerChanges(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		switch w.Kind {
		case servers.Postgres:
			w.Look.MustExec(`CREATE FUNCTION tens() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n = NEW.n + 10; RETURN NEW; END $$`)
			w.Look.MustExec(`CREATE TRIGGER tens BEFORE UPDATE ON tallies FOR EACH ROW EXECUTE FUNCTION tens()`)
		case servers.MariaDB:
			w.Look.MustExec(`CREATE TRIGGER tens BEFORE UPDATE ON tallies FOR EACH ROW SET NEW.n = NEW.n + 10`)
		default: // it has no other
			w.Look.MustExec(`CREATE TRIGGER tens AFTER UPDATE OF n ON tallies FOR EACH ROW WHEN NEW.id = 1 BEGIN
				UPDATE tallies SET n = n + 10 WHERE id = NEW.id; END`)
		}
		for _, p := range patterns(w, tallies) {
			first := tally(t, w, 1).N
			var c crowd
			open := gate(t, p)
			var mu sync.Mutex
			var told []int64
			for range 4 {
				c.queue(t, p, func() {
					r, err := p.Update(minute(t), 1, plus(1))
					assert.NoError(t, err, p.name)
					mu.Lock()
					defer mu.Unlock()
					told = append(told, r.N)
				})
			}
			open()
			c.Wait()
			assert.Equal(t, first+44, tally(t, w, 1).N, p.name)
			if w.Kind != "" || p.name == "lock" {
				assert.ElementsMatch(t, []int64{first + 11, first + 22, first + 33, first + 44}, told, p.name)
			}
		}
	})
}

// What the database computes of a row it computes of each change.
func TestGenerated(t *testing.T) {
	type doubled struct {
		ID      int64 `db:"id"`
		N       int64 `db:"n"`
		Twice   int64 `db:"twice"`
		Version int64 `db:"version"`
	}
	each(t, everywhere, func(t *testing.T, w *world.World) {
		w.Look.MustExec(`CREATE TABLE doubled (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, twice BIGINT GENERATED ALWAYS AS (n * 2) STORED,
			note VARCHAR(9), version BIGINT NOT NULL)`)
		w.Look.MustExec(`INSERT INTO doubled (id, n, version) VALUES (1, 0, 0), (1000, 0, 0), (1001, 0, 0)`)
		n := int64(0)
		for _, p := range patterns(w, raceproof.MustTable[doubled]("doubled"))[:2] {
			rows := make([]doubled, 4)
			var calls []func()
			for i := range rows {
				calls = append(calls, func() {
					var err error
					rows[i], err = p.Update(minute(t), 1, itself(func(_ context.Context, r *doubled) error {
						assert.Equal(t, 2*r.N, r.Twice, "%s: in the function", p.name)
						r.N++
						return nil
					}))
					assert.NoError(t, err, p.name)
				})
			}
			open := gate(t, p)
			var c crowd
			for _, call := range calls {
				c.queue(t, p, call)
			}
			open()
			c.Wait()
			for i, r := range rows {
				n++
				assert.Equal(t, doubled{1, n, 2 * n, n}, r, "%s: caller %d", p.name, i)
			}
		}
	})
}

// A time that MariaDB sets with every UPDATE is in every caller's row.
func TestOnUpdate(t *testing.T) {
	type touched struct {
		ID      int64  `db:"id"`
		N       int64  `db:"n"`
		At      string `db:"at"`
		Version int64  `db:"version"`
	}
	each(t, onServers, func(t *testing.T, w *world.World) {
		if w.Kind != servers.MariaDB {
			return // nothing else has such columns
		}
		w.Look.MustExec(`CREATE TABLE touched (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, note VARCHAR(9),
			at TIMESTAMP(6) NOT NULL DEFAULT '2001-01-01' ON UPDATE CURRENT_TIMESTAMP(6), version BIGINT NOT NULL)`)
		w.Look.MustExec(`INSERT INTO touched (id, n, version) VALUES (1, 0, 0), (1000, 0, 0), (1001, 0, 0)`)
		for _, p := range patterns(w, raceproof.MustTable[touched]("touched"))[:2] {
			var mu sync.Mutex
			times := map[string]bool{}
			var c crowd
			open := gate(t, p)
			for range 4 {
				c.queue(t, p, func() {
					r, err := p.Update(minute(t), 1, itself(func(_ context.Context, r *touched) error { r.N++; return nil }))
					assert.NoError(t, err, p.name)
					assert.NotContains(t, r.At, "2001", p.name)
					mu.Lock()
					defer mu.Unlock()
					times[r.At] = true
				})
			}
			open()
			c.Wait()
			assert.Len(t, times, 4, p.name)
		}
	})
}
