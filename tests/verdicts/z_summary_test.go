package verdicts_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestSummary tells which codes the tests before it have seen: files are run in the order of their names.
func TestSummary(t *testing.T) {
	provoked.Lock()
	defer provoked.Unlock()
	for _, name := range slices.Sorted(maps.Keys(provoked.codes)) {
		codes := provoked.codes[name]
		slices.Sort(codes)
		t.Log(fmt.Sprintf("%-14s", name), strings.Join(codes, " "))
	}
}
