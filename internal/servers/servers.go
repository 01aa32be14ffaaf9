//go:build unix

// Package servers starts private database servers from the installed binaries, for tests and measurements, and stops
// them: on a port of their own on the loopback interface, with their data in a temporary folder.
//
// On Linux they end with the process that started them, however that ends; what it left in the temporary folder the next
// one removes.
package servers

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ErrAbsent is the error of Start if the binaries are not installed.
var ErrAbsent = errors.New("the server is not installed")

// How long a server may take. What a healthy one needs is a few seconds at most; these are for machines under load.
const (
	createLimit = 2 * time.Minute
	readyLimit  = time.Minute
	stopLimit   = 30 * time.Second
	pollEvery   = 5 * time.Millisecond
)

// A Server is a running server.
type Server struct {
	product
	port   int
	folder string
	claim  *os.File // on the folder
	flags  []string
	env    []string // beside what every server gets
	user   *owner

	mu      sync.Mutex
	process *process // nil after Stop
}

// Start makes a new server and returns when it answers. The flags are added to its command line.
func Start(kind Kind, flags ...string) (*Server, error) {
	return StartIn(nil, kind, flags...)
}

// StartIn is Start with variables, "NAME=value", in the server's environment.
func StartIn(environment []string, kind Kind, flags ...string) (*Server, error) {
	return start(kind, freePort, flags, environment...)
}

func start(kind Kind, pick func() (int, error), flags []string, environment ...string) (_ *Server, err error) {
	p, known := products[kind]
	if !known {
		return nil, fmt.Errorf("there is no server of the kind %q", kind)
	}
	s := &Server{product: p, flags: flags, env: environment}
	if err := s.find(); err != nil {
		return nil, err
	}
	if s.user, err = unprivileged(p.user); err != nil {
		return nil, err
	}
	if s.folder, s.claim, err = s.user.folder(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.remove())
		}
	}()
	if err := s.create(); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		if s.port, err = pick(); err != nil {
			return nil, err
		}
		// Somebody else can take the port before the server does.
		if err = s.serve(); err == nil || attempt == 5 || !taken(s.port) {
			return s, err
		}
	}
}

// Port is the port on 127.0.0.1 that the server listens on.
func (s *Server) Port() int { return s.port }

// DSN is the name of a database on the server, or of the server itself if that is "", for pgx and pq or for
// go-sql-driver/mysql. The user may do anything.
func (s *Server) DSN(database string) string { return s.dsn(s.port, database) }

// create makes the data folder.
func (s *Server) create() error {
	p, err := s.launch(s.createCommand(s))
	if err != nil {
		return err
	}
	select {
	case <-p.done:
	case <-time.After(createLimit):
		return errors.Join(s.failed(fmt.Errorf("%s took longer than %v", s.creator, createLimit)), p.kill())
	}
	if p.err != nil {
		return s.failed(fmt.Errorf("%s: %w", s.creator, p.err))
	}
	return nil
}

// serve starts the server on its data and its port, and waits until it answers.
func (s *Server) serve() error {
	p, err := s.launch(append(s.serveCommand(s), s.flags...))
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(readyLimit); ; time.Sleep(pollEvery) {
		select {
		case <-p.done:
			return s.failed(fmt.Errorf("%s ended when it was started: %v", s.server, p.err))
		default:
		}
		err := s.answers(p)
		if err == nil {
			s.process = p
			return nil
		}
		if time.Now().After(deadline) {
			return errors.Join(s.failed(fmt.Errorf("%s did not answer within %v: %w", s.server, readyLimit, err)), p.kill())
		}
	}
}

// answers returns an error until the server speaks to clients. The process is told by its own file, because what
// answers on the port can be somebody else's.
func (s *Server) answers(p *process) error {
	text, err := os.ReadFile(filepath.Join(s.folder, s.pidFile))
	if err != nil {
		return err
	}
	if pid, _, _ := strings.Cut(string(text), "\n"); pid != strconv.Itoa(p.pid) {
		return fmt.Errorf("%s is not yet of this process", s.pidFile)
	}
	conn, err := net.DialTimeout("tcp", address(s.port), time.Second)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	return s.greets(conn)
}

// failed adds the end of the log to an error: the folder will be gone.
func (s *Server) failed(err error) error {
	text, readErr := os.ReadFile(s.logFile())
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	const most = 4000
	return fmt.Errorf("%w; the end of its log:\n%s", err, text[max(0, len(text)-most):])
}

// remove removes the folder, and then the claim to it.
func (s *Server) remove() error { return errors.Join(os.RemoveAll(s.folder), s.claim.Close()) }

func (s *Server) logFile() string { return filepath.Join(s.folder, "log") }

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// freePort returns a port below those that systems give to outgoing connections: one of these could otherwise take the
// port while a server is restarted.
func freePort() (int, error) {
	for range 100 {
		if port := 15000 + rand.IntN(17000); !taken(port) {
			return port, nil
		}
	}
	return 0, errors.New("found no free port")
}

func taken(port int) bool {
	l, err := net.Listen("tcp", address(port))
	if err != nil {
		return errors.Is(err, syscall.EADDRINUSE)
	}
	_ = l.Close()
	return false
}
