package galera_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
)

// An attempt is something that the library was asked for, and what came of it.
type attempt struct {
	about string
	id    int64
	err   chan error
}

// quorumLost silences two of the nodes: the third finds itself alone, can commit nothing, and refuses whatever it is asked
// for. Then they come back.
func quorumLost(t *testing.T, c *cluster) {
	alone := c[0]
	db := alone.proxied(t)
	runs := make(chan string, 100)
	of := patterns(db, func(context.Context, Player) { runs <- "a function" })
	isCommit, isBegin := faultproxy.Prefix("COMMIT"), faultproxy.Prefix("START")
	begin := func(about string, do func(id int64) error) attempt {
		a := attempt{about, c.row(t), make(chan error, 1)}
		go func() { a.err <- do(a.id) }()
		return a
	}

	// Transactions that have changed a row when quorum is lost.
	lost, changed := make(chan struct{}), make(chan struct{}, 2)
	var open []attempt
	for about, then := range map[string]func(context.Context) error{
		"to be committed": func(context.Context) error { return nil },
		"with more to do, whatever comes of it": func(ctx context.Context) error {
			_, err := of[2].Update(ctx, 1, 1)
			assert.Equal(t, noQuorum, verdictOf(t, err), "%v", err)
			return nil
		},
	} {
		open = append(open, begin(about, func(id int64) error {
			return db.Transact(minute(t), func(ctx context.Context) error {
				_, err := of[2].Update(ctx, id, 1)
				changed <- struct{}{}
				<-lost
				return errors.Join(err, then(ctx))
			})
		}))
	}
	<-changed
	<-changed

	// Updates whose COMMIT is under way: it waits for nodes that do not answer, until it is known that they will not.
	ids := make([]int64, len(of)+1)
	for i := range ids {
		ids[i] = c.row(t)
	}
	commits := alone.proxy.Executed(isCommit)
	require.NoError(t, errors.Join(c[1].Pause(), c[2].Pause()))
	silenced := time.Now()
	var underWay []attempt
	for i, p := range of {
		underWay = append(underWay, attempt{p.name, ids[i], make(chan error, 1)})
		go func() {
			_, err := p.Update(minute(t), ids[i], 1)
			underWay[i].err <- err
		}()
	}
	until(t, "every COMMIT is under way", func() bool { return alone.proxy.Executed(isCommit) == commits+len(of) })
	short, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := of[0].Update(short, ids[len(of)], 1)
	assert.ErrorIs(t, err, raceproof.ErrCommitUnknown)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	for _, a := range underWay {
		err := <-a.err
		assert.Equal(t, commitFailed, verdictOf(t, err), "%s: %v", a.about, err)
		assert.ErrorIs(t, err, raceproof.ErrCommitUnknown, a.about)
	}
	assert.Equal(t, commits+len(of)+1, alone.proxy.Executed(isCommit), "no COMMIT is sent again")
	assert.Len(t, runs, 3, "and no function runs again: two of lock, one of optimistic")
	t.Logf("COMMIT failed after %v", time.Since(silenced).Round(time.Millisecond))

	// What is known to have changed nothing.
	until(t, "the node knows that it is alone", func() bool { return alone.status("wsrep_cluster_status") == "non-Primary" })
	close(lost)
	for _, a := range open {
		err := <-a.err
		assert.Equal(t, noQuorum, verdictOf(t, err), "%s: %v", a.about, err)
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, a.about)
	}
	for _, p := range of {
		begun, now := alone.proxy.Executed(isBegin), time.Now()
		_, err := p.Update(minute(t), ids[0], 1)
		assert.Equal(t, noQuorum, verdictOf(t, err), "%s: %v", p.name, err)
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.name)
		assert.LessOrEqual(t, alone.proxy.Executed(isBegin)-begun, 1, "%s: it is not tried again", p.name)
		assert.Less(t, time.Since(now), 30*time.Second, p.name)
	}
	assert.ErrorContains(t, db.Transact(minute(t), func(context.Context) error {
		t.Error("there is no transaction")
		return nil
	}), "WSREP has not yet prepared node for application use")

	require.NoError(t, errors.Join(c[1].Continue(), c[2].Continue()))
	back := time.Now()
	c.whole(t)
	t.Logf("the cluster was whole again after %v", time.Since(back).Round(time.Millisecond))
	for _, a := range open {
		c.is(t, Player{a.id, 0, 0})
	}
	for _, id := range ids { // unknown, but the same everywhere
		row := alone.player(t, id)
		assert.Contains(t, []Player{{id, 0, 0}, {id, 1, 1}}, row)
		c.is(t, row)
		for _, n := range c {
			for _, p := range patterns(n.db(t), ignore) {
				row.Score, row.Version = row.Score+1, row.Version+1
				got, err := p.Update(minute(t), id, 1)
				require.NoError(t, err, "%s on %s", p.name, n.name)
				assert.Equal(t, row, got, "%s on %s", p.name, n.name)
			}
		}
		c.is(t, row)
	}
}
