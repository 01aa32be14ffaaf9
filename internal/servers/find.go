//go:build unix

package servers

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// find finds the binaries.
func (p *product) find() error {
	sets := [][]*string{{&p.creator}, {&p.server}}
	if p.together {
		sets = [][]*string{{&p.creator, &p.server}}
	}
	folders := p.folders()
	for _, set := range sets {
		i := slices.IndexFunc(folders, func(folder string) bool {
			return !slices.ContainsFunc(set, func(name *string) bool { return !executable(filepath.Join(folder, *name)) })
		})
		if i < 0 {
			return fmt.Errorf("%w: %s and %s are neither in PATH nor in %s; install the Debian package %s, or set %s "+
				"to the DSN of a running server, such as %s", ErrAbsent, filepath.Base(p.creator), filepath.Base(p.server),
				p.places, p.packages, p.variable, p.dsn(p.usualPort, ""))
		}
		for _, name := range set {
			*name = filepath.Join(folders[i], *name)
		}
	}
	return nil
}

// folders are the folders to look in; behind PATH the newest version comes first. If PATH is empty there are none, so
// that tests can do without the servers that are installed.
func (p *product) folders() []string {
	path := os.Getenv("PATH")
	if path == "" {
		return nil
	}
	more, _ := filepath.Glob(p.places) // the only error is a bad pattern
	slices.SortFunc(more, func(a, b string) int { return version(b) - version(a) })
	return append(filepath.SplitList(path), more...)
}

// version returns 15 for /usr/lib/postgresql/15/bin.
func version(folder string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(folder)))
	return n
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
