// Package galera_test holds the library to its promises on a real Galera cluster: three nodes of MariaDB, each of which
// commits on its own and then has the others certify what it has committed.
package galera_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/tests/databases"
)

func TestMain(m *testing.M) {
	_ = mysql.SetLogger(&mysql.NopLogger{}) // broken connections are some of what the tests are about
	os.Exit(databases.Main(m))
}

// TestGalera runs everything on one cluster. The last test takes it apart.
func TestGalera(t *testing.T) {
	began := time.Now()
	c := start(t)
	t.Logf("the cluster took %v", time.Since(began).Round(time.Millisecond))
	for _, test := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"the errors of a conflict", conflictErrors},
		{"certification fails", certificationFails},
		{"a transaction that has lost is dead", deadTransactions},
		{"a conflict at COMMIT changes nothing", conflictAtCommit},
		{"an update that has lost is made again", updatesAgain},
		{"a transaction that has lost is made again", transactionsAgain},
		{"a function whose other update has lost runs again", functionsAgain},
		{"a lock is one of its node", locksOfNodes},
		{"no update is lost on one node", noneLost},
		{"an unprotected update is lost", naiveLoses},
		{"no update is lost on all nodes", allNodes},
		{"Galera loses updates that are prepared on all nodes", galeraLoses},
		{"work is done once on all nodes", onceOnAllNodes},
		{"a parent is written before its children are counted", updateFirst},
		{"leases on all nodes", leasesOnAllNodes},
		{"fences of nodes", fencesOfNodes},
		{"quorum lost", quorumLost},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, c) })
	}
}

// A Player is a row.
type Player struct {
	ID      int64 `db:"id"`
	Score   int64 `db:"score"`
	Version int64 `db:"version"`
}

var players = raceproof.MustTable[Player]("players")

// row makes a new row, with a score of 0.
func (c *cluster) row(t *testing.T) int64 {
	t.Helper()
	id, err := c[0].look.MustExec(`INSERT INTO players (score, version) VALUES (0, 0)`).LastInsertId()
	require.NoError(t, err)
	for _, n := range c {
		n.player(t, id)
	}
	return id
}

// player returns a row as the whole cluster has it.
func (n *node) player(t *testing.T, id int64) (p Player) {
	t.Helper()
	require.NoError(t, n.look.Get(&p, `SELECT * FROM players WHERE id = ?`, id), n.name)
	return p
}

// is fails the test unless a row is the same, and as wanted, on every node.
func (c *cluster) is(t *testing.T, want Player) {
	t.Helper()
	for _, n := range c {
		require.Equal(t, want, n.player(t, want.ID), n.name)
	}
}

// change sends a statement of somebody else's, again if the node refuses it: what another node has written last can still be
// in its way, though it can be read already.
func (n *node) change(t *testing.T, statement string, args ...any) {
	t.Helper()
	for {
		_, err := n.look.Exec(statement, args...)
		if code(err) != conflict.code {
			require.NoError(t, err, n.name)
			return
		}
	}
}

// overtake has somebody else add 100 to a row on the node, and waits until the other has it: whoever has changed the row
// there and not committed it has then lost it.
func (n *node) overtake(t *testing.T, other *node, id int64) {
	t.Helper()
	n.change(t, `UPDATE players SET score = score + 100, version = version + 1 WHERE id = ?`, id)
	other.player(t, id)
}

// A pattern is an updater that adds to a score.
type pattern struct {
	name string
	raceproof.Updater[Player, int64]
}

// patterns returns every updater. They tell seen of every run of a function.
func patterns(db *raceproof.DB, seen func(context.Context, Player)) []pattern {
	add := func(n int64) raceproof.Func[Player] {
		return func(ctx context.Context, p *Player) error {
			seen(ctx, *p)
			p.Score += n
			return nil
		}
	}
	return []pattern{
		{"lock", raceproof.Bind(lock.New(db, players, nil), add)},
		{"optimistic", raceproof.Bind(optimistic.New(db, players, nil), add)},
		{"atomic", raceproof.Bind(atomic.New(db, players, nil), func(n int64) atomic.Change {
			return atomic.Set("score", atomic.F("score").Add(n))
		})},
	}
}

func ignore(context.Context, Player) {}

// db opens the library on a node.
func (n *node) db(t *testing.T) *raceproof.DB {
	return library(t, n.open(t, n.address(), "raceproof", ""))
}

// proxied opens the library on a node, through its proxy.
func (n *node) proxied(t *testing.T) *raceproof.DB {
	return library(t, n.open(t, n.proxy.Addr(), "raceproof", ""))
}

// unprepared opens the library on a node as a cluster wants it where several nodes write: nothing is prepared on the
// server, by the library or by the driver.
func (n *node) unprepared(t *testing.T) *raceproof.DB {
	return library(t, n.open(t, n.address(), "raceproof", "interpolateParams=true"), raceproof.WithoutPreparing())
}

func library(t *testing.T, pool *sqlx.DB, options ...raceproof.Option) *raceproof.DB {
	t.Helper()
	db, err := raceproof.New(pool, options...)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db
}

// code returns the code of the server's own error, 0 if there is none.
func code(err error) uint16 {
	var e *mysql.MySQLError
	if errors.As(err, &e) {
		return e.Number
	}
	return 0
}

// verdict is what the dialect makes of an error.
type verdict struct {
	code          uint16
	class         dialect.Class
	ends, refused bool
}

var (
	conflict     = verdict{1213, dialect.Conflict, true, true}
	noQuorum     = verdict{1047, dialect.Other, false, true}
	commitFailed = verdict{1180, dialect.Other, false, false}
)

func verdictOf(t *testing.T, err error) verdict {
	t.Helper()
	d, unknown := dialect.ByName("mysql")
	require.NoError(t, unknown)
	return verdict{code(err), d.Classify(err), d.EndsTransaction(err), d.Refused(err)}
}

// oneAttempt keeps Transact from calling its function again.
var oneAttempt = raceproof.Retry(raceproof.RetryPolicy{MaxAttempts: 1})

// minute bounds what must not hang.
func minute(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
