//go:build unix

package servers

import (
	"errors"
	"fmt"
	"os"
	"time"
)

var errStopped = errors.New("the server was stopped")

// Stop ends the server cleanly, by force if that takes too long, and removes its data. To stop it again does nothing.
func (s *Server) Stop() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	p := s.process
	s.process = nil
	return errors.Join(s.end(p), s.remove())
}

func (s *Server) end(p *process) error {
	if err := p.signal(s.cleanEnd); errors.Is(err, os.ErrProcessDone) {
		return nil // it was killed
	} else if err != nil {
		return err
	}
	if err := p.thaw(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err // it may have been paused
	}
	select {
	case <-p.done:
		if p.err != nil {
			return s.failed(fmt.Errorf("%s ended badly: %w", s.server, p.err))
		}
		return nil
	case <-time.After(stopLimit):
		return errors.Join(s.failed(fmt.Errorf("%s had to be killed after %v", s.server, stopLimit)), p.kill())
	}
}

// Kill ends the server as a crash does, at whatever it is. Its data stays, for Restart.
func (s *Server) Kill() error { return s.with((*process).kill) }

// Pause stops the server's processes where they are, until Continue: it then is silent, as behind a network that loses
// everything.
func (s *Server) Pause() error {
	return s.with(func(p *process) error {
		_, err := p.freeze()
		return err
	})
}

// Continue undoes Pause.
func (s *Server) Continue() error { return s.with((*process).thaw) }

// Restart starts a server that was killed on the same data and port, and returns when it answers.
func (s *Server) Restart() error {
	return s.with(func(p *process) error {
		select {
		case <-p.done:
			return s.serve()
		default:
			return errors.New("the server runs")
		}
	})
}

func (s *Server) with(do func(*process) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return errStopped
	}
	return do(s.process)
}
