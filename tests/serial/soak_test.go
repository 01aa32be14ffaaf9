package serial_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

const (
	soakCallers = 256
	soakRows    = 6 // of each table; the first is the hot one; and then one for each process's updater of package optimistic
)

// soakTime is for how long the callers call.
func soakTime() time.Duration {
	if os.Getenv("RACEPROOF_TORTURE") != "" {
		return 5 * time.Minute
	}
	return 3 * time.Second
}

// A soakRow is a row of either table.
type soakRow struct {
	ID      int64  `db:"id"`
	N       int64  `db:"n"`
	Small   int64  `db:"small"`
	Name    string `db:"name"`
	Version int64  `db:"version"`
}

// The first table lets writes be merged. The second has a say in what is written.
var soakTables = []string{"plain", "checked"}

var soakSetup = []string{
	`CREATE TABLE plain (id BIGINT PRIMARY KEY, n BIGINT NOT NULL, small SMALLINT NOT NULL, name VARCHAR(20) NOT NULL, version BIGINT NOT NULL)`,
	`CREATE TABLE checked (id BIGINT PRIMARY KEY, n BIGINT NOT NULL CHECK (n >= 0), small SMALLINT NOT NULL,
		name VARCHAR(20) NOT NULL UNIQUE, version BIGINT NOT NULL)`,
	`CREATE TABLE audit (id BIGINT NOT NULL, delta BIGINT NOT NULL)`, // without a key: what is there twice is to be seen
	`INSERT INTO checked VALUES (0, 0, 0, 'taken', 0)`,
}

// A soak is what all callers have in common.
type soak struct {
	*testing.T
	fresh   *databases.Fresh
	seed    uint64
	look    *sqlx.DB
	proxy   *faultproxy.Proxy // in front of the first process; nil if there is no server
	callers []*soakCaller
	over    atomic.Bool
	kills   atomic.Int64
	rules   []*faultproxy.Rule

	processes []*soakProcess
}

// A soakProcess has a pool and updaters of its own, each shared by its callers, as if it were one.
type soakProcess struct {
	pool     *sqlx.DB
	db       *raceproof.DB
	updaters []soakUpdater
}

