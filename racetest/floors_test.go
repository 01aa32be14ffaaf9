package racetest_test

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const module = "github.com/raceproof/raceproof/racetest"

// floors are the packages from the bottom up. A package imports only packages of lower floors.
var floors = []string{"/internal/search", "/internal/statement", "/internal/tap", "/internal/waits", ""}

// Of others' modules there is one, and of ours none: who wants racetest takes nothing else.
func wrong(pkg string, imports []string) (wrong []string) {
	floor := slices.Index(floors, strings.TrimPrefix(pkg, module))
	for _, path := range imports {
		own, is := strings.CutPrefix(path, module)
		switch {
		case is && slices.Index(floors, own) < floor && slices.Contains(floors, own):
		case path == "github.com/anishathalye/porcupine" && floor == len(floors)-1:
		case !strings.Contains(strings.Split(path, "/")[0], "."): // the standard library
		default:
			wrong = append(wrong, path)
		}
	}
	return wrong
}

func TestFloors(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	require.NoError(t, err)
	packages := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; packages++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); err == io.EOF {
			break
		}
		assert.Contains(t, floors, strings.TrimPrefix(p.ImportPath, module))
		assert.Empty(t, wrong(p.ImportPath, p.Imports), p.ImportPath)
	}
	assert.Equal(t, len(floors), packages)
}

func TestFloorsCanBreak(t *testing.T) {
	for _, c := range [][2]string{
		{"", "github.com/raceproof/raceproof"},
		{"", "github.com/mattn/go-sqlite3"},
		{"/internal/search", module + "/internal/statement"},
		{"/internal/tap", module + "/internal/tap"},
		{"/internal/tap", "github.com/anishathalye/porcupine"},
		{"/internal/waits", module},
	} {
		assert.Len(t, wrong(module+c[0], []string{c[1]}), 1, "%v", c)
	}
}
