package serial_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// hold has somebody else lock a row until it is released.
func hold(t *testing.T, w *world.World, id int64) (release func()) {
	t.Helper()
	tx, err := w.Look.Beginx()
	require.NoError(t, err)
	_, err = tx.Exec(w.Look.Rebind(`SELECT id FROM tallies WHERE id = ? FOR UPDATE`), id)
	require.NoError(t, err)
	return func() { require.NoError(t, tx.Rollback()) }
}

// A row that somebody else holds for long holds up nobody who wants another one for long. Who wants it gets it when it is
// free; who does not wait that long is told that it was locked.
func TestHeldElsewhere(t *testing.T) {
	each(t, onServers, func(t *testing.T, w *world.World) {
		limit := 2500 * time.Millisecond
		if w.Kind == servers.MariaDB {
			limit += time.Second // it counts whole ones
		}
		for _, p := range patterns(w, tallies) {
			for _, alone := range []bool{false, true} { // who wants the row that is held finds nobody ahead, or waits with others
				if alone && p.name != "lock" {
					continue
				}
				before := []int64{0, tally(t, w, 1).N, tally(t, w, 2).N}
				open := func() {}
				if !alone {
					open = gate(t, p)
				}
				release := hold(t, w, 1)
				var patient, short, others crowd
				wants := func() { _, err := p.Update(minute(t), 1, plus(1)); assert.NoError(t, err, p.name) }
				leaves := func() {
					ctx, cancel := context.WithTimeout(minute(t), 1500*time.Millisecond)
					defer cancel()
					_, err := p.Update(ctx, 1, plus(1))
					assert.ErrorIs(t, err, context.DeadlineExceeded, p.name)
					if p.name != "atomic" { // whose statement is a transaction of its own, if it is alone
						assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.name)
					}
				}
				start := time.Now()
				for i := range 8 {
					call := func() {
						_, err := p.Update(minute(t), 2, plus(1))
						assert.NoError(t, err, p.name)
					}
					into := &others
					switch i {
					case 0, 4:
						into, call = &patient, wants
					case 2:
						into, call = &short, leaves
					}
					if alone {
						into.Go(call)
					} else {
						into.queue(t, p, call)
					}
				}
				open()
				others.Wait()
				assert.Less(t, time.Since(start), limit, "%s: the others, %v", p.name, alone)
				short.Wait()
				release()
				freed := time.Now()
				patient.Wait()
				assert.Less(t, time.Since(freed), limit, "%s: as soon as it is free", p.name)
				assert.Equal(t, before[1]+2, tally(t, w, 1).N, p.name)
				assert.Equal(t, before[2]+5, tally(t, w, 2).N, p.name)
			}
		}
	})
}
