package hermitage_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestControls holds the test to what must make it fail.
func TestControls(t *testing.T) {
	eachServer(t, func(t *testing.T, w *watch) {
		committed := at(t, w.server, "read committed")
		fails := func(s scenario, l level, want string, says ...string) {
			t.Helper()
			_, err := s.try(t.Context(), w.pool, w, l, want)
			for _, part := range append(says, "what happened:") {
				require.ErrorContains(t, err, part)
			}
		}
		_, err := lostUpdate.try(t.Context(), w.pool, w, committed, possible)
		require.NoError(t, err)
		fails(lostUpdate, committed, prevented, "the grid says ✓, and it is —", "waits, wrote 1")
		fails(circularFlow, committed, possible, "the grid says —, and it is ✓")

		wrong := lostUpdate
		wrong.script = strings.ReplaceAll(wrong.script, "waits, wrote 1", "wrote 1")
		fails(wrong, committed, possible, "step 6, T2 UPDATE test SET value = 12 WHERE id = 1: waits, wrote 1; the script")

		wrong = dirtyWrites
		wrong.happened = func(*history) bool { return true }
		fails(wrong, committed, possible, "it is no anomaly", "[T1 T2]")

		// Called serializable, which it is not. The outcomes are those of its own level.
		committed.name = "serializable"
		fails(lostUpdate, committed, possible, "it is not serializable")

		wrong = lostUpdate
		wrong.script = strings.ReplaceAll(wrong.script, "T1 COMMIT", "T3 BEGIN")
		fails(wrong, committed, possible, "T2 UPDATE test SET value = 12 WHERE id = 1 still waits", "T2 UPDATE")
	})
}

// TestScripts has scripts refused that are not complete.
func TestScripts(t *testing.T) {
	for broken, says := range map[string]string{
		"| p-rc\nT1 BEGIN": "the columns are for [p-rc]",
		"| p-rc p-rr p-s m-ru m-rc m-rr m-si | m-s\nT1 SELECT | a | b | c": "has 4 columns, its head has 3",
	} {
		_, err := scenario{name: "broken", script: broken}.steps()
		require.ErrorContains(t, err, says)
	}
	_, err := readGrid("| server | level | P4 |\n|:--|:--|:-:|\n| a | b |")
	require.ErrorContains(t, err, "has 2 columns, the head has 3")
}

// at is a level by its name.
func at(t *testing.T, server, name string) level {
	i := slices.IndexFunc(levels, func(l level) bool { return l.server == server && l.name == name })
	require.GreaterOrEqual(t, i, 0)
	return levels[i]
}
