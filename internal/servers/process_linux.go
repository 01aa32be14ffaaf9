package servers

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

func endWithParent(a *syscall.SysProcAttr, sig syscall.Signal) { a.Pdeathsig = sig }

// lock locks a file as long as it is open, unless it is locked already.
func lock(file *os.File) bool {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil
}

// orphaned tells whether nobody holds the lock any more, so that the server has ended too.
func orphaned(file *os.File) bool { return lock(file) }

type found struct {
	parent int
	state  byte
}

// processes returns what runs on this machine, by number.
func processes() (map[int]found, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	all := map[int]found{}
	for _, file := range files {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		if f := look(pid); f.state != 0 {
			all[pid] = f
		}
	}
	return all, nil
}

// look returns what a process is, nothing if there is none.
func look(pid int) (f found) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return found{}
	}
	// "12 (a name) S 1 ...": the name can have anything in it.
	if _, err := fmt.Sscanf(string(text[bytes.LastIndexByte(text, ')')+1:]), " %c %d", &f.state, &f.parent); err != nil {
		return found{}
	}
	return f
}

// stateOf returns the letter that ps shows for a process, 0 if there is none.
func stateOf(pid int) byte { return look(pid).state }
