package databases

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/raceproof/raceproof/internal/servers"
)

// state is what one run of a test binary has started and used.
var state struct {
	sync.Mutex
	running  bool
	required []servers.Kind
	sources  map[servers.Kind]*source
	offered  []string            // names of databases
	used     map[string][]string // the names of tests, by the database
}

// A source is where the databases of a kind come from.
type source struct {
	dsn    string
	server *servers.Server // nil if it was there already
	err    error
}

// Main runs the tests, stops the servers that they made it start, and says what was tested.
func Main(m interface{ Run() int }) int {
	required, err := servers.Required()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	state.Lock()
	state.running, state.required = true, required
	state.sources, state.used = map[servers.Kind]*source{}, map[string][]string{}
	state.Unlock()

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		_ = stop()
		os.Exit(1)
	}()
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	text := report()
	fmt.Print(text)
	if err := hand(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// hand adds the report to the file that the environment names: go test shows what a binary prints only if it has failed.
func hand(report string) error {
	name := os.Getenv(servers.Report)
	if name == "" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(report)
	return errors.Join(err, f.Close())
}

// DSN returns the DSN of the server that all tests of a binary share. It skips the test if there is none, or fails it if the
// server is required.
func DSN(tb testing.TB, d Database) string {
	tb.Helper()
	used(tb, d.Name)
	return shared(tb, d)
}

// shared returns the DSN of the server for all tests of a binary, and starts it when the first of them asks.
func shared(tb testing.TB, d Database) string {
	tb.Helper()
	state.Lock()
	defer state.Unlock()
	if !state.running {
		tb.Fatal("databases.Main is not running: call it from TestMain")
	}
	s := state.sources[d.Kind]
	if s == nil {
		s = begin(d.Kind)
		state.sources[d.Kind] = s
	}
	missing(tb, d.Kind, s.err)
	return s.dsn
}

// Server starts a server for one test alone, which may so kill it, and stops it after the test.
func Server(tb testing.TB, kind servers.Kind, flags ...string) *servers.Server {
	tb.Helper()
	return ServerIn(tb, nil, kind, flags...)
}

// ServerIn is Server with variables in the server's environment.
func ServerIn(tb testing.TB, environment []string, kind servers.Kind, flags ...string) *servers.Server {
	tb.Helper()
	s, err := servers.StartIn(environment, kind, flags...)
	state.Lock()
	defer state.Unlock()
	missing(tb, kind, err)
	tb.Cleanup(func() {
		if err := s.Stop(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// missing ends the test if there is no server: no failure if it is merely not installed, and not required.
func missing(tb testing.TB, kind servers.Kind, err error) {
	tb.Helper()
	if errors.Is(err, servers.ErrAbsent) && !slices.Contains(state.required, kind) {
		tb.Skipf("%s is absent: %v", kind, err)
	}
	if err != nil {
		tb.Fatalf("%s: %v", kind, err)
	}
}

func begin(kind servers.Kind) *source {
	if dsn := os.Getenv(kind.Variable()); dsn != "" {
		return &source{dsn: dsn}
	}
	server, err := servers.Start(kind)
	if err != nil {
		return &source{err: err}
	}
	return &source{dsn: server.DSN(""), server: server}
}

func stop() (err error) {
	state.Lock()
	defer state.Unlock()
	state.running = false
	for _, s := range state.sources {
		if s.server != nil {
			err = errors.Join(err, s.server.Stop())
		}
	}
	return err
}

func offered(databases []Database) {
	state.Lock()
	defer state.Unlock()
	for _, d := range databases {
		if !slices.Contains(state.offered, d.Name) {
			state.offered = append(state.offered, d.Name)
		}
	}
}

// used notes that a test has a database, once the test is over and was not skipped.
func used(tb testing.TB, name string) {
	tb.Cleanup(func() {
		state.Lock()
		defer state.Unlock()
		if !tb.Skipped() && state.used != nil {
			state.used[name] = append(state.used[name], tb.Name())
		}
	})
}

// report returns a line for each database that the tests have asked for.
func report() string {
	state.Lock()
	defer state.Unlock()
	var text strings.Builder
	for _, d := range list {
		if !slices.Contains(state.offered, d.Name) {
			continue
		}
		if s := state.sources[d.Kind]; s != nil && s.err != nil {
			fmt.Fprintf(&text, "%-14s ABSENT: %v\n", d.Name, s.err)
			continue
		}
		fmt.Fprintf(&text, "%-14s %d test cases\n", d.Name, leaves(state.used[d.Name]))
	}
	return text.String()
}

// leaves counts the tests among the names that have no others of them inside.
func leaves(names []string) (n int) {
	slices.Sort(names)
	names = slices.Compact(names)
	for _, name := range names {
		if !slices.ContainsFunc(names, func(other string) bool { return strings.HasPrefix(other, name+"/") }) {
			n++
		}
	}
	return n
}
