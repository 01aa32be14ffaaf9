package galera_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/servers"
)

// Three are the fewest of which one that is left knows that it is a minority.
const size = 3

// A cluster is the nodes, which hold the same database.
type cluster [size]*node

// A node is one server of the cluster.
type node struct {
	*servers.Server
	name  string
	proxy *faultproxy.Proxy // in front of it, for tests that count statements or stop between two
	look  *sqlx.DB          // past the proxy; what it reads has all that was committed before, on any node
}

// providers is where the packages of distributions put Galera.
var providers = []string{"/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so"}

// start starts a cluster for a test, and ends it with the test. It skips the test if a cluster cannot be had, or fails
// it if MariaDB is required, whose package brings Galera.
func start(t *testing.T) *cluster {
	t.Helper()
	i := slices.IndexFunc(providers, func(path string) bool {
		_, err := os.Stat(path)
		return err == nil
	})
	if i < 0 {
		absent(t, "none of "+strings.Join(providers, ", ")+" is there; install the Debian package galera-4")
	}
	var c cluster
	groups := ports(t, size*portsOfNode)
	var members []string
	for n := range size {
		members = append(members, fmt.Sprintf("127.0.0.1:%d", groups[n*portsOfNode]))
	}
	t.Cleanup(func() { c.stop(t) })
	// All at once: those that join look for the first one until it is there.
	errs := make([]error, size)
	var wg sync.WaitGroup
	for n := range size {
		flags := flags(providers[i], members, groups[n*portsOfNode:][:portsOfNode])
		if n == 0 {
			flags = append(flags, "--wsrep-new-cluster")
		}
		c[n] = &node{name: fmt.Sprintf("node %d", n)}
		wg.Go(func() { c[n].Server, errs[n] = servers.Start(servers.MariaDB, flags...) })
	}
	wg.Wait()
	err := errors.Join(errs...)
	if errors.Is(err, servers.ErrAbsent) {
		absent(t, err.Error())
	}
	require.NoError(t, err)
	for _, n := range c {
		n.look = n.open(t, n.address(), "", "wsrep_sync_wait=1")
		n.proxy = faultproxy.New(t, faultproxy.MySQL, n.address())
	}
	c.whole(t)
	c[0].look.MustExec(`CREATE DATABASE raceproof`)
	c[0].look.MustExec(`CREATE TABLE raceproof.players (id BIGINT AUTO_INCREMENT PRIMARY KEY, score BIGINT NOT NULL, version BIGINT NOT NULL)`)
	for _, n := range c {
		var one int // waits for the database
		require.NoError(t, n.look.Get(&one, `SELECT 1`))
		n.look = n.open(t, n.address(), "raceproof", "wsrep_sync_wait=1")
	}
	return &c
}

// absent ends a test that cannot have a cluster.
func absent(t *testing.T, why string) {
	t.Helper()
	required, err := servers.Required()
	require.NoError(t, err)
	if slices.Contains(required, servers.MariaDB) {
		t.Fatal("Galera is absent: " + why)
	}
	t.Skip("Galera is absent: " + why)
}

// portsOfNode is how many ports a node has besides the one for its clients: for the group, for what it has missed, and
// for a copy of everything.
const portsOfNode = 3

// flags are those that make a server a node.
func flags(provider string, members []string, ports []int) []string {
	return []string{
		"--wsrep-on=ON", "--wsrep-provider=" + provider, "--wsrep-cluster-name=raceproof",
		"--wsrep-cluster-address=gcomm://" + strings.Join(members, ","), "--wsrep-node-address=127.0.0.1",
		"--wsrep-sst-method=rsync", fmt.Sprintf("--wsrep-sst-receive-address=127.0.0.1:%d", ports[2]),
		fmt.Sprintf("--wsrep-provider-options=gmcast.listen_addr=tcp://127.0.0.1:%d;base_port=%d;ist.recv_addr=127.0.0.1:%d;"+
			"gcache.size=32M", ports[0], ports[0], ports[1]),
		"--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", // what Galera asks for
		"--wsrep-slave-threads=4",
		"--innodb-flush-log-at-trx-commit=0", // nothing need survive a crash of the machine
	}
}

// ports returns free ports below those that package servers takes, which a server could otherwise get before its node
// listens.
func ports(t *testing.T, n int) (free []int) {
	t.Helper()
	for range 1000 {
		port := 10000 + rand.IntN(5000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		require.NoError(t, l.Close())
		if !slices.Contains(free, port) {
			free = append(free, port)
		}
		if len(free) == n {
			return free
		}
	}
	t.Fatal("found no free ports")
	return nil
}

// stop kills the nodes: a clean end takes longer, and what they hold is thrown away.
func (c *cluster) stop(t *testing.T) {
	for _, n := range c {
		if n != nil && n.Server != nil {
			if err := errors.Join(n.Kill(), n.Stop()); err != nil {
				t.Error(err)
			}
		}
	}
}

// open opens a pool on a node, until the test ends.
func (n *node) open(t *testing.T, address, database, parameters string) *sqlx.DB {
	t.Helper()
	pool, err := sqlx.Open("mysql", fmt.Sprintf("root@tcp(%s)/%s?%s", address, database, parameters))
	require.NoError(t, err)
	t.Cleanup(func() { _ = pool.Close() })
	return pool
}

func (n *node) address() string { return fmt.Sprintf("127.0.0.1:%d", n.Port()) }

// whole waits until all nodes are in one cluster and have the same rows.
func (c *cluster) whole(t *testing.T) {
	t.Helper()
	for _, n := range c {
		until(t, n.name+" is in step with all the others", func() bool {
			return n.status("wsrep_local_state_comment") == "Synced" && n.status("wsrep_cluster_status") == "Primary" &&
				n.status("wsrep_cluster_size") == fmt.Sprint(size) && n.status("wsrep_ready") == "ON"
		})
	}
}

// status returns what a node says of itself, or "" if it does not answer.
func (n *node) status(variable string) (value string) {
	_ = n.look.QueryRow(`SHOW STATUS LIKE '`+variable+`'`).Scan(&variable, &value)
	return value
}

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			require.Fail(t, "waited in vain: "+what)
		}
	}
}
