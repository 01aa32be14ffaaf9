package raceproof_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The README's first program is the tested Example.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	example, err := os.ReadFile("example_test.go")
	require.NoError(t, err)
	_, block, found := strings.Cut(string(readme), "```go\n")
	require.True(t, found)
	block, _, found = strings.Cut(block, "```")
	require.True(t, found)
	lines := strings.Split(strings.TrimSuffix(block, "\n"), "\n")
	assert.LessOrEqual(t, len(lines), 20)
	assert.Contains(t, string(example), "\t"+strings.Join(lines, "\n\t")+"\n")
}
