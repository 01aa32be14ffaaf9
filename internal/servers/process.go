//go:build unix

package servers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// A process is a child of ours, whose own children belong to it.
type process struct {
	pid  int
	done chan struct{} // is closed when it has ended
	err  error         // how it ended; to be read after done
}

// launch starts a program as the server's user, with its output in the log.
func (s *Server) launch(command []string) (*process, error) {
	log, err := os.OpenFile(s.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = s.folder
	// The programs' own variables, such as PGOPTIONS, must not reach them, nor a TMPDIR that is not for their user.
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.folder, "TMPDIR=" + s.folder, "LC_ALL=C"}, s.env...)
	cmd.Stdout, cmd.Stderr = log, log
	// In a group of its own the terminal's ^C does not reach the server: who started it stops it, when he no longer
	// needs it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.user.credential}
	endWithParent(cmd.SysProcAttr, s.fastEnd)
	p := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The system takes the end of the thread that started the child for the end of the parent, so the thread is
		// kept as long as the child runs.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	return p, <-started
}

// signal sends a signal to the process alone.
func (p *process) signal(sig syscall.Signal) error {
	select {
	case <-p.done: // the number may be another's by now
		return os.ErrProcessDone
	default:
	}
	err := syscall.Kill(p.pid, sig)
	if errors.Is(err, syscall.ESRCH) { // it has ended since
		return os.ErrProcessDone
	}
	return err
}

// freeze stops the process and its children, and returns the children.
func (p *process) freeze() (children []int, err error) {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	// A signal takes a moment to arrive, and until then there can be new children.
	if err := p.until("stopped", func() bool { return halted(p.pid) }); err != nil {
		return nil, err
	}
	all, err := processes()
	if err != nil {
		return nil, err
	}
	for pid, found := range all {
		if found.parent == p.pid && !ended(found.state) {
			children = append(children, pid)
			err = errors.Join(err, ignoreGone(syscall.Kill(pid, syscall.SIGSTOP)))
		}
	}
	return children, errors.Join(err, p.until("stopped", func() bool {
		return !slices.ContainsFunc(children, func(pid int) bool { return !halted(pid) })
	}))
}

// thaw is the opposite of freeze.
func (p *process) thaw() error {
	all, err := processes()
	if err != nil {
		return err
	}
	for pid, found := range all {
		if found.parent == p.pid {
			err = errors.Join(err, ignoreGone(syscall.Kill(pid, syscall.SIGCONT)))
		}
	}
	return errors.Join(err, p.signal(syscall.SIGCONT))
}

// kill ends the process and its children as a crash does, and returns when all are gone.
func (p *process) kill() error {
	children, err := p.freeze()
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	for _, pid := range append(children, p.pid) {
		err = errors.Join(err, ignoreGone(syscall.Kill(pid, syscall.SIGKILL)))
	}
	return errors.Join(err, p.until("gone", func() bool {
		select {
		case <-p.done:
			return !slices.ContainsFunc(children, func(pid int) bool { return !ended(stateOf(pid)) })
		default:
			return false
		}
	}))
}

// until waits until something holds of the process.
func (p *process) until(what string, holds func() bool) error {
	for deadline := time.Now().Add(stopLimit); !holds(); time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d is not %s after %v", p.pid, what, stopLimit)
		}
	}
	return nil
}

// halted tells whether a process does nothing any more.
func halted(pid int) bool {
	state := stateOf(pid)
	return state == 'T' || ended(state)
}

// ended tells whether there is nothing left of a process in that state, but perhaps an entry in the table.
func ended(state byte) bool { return state == 0 || state == 'Z' || state == 'X' }

func ignoreGone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}
