package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/servers"
)

// A database is one that the tests run on.
type database struct {
	name, driver string
	kind         servers.Kind // "" for SQLite, which has no server
	protocol     faultproxy.Protocol
	server       func() (dsn string, err error)
}

var started struct {
	sync.Mutex
	servers []*servers.Server
}

var (
	onServers = []database{
		{"postgres", "pgx", servers.Postgres, faultproxy.PostgreSQL, sync.OnceValues(func() (string, error) { return start(servers.Postgres) })},
		{"mariadb", "mysql", servers.MariaDB, faultproxy.MySQL, sync.OnceValues(func() (string, error) { return start(servers.MariaDB) })},
	}
	everywhere = append([]database{{name: "sqlite", driver: "sqlite3"}}, onServers...)
)

// start returns the DSN of the server that the environment names, or else starts one for all tests.
func start(kind servers.Kind) (string, error) {
	if dsn := os.Getenv(kind.Variable()); dsn != "" {
		return dsn, nil
	}
	s, err := servers.Start(kind)
	if err != nil {
		return "", err
	}
	started.Lock()
	defer started.Unlock()
	started.servers = append(started.servers, s)
	return s.DSN(""), nil
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, s := range started.servers {
		if err := s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// each runs a test on databases of its own. A server that is absent is skipped, unless it is required.
func each(t *testing.T, databases []database, test func(*testing.T, *shop)) {
	for _, d := range databases {
		t.Run(d.name, func(t *testing.T) { test(t, newShop(t, d)) })
	}
}

// A shop is a database with the tables of the service, and receipts as they are mailed.
type shop struct {
	t *testing.T
	database
	dsn    string
	*store // for looking at it, and to be in the way

	mu       sync.Mutex
	receipts []receipt
}

func newShop(t *testing.T, d database) *shop {
	s := &shop{t: t, database: d}
	if d.kind == "" {
		// The file's name has the characters that mean something in a URI.
		file := &url.URL{Path: filepath.Join(t.TempDir(), "100% shop? #1.db")}
		s.dsn = "file:" + file.EscapedPath() + "?_journal_mode=WAL&_synchronous=OFF"
	} else {
		s.dsn = s.fresh()
	}
	s.store = s.openStore(s.dsn)
	return s
}

// fresh makes an empty database, on PostgreSQL a schema, until the test ends.
func (s *shop) fresh() string {
	server, err := s.server()
	if required, bad := servers.Required(); errors.Is(err, servers.ErrAbsent) && bad == nil && !slices.Contains(required, s.kind) {
		s.t.Skip(err)
	}
	require.NoError(s.t, err)
	admin, err := sqlx.Open(s.driver, server)
	require.NoError(s.t, err)
	name, what, cascade := "checkout_"+strings.ToLower(rand.Text()), "DATABASE ", ""
	if s.kind == servers.Postgres {
		what, cascade = "SCHEMA ", " CASCADE"
	}
	_, err = admin.Exec("CREATE " + what + name)
	require.NoError(s.t, err)
	s.t.Cleanup(func() {
		_, err := admin.Exec("DROP " + what + name + cascade)
		assert.NoError(s.t, err)
		assert.NoError(s.t, admin.Close())
	})
	if s.kind == servers.MariaDB {
		config, err := mysql.ParseDSN(server)
		require.NoError(s.t, err)
		config.DBName = name
		return config.FormatDSN()
	}
	u, err := url.Parse(server)
	require.NoError(s.t, err)
	query := u.Query()
	query.Set("search_path", name)
	u.RawQuery = query.Encode()
	return u.String()
}

func (s *shop) openStore(dsn string) *store {
	st, err := open(s.t.Context(), s.driver, dsn)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { assert.NoError(s.t, st.close()) })
	return st
}

// serviceOn returns the service over a store.
func (s *shop) serviceOn(st *store, patience time.Duration) *service {
	service, err := newService(st, patience, s.mailed)
	require.NoError(s.t, err)
	return service
}

// service returns the service over a store of its own, so that its transactions are strangers to the shop's.
func (s *shop) service() *service { return s.serviceOn(s.openStore(s.dsn), time.Minute) }

// behindProxy returns the service, and the proxy between it and the server.
func (s *shop) behindProxy(patience time.Duration) (*service, *faultproxy.Proxy) {
	if s.kind == servers.MariaDB {
		config, err := mysql.ParseDSN(s.dsn)
		require.NoError(s.t, err)
		proxy := faultproxy.New(s.t, s.protocol, config.Addr)
		config.Addr = proxy.Addr()
		return s.serviceOn(s.openStore(config.FormatDSN()), patience), proxy
	}
	u, err := url.Parse(s.dsn)
	require.NoError(s.t, err)
	proxy := faultproxy.New(s.t, s.protocol, u.Host)
	u.Host = proxy.Addr()
	return s.serviceOn(s.openStore(u.String()), patience), proxy
}

func (s *shop) mailed(r receipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.receipts = append(s.receipts, r)
}

// books returns what is in the database.
func (s *shop) books() (balance int64, orders []string) {
	s.t.Helper()
	a, err := s.account(s.t.Context(), 1)
	require.NoError(s.t, err)
	require.NoError(s.t, s.pool.SelectContext(s.t.Context(), &orders, "SELECT number FROM checkout_orders"))
	return a.Balance, orders
}

// charged fails the test unless account 1 was charged n times for the teapot, with an order and so many mails.
func (s *shop) charged(n, mails int) {
	s.t.Helper()
	balance, orders := s.books()
	assert.EqualValues(s.t, 5000-n*1200, balance)
	assert.Len(s.t, orders, n)
	s.mu.Lock()
	defer s.mu.Unlock()
	assert.Len(s.t, s.receipts, mails, "receipts that were mailed")
}