// Whatever goes wrong with callers and connections, all that was acknowledged is there once, and nothing that was refused is.
func TestSoak(t *testing.T) {
	for _, name := range []string{"sqlite/mattn", "postgres/pgx", "mariadb/mysql"} {
		t.Run(name, func(t *testing.T) {
			d := databases.Named(name)
			s := &soak{T: t, fresh: d.Fresh(t), seed: rand.Uint64()}
			t.Logf("seed %d", s.seed)
			s.look = s.fresh.Open(databases.Options{})
			s.prepare()
			goroutines := runtime.NumGoroutine()
			s.begin()
			s.run()
			s.judge()
			s.end()
			world.Until(t, "all goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines })
		})
	}
}

func (s *soak) prepare() {
	for _, statement := range soakSetup {
		s.look.MustExec(statement)
	}
	for id := 1; id <= soakRows+2; id++ {
		for _, table := range soakTables {
			s.look.MustExec(fmt.Sprintf(`INSERT INTO %s VALUES (%d, 0, 0, 'row %d', 0)`, table, id, id))
		}
	}
	db, err := raceproof.New(s.look)
	require.NoError(s, err)
	require.NoError(s, once.CreateTable(s.Context(), db))
	db.Close()
	s.look.SetMaxOpenConns(1)
	require.NoError(s, s.look.Ping())
}

// begin starts two processes.
func (s *soak) begin() {
	o := databases.Options{}
	if s.fresh.Kind == servers.Postgres { // which takes a second to find a deadlock
		o.Parameters = url.Values{"deadlock_timeout": {"50ms"}}
	}
	if s.fresh.Kind != "" {
		protocol := faultproxy.PostgreSQL
		if s.fresh.Kind == servers.MariaDB {
			protocol = faultproxy.MySQL
		}
		s.proxy = faultproxy.New(s, protocol, databases.Address(s, s.fresh.DSN(o)))
		o.Address = s.proxy.Addr()
	}
	for range 2 {
		p := &soakProcess{pool: s.fresh.Open(o)}
		var err error
		p.db, err = raceproof.New(p.pool)
		require.NoError(s, err)
		for _, table := range soakTables {
			p.updaters = append(p.updaters, soakUpdaters(p.db, raceproof.MustTable[soakRow](table))...)
		}
		s.processes = append(s.processes, p)
		o.Address = "" // the second one is not disturbed on its way
	}
	for i := range soakCallers {
		s.callers = append(s.callers, &soakCaller{
			soak: s, number: i, process: s.processes[i%2], r: rand.New(rand.NewPCG(s.seed, uint64(i))),
		})
	}
}

// run has all callers call until the time is over.
func (s *soak) run() {
	var callers, others sync.WaitGroup
	for _, c := range s.callers {
		callers.Go(c.run)
	}
	ctx, cancel := context.WithCancel(s.Context())
	for _, disturb := range []func(*rand.Rand){s.kill, s.cut, s.write} {
		others.Go(func() {
			r := rand.New(rand.NewPCG(s.seed, uint64(soakCallers)))
			for ctx.Err() == nil {
				disturb(r)
				select {
				case <-time.After(50*time.Millisecond + time.Duration(r.Int64N(int64(400*time.Millisecond)))):
				case <-ctx.Done():
				}
			}
		})
	}
	time.AfterFunc(soakTime(), func() { s.over.Store(true) })
	callers.Wait()
	cancel()
	others.Wait()
}

// kill ends a connection of one of the processes.
func (s *soak) kill(*rand.Rand) {
	var id int64
	switch s.fresh.Kind {
	case servers.Postgres:
		var killed []bool
		assert.NoError(s, s.look.Select(&killed, `SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity
			WHERE application_name = current_schema AND pid <> pg_backend_pid() ORDER BY random() LIMIT 1) AS one`))
		s.kills.Add(int64(len(killed)))
	case servers.MariaDB:
		err := s.look.Get(&id, `SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID() ORDER BY RAND() LIMIT 1`)
		if err == nil {
			_, err = s.look.Exec(fmt.Sprintf(`KILL %d`, id))
		}
		if err == nil {
			s.kills.Add(1)
		}
	}
}

// cut disturbs a statement on its way to the server, or the answer.
func (s *soak) cut(r *rand.Rand) {
	if s.proxy == nil {
		return
	}
	places := []func(string) bool{
		world.IsBegin, world.IsLock, world.IsCommit, world.IsCommit, world.IsCommit,
		func(text string) bool { return strings.HasPrefix(text, "UPDATE ") },
		func(text string) bool { return strings.HasPrefix(text, "INSERT INTO ") },
	}
	actions := []faultproxy.Action{
		faultproxy.Drop(), faultproxy.Cut(), faultproxy.Drop(), faultproxy.Cut(), faultproxy.Drop(), faultproxy.Cut(),
		faultproxy.Delay(time.Duration(r.Int64N(int64(100 * time.Millisecond)))),
	}
	if r.IntN(50) == 0 { // until those who wait for it have given up
		actions = []faultproxy.Action{faultproxy.Withhold()}
	}
	s.rules = append(s.rules, s.proxy.On(places[r.IntN(len(places))], 1, actions[r.IntN(len(actions))]))
}

// write holds the only lock that there is of SQLite for a while, as another process does.
func (s *soak) write(r *rand.Rand) {
	if s.fresh.Kind != "" {
		return
	}
	tx, err := s.look.Beginx()
	require.NoError(s, err)
	if _, err = tx.Exec(`UPDATE checked SET version = version + 1 WHERE id = 0`); err == nil {
		<-time.After(time.Duration(r.Int64N(int64(30 * time.Millisecond))))
	}
	_ = tx.Rollback() // whoever is busy too can have been first
}

// end closes everything, and finds nothing in use.
func (s *soak) end() {
	for _, p := range s.processes {
		for _, u := range p.updaters {
			assert.NoError(s, u.Close(s.Context()))
		}
		world.Until(s, "no connection is in use", func() bool { return p.pool.Stats().InUse == 0 })
		assert.Zero(s, p.db.Pool().Waiting())
		p.db.Close()
		require.NoError(s, p.pool.Close())
	}
	if s.proxy != nil {
		s.proxy.Close()
	}
}
