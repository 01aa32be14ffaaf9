//go:build unix && !linux

package servers

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// endWithParent does nothing: only Linux can tell a child of the end of its parent.
func endWithParent(*syscall.SysProcAttr, syscall.Signal) {}

func lock(*os.File) bool { return true }

// orphaned is never true: the server may run on.
func orphaned(*os.File) bool { return false }

type found struct {
	parent int
	state  byte
}

// processes returns what runs on this machine, by number.
func processes() (map[int]found, error) {
	out, err := exec.Command("/bin/ps", "-A", "-o", "pid=", "-o", "ppid=", "-o", "state=").Output()
	if err != nil {
		return nil, err
	}
	all := map[int]found{}
	for line := range strings.Lines(string(out)) {
		var pid int
		var f found
		if _, err := fmt.Sscanf(line, "%d %d %c", &pid, &f.parent, &f.state); err != nil {
			return nil, fmt.Errorf("ps: %q: %w", line, err)
		}
		all[pid] = f
	}
	return all, nil
}

// stateOf returns the letter that ps shows for a process, 0 if there is none.
func stateOf(pid int) byte {
	all, err := processes()
	if err != nil {
		return '?'
	}
	return all[pid].state
}
