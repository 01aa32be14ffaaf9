package galera_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/lock"
)

func try(c sqlx.ExecerContext, statement string, args ...any) error {
	_, err := c.ExecContext(context.Background(), statement, args...)
	return err
}

// session returns a connection to a node, which does not wait for the others.
func (n *node) session(t *testing.T) *sqlx.Conn {
	t.Helper()
	conn, err := n.open(t, n.address(), "raceproof", "").Connx(context.Background())
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// What a transaction has lost to another node it is told by whatever it sends next, and is gone by then.
func conflictErrors(t *testing.T, c *cluster) {
	conn := c[0].session(t)
	for _, statement := range []string{`SELECT 1`, `SELECT * FROM players`, `UPDATE players SET score = 0`, `SAVEPOINT s`, `COMMIT`,
		probe(t)} {
		id := c.row(t)
		require.NoError(t, try(conn, `START TRANSACTION`))
		require.NoError(t, try(conn, `UPDATE players SET score = score + 1 WHERE id = ?`, id))
		c[1].overtake(t, c[0], id)
		err := try(conn, statement)
		assert.Equal(t, conflict, verdictOf(t, err), "%s: %v", statement, err)
		assert.NoError(t, try(conn, probe(t)), "%s: it is outside of the transaction", statement)
		c.is(t, Player{id, 100, 1})
	}
}

// certificationFails is the other way to lose: the other's change is certified when COMMIT comes, and not yet applied here.
// The server counts these; which of the two ways it is, is a matter of microseconds.
func certificationFails(t *testing.T, c *cluster) {
	conn := c[0].session(t)
	id := c.row(t)
	before := c[0].status("wsrep_local_cert_failures")
	rounds := int64(0)
	for ; c[0].status("wsrep_local_cert_failures") == before && rounds < 1000; rounds++ {
		require.NoError(t, try(conn, `START TRANSACTION`))
		require.NoError(t, try(conn, `UPDATE players SET score = score + 1 WHERE id = ?`, id))
		c[1].change(t, `UPDATE players SET score = score + 100, version = version + 1 WHERE id = ?`, id)
		err := try(conn, `COMMIT`)
		require.Equal(t, conflict, verdictOf(t, err), "%v", err)
		c.is(t, Player{id, 100 * (rounds + 1), rounds + 1})
	}
	assert.NotEqual(t, before, c[0].status("wsrep_local_cert_failures"))
	t.Logf("certification failed after %d rounds", rounds)
}

// dead fails the test unless a context's transaction is over for whoever uses it.
func dead(t *testing.T, ctx context.Context, db *raceproof.DB, id int64) {
	t.Helper()
	_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 1000 WHERE id = ?`, id)
	assert.ErrorIs(t, err, raceproof.ErrFinished)
	var one int
	assert.ErrorIs(t, db.Ext(ctx).QueryRowxContext(ctx, `SELECT 1`).Scan(&one), raceproof.ErrFinished)
	for _, p := range patterns(db, ignore) {
		_, err := p.Update(ctx, id, 1000)
		assert.ErrorIs(t, err, raceproof.ErrFinished, p.name)
	}
	assert.ErrorIs(t, db.Transact(ctx, func(context.Context) error { return nil }), raceproof.ErrFinished)
}

// A transaction that has lost is dead, whoever has seen the error: nothing is committed statement by statement.
func deadTransactions(t *testing.T, c *cluster) {
	db := c[0].db(t)
	ofNothing := func(context.Context) error { return nil }
	query := func(ctx context.Context) error {
		rows, err := db.Ext(ctx).QueryContext(ctx, `SELECT id FROM players`)
		if err == nil {
			err = rows.Close()
		}
		return err
	}
	type end struct {
		name   string
		before func(context.Context) error        // a statement before the row is lost
		do     func(context.Context, int64) error // sends the first one after that
	}
	ends := []end{
		{"a statement of its own", ofNothing, func(ctx context.Context, id int64) error {
			_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 1000 WHERE id = ?`, id)
			return err
		}},
		{"a query of its own", ofNothing, func(ctx context.Context, _ int64) error { return query(ctx) }},
		{"a query of its own after another", query, func(ctx context.Context, _ int64) error { return query(ctx) }},
		{"a statement of its own after a query", query, func(ctx context.Context, id int64) error {
			_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 1000 WHERE id = ?`, id)
			return err
		}},
		{"a nested transaction", ofNothing, func(ctx context.Context, _ int64) error {
			return db.Transact(ctx, func(context.Context) error { return nil })
		}},
		{"inside a nested transaction", ofNothing, func(ctx context.Context, id int64) error {
			return db.Transact(ctx, func(ctx context.Context) error {
				_, err := db.Ext(ctx).ExecContext(ctx, `UPDATE players SET score = 1000 WHERE id = ?`, id)
				return err
			})
		}},
	}
	for i, p := range patterns(db, ignore) {
		update := func(ctx context.Context, id int64) error {
			_, err := patterns(db, ignore)[i].Update(ctx, id, 1000)
			return err
		}
		ends = append(ends, end{p.name, ofNothing, update}, end{p.name + " after a query", query, update})
	}
	for _, e := range ends {
		for _, own := range []error{nil, errors.New("the function's own error")} {
			t.Run(e.name, func(t *testing.T) { // once with an error of the function's own
				lost, other := c.row(t), c.row(t)
				err := db.Transact(minute(t), func(ctx context.Context) error {
					_, err := patterns(db, ignore)[2].Update(ctx, lost, 1)
					require.NoError(t, err)
					require.NoError(t, e.before(ctx))
					c[1].overtake(t, c[0], lost)
					err = e.do(ctx, other)
					assert.Equal(t, conflict.code, code(err), "%v", err)
					dead(t, ctx, db, other)
					return own
				}, oneAttempt)
				if own == nil {
					assert.ErrorIs(t, err, raceproof.ErrFinished)
				} else {
					assert.ErrorIs(t, err, own)
				}
				assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown)
				c.is(t, Player{lost, 100, 1})
				c.is(t, Player{other, 0, 0})
			})
		}
	}
}

func conflictAtCommit(t *testing.T, c *cluster) {
	db := c[0].db(t)
	for _, p := range patterns(db, ignore) {
		lost, other := c.row(t), c.row(t)
		err := db.Transact(minute(t), func(ctx context.Context) error {
			for _, id := range []int64{lost, other} {
				_, err := p.Update(ctx, id, 1)
				require.NoError(t, err, p.name)
			}
			c[1].overtake(t, c[0], lost)
			return nil
		}, oneAttempt)
		assert.Equal(t, conflict, verdictOf(t, err), "%s: %v", p.name, err)
		assert.NotErrorIs(t, err, raceproof.ErrCommitUnknown, p.name)
		c.is(t, Player{lost, 100, 1})
		c.is(t, Player{other, 0, 0})
	}
}

// updatesAgain lets another node change the row after each of the statements of an updater.
func updatesAgain(t *testing.T, c *cluster) {
	db := c[0].proxied(t)
	isWrite := faultproxy.Contains("UPDATE `players` SET")
	for _, phase := range []struct {
		name  string
		after func() func(text string) bool // the statement before the one that fails
	}{
		{"UPDATE", func() func(string) bool { return faultproxy.Contains(" FOR UPDATE") }},
		{"SELECT", func() func(string) bool { return isWrite }},
		{"COMMIT", func() func(string) bool {
			written := false // it is the row as it was written that is read then
			return func(text string) bool {
				defer func() { written = written || isWrite(text) }()
				return written && strings.Contains(text, "SELECT") && strings.Contains(text, "FROM `players`")
			}
		}},
	} {
		for _, p := range patterns(db, ignore) {
			if phase.name == "UPDATE" && p.name != "lock" {
				continue // what the others have before it is not locked, and not lost
			}
			if phase.name == "COMMIT" && p.name == "lock" {
				continue // it does not read what it has written, so that this was what failed before
			}
			about := p.name + " fails at " + phase.name
			id := c.row(t)
			_, err := p.Update(minute(t), id, 1) // the table is known by now
			require.NoError(t, err)
			begun, aborted := c[0].proxy.Executed(faultproxy.Prefix("START")), c[0].status("wsrep_local_bf_aborts")
			rule := c[0].proxy.On(phase.after(), 1, faultproxy.Withhold())
			done := make(chan error, 1)
			var got Player
			go func() {
				var err error
				got, err = p.Update(minute(t), id, 1)
				done <- err
			}()
			<-rule.Answered()
			c[1].overtake(t, c[0], id)
			rule.Release()
			require.NoError(t, <-done, about)
			assert.Equal(t, Player{id, 102, 3}, got, about)
			c.is(t, got)
			assert.Equal(t, 2, c[0].proxy.Executed(faultproxy.Prefix("START"))-begun, about)
			assert.NotEqual(t, aborted, c[0].status("wsrep_local_bf_aborts"), about)
		}
	}
}

// A function that has used the transaction, and whose update of another row is lost, runs again with all that it does.
func functionsAgain(t *testing.T, c *cluster) {
	db := c[0].db(t)
	add := patterns(db, ignore)[2]
	for _, own := range []string{``, `SELECT 1`, `UPDATE players SET version = version WHERE id = 0`} {
		id, other := c.row(t), c.row(t)
		runs := 0
		got, err := lock.New(db, players, nil).Update(minute(t), id, func(ctx context.Context, p *Player) error {
			if runs++; runs > 2 {
				return errors.New("nothing was lost a second time")
			}
			_, err := add.Update(ctx, other, 1)
			if err == nil && own != "" {
				var rows *sqlx.Rows
				if rows, err = db.Ext(ctx).QueryxContext(ctx, own); err == nil {
					err = rows.Close()
				}
			}
			if runs == 1 {
				c[1].overtake(t, c[0], other)
			}
			p.Score++
			return err
		})
		assert.NoError(t, err, own)
		assert.Equal(t, Player{id, 1, 1}, got, own)
		assert.Equal(t, Player{id, 1, 1}, c[0].player(t, id), own)
		assert.Equal(t, Player{other, 101, 2}, c[0].player(t, other), own)
		assert.Equal(t, 2, runs, own)
	}
}
