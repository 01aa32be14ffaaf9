// Withservers runs a command with both database servers, so that several test binaries can share them:
//
//	go run ./cmd/withservers go test ./...
//
// It starts those that the environment does not name, names them there, and stops them when the command has ended. One
// that is not installed is left out, unless RACEPROOF_REQUIRE names it. At the end it prints how many test cases ran on
// which database with which driver.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"

	"github.com/raceproof/raceproof/internal/servers"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: withservers command [argument ...]")
		os.Exit(2)
	}
	status, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "withservers:", err)
		status = max(status, 1)
	}
	os.Exit(status)
}

func run(command []string) (status int, err error) {
	// From here on a signal ends the command, and the servers after it.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)

	required, err := servers.Required()
	if err != nil {
		return 2, err
	}
	for _, kind := range servers.Kinds {
		if os.Getenv(kind.Variable()) != "" {
			continue
		}
		server, startErr := servers.Start(kind)
		if errors.Is(startErr, servers.ErrAbsent) && !slices.Contains(required, kind) {
			fmt.Fprintf(os.Stderr, "withservers: no %s: %v\n", kind, startErr)
			continue
		}
		if startErr != nil {
			return 1, startErr
		}
		defer func() { err = errors.Join(err, server.Stop()) }()
		if err := os.Setenv(kind.Variable(), server.DSN("")); err != nil {
			return 1, err
		}
	}
	t, err := newTally()
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, t.print(os.Stdout)) }()
	if err := os.Setenv(servers.Report, t.file.Name()); err != nil {
		return 1, err
	}
	return pass(signals, exec.Command(command[0], command[1:]...))
}

// pass runs the command and passes signals on to it.
func pass(signals <-chan os.Signal, cmd *exec.Cmd) (status int, err error) {
	select {
	case sig := <-signals: // while the servers were started
		return 128 + int(sig.(syscall.Signal)), nil
	default:
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		return 127, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	for {
		select {
		case sig := <-signals:
			_ = cmd.Process.Signal(sig) // it may have ended
		case err := <-done:
			var failed *exec.ExitError
			if !errors.As(err, &failed) {
				return 0, err
			}
			if ended := failed.Sys().(syscall.WaitStatus); ended.Signaled() {
				return 128 + int(ended.Signal()), nil
			}
			return failed.ExitCode(), nil
		}
	}
}
