//go:build unix

package servers

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// An owner is the user that a server runs as.
type owner struct {
	credential *syscall.Credential // nil is the user of this process
}

// unprivileged returns the user of this process, or if that is root, whom the servers refuse, another: the one that
// the server's package has made for it, else nobody.
func unprivileged(name string) (*owner, error) {
	if os.Geteuid() != 0 {
		return &owner{}, nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, err
		}
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &owner{&syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, nil
}

// folder makes a temporary folder for the user, and a claim to it that is held until the claim is closed.
func (o *owner) folder() (folder string, claim *os.File, err error) {
	parent, err := filepath.Abs(os.TempDir())
	if err != nil {
		return "", nil, err
	}
	if o.credential != nil && !open(parent) {
		return "", nil, fmt.Errorf("user %d, whom servers of root run as, cannot come to %s; set TMPDIR to a folder that is open to all",
			o.credential.Uid, parent)
	}
	sweep(parent)
	if folder, err = os.MkdirTemp(parent, prefix); err != nil {
		return "", nil, err
	}
	if claim, err = take(folder); err == nil && o.credential != nil {
		err = os.Chown(folder, int(o.credential.Uid), int(o.credential.Gid))
	}
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(folder))
	}
	return folder, claim, nil
}

// prefix is how the names of the folders begin.
const prefix = "raceproof-"

// take claims a folder: a lock that ends with this process, so that others know what they may remove. It has its name
// only once it is held.
func take(folder string) (*os.File, error) {
	path := filepath.Join(folder, "claim")
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if !lock(file) {
		err = errors.New("the claim is another's")
	}
	if err = errors.Join(err, os.Rename(path+".new", path)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// sweep removes the folders of processes that were killed.
func sweep(parent string) {
	claims, _ := filepath.Glob(filepath.Join(parent, prefix+"*", "claim"))
	for _, claim := range claims {
		file, err := os.OpenFile(claim, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue // it is another user's
		}
		if orphaned(file) {
			_ = os.RemoveAll(filepath.Dir(claim)) // as far as it is ours
		}
		_ = file.Close()
	}
}

// open tells whether everybody can go into a folder.
func open(folder string) bool {
	folder, err := filepath.EvalSymlinks(folder)
	for ; err == nil; folder = filepath.Dir(folder) {
		info, err := os.Stat(folder)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		if folder == filepath.Dir(folder) {
			return true
		}
	}
	return false
}
