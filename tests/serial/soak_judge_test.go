package serial_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
)

// A soakStep is one change of a row that a caller was told of: by how much, and what the row was then.
type soakStep struct{ delta, n, version int64 }

// A soakHistory is all of a row's.
type soakHistory struct {
	steps   []soakStep
	unknown []int64 // by how much those would have changed it of which it is not known if they did
}

// A soakTally counts what callers were told.
type soakTally struct {
	applied, refused, unknown int
	errors                    map[string]int
}

// judge holds what is in the database against what the callers were told.
func (s *soak) judge() {
	rows, audit, keys := map[string]*soakHistory{}, map[int64]int{}, map[string]int{}
	t := soakTally{errors: map[string]int{}}
	for _, c := range s.callers {
		for _, call := range c.calls {
			is := 0
			switch {
			case call.err == nil:
				t.applied++
				is = 1
			case errors.Is(call.err, raceproof.ErrCommitUnknown):
				t.unknown++
				is = -1
			default:
				t.refused++
			}
			if call.err != nil {
				t.errors[call.by.name+": "+soakClass(call.err)]++
			}
			call.enter(rows, is)
			if call.kind >= soakAudits && call.kind <= soakTwo {
				audit[call.id] = is
			}
			if call.keyed {
				keys[fmt.Sprint(call.id)] = is
			}
		}
	}
	for name, h := range rows {
		h.judge(s, name)
	}
	s.judgeAudit(audit)
	s.judgeKeys(keys)
	s.report(t)
}

// enter adds a call to the histories of its rows: is 1 if it was made, and -1 if that is not known.
func (c *soakCall) enter(rows map[string]*soakHistory, is int) {
	add := func(id, delta int64, row soakRow) {
		name := fmt.Sprintf("%s WHERE id = %d", c.by.table, id)
		h := rows[name]
		if h == nil {
			h = &soakHistory{}
			rows[name] = h
		}
		switch is {
		case 1:
			h.steps = append(h.steps, soakStep{delta, row.N, row.Version})
		case -1:
			h.unknown = append(h.unknown, delta)
		}
	}
	add(c.row, c.delta, c.result)
	if c.kind == soakTwo {
		add(c.otherRow, c.otherDelta, c.other)
	}
}

// judge follows a row from change to change: each has made of what the one before has left what its caller was told. Where
// one is missing it must be one of which it is not known.
func (h *soakHistory) judge(s *soak, name string) {
	var last soakRow
	require.NoError(s, s.look.Get(&last, `SELECT * FROM `+name))
	slices.SortFunc(h.steps, func(a, b soakStep) int { return int(a.version - b.version) })
	h.steps = append(h.steps, soakStep{0, last.N, last.Version + 1}) // the end
	var n, version, missing int64
	for _, step := range h.steps {
		gap, by := step.version-version-1, step.n-step.delta-n
		missing += gap
		switch {
		case gap < 0:
			assert.Fail(s, "two were told the same version", "%s: %d", name, step.version)
		case gap == 0:
			assert.Zero(s, by, "%s: a change was lost, or made twice, before version %d", name, step.version)
		case gap == 1:
			i := slices.Index(h.unknown, by)
			if assert.GreaterOrEqual(s, i, 0, "%s: nobody can have made version %d, which added %d", name, step.version-1, by) {
				h.unknown = slices.Delete(h.unknown, i, i+1)
				missing--
			}
		}
		n, version = step.n, step.version
	}
	assert.LessOrEqual(s, missing, int64(len(h.unknown)), "%s: changes that nobody can have made", name)
}

// judgeAudit finds each line once that must be there, and none that must not.
func (s *soak) judgeAudit(want map[int64]int) {
	var ids []int64
	require.NoError(s, s.look.Select(&ids, `SELECT id FROM audit`))
	there := map[int64]int{}
	for _, id := range ids {
		there[id]++
	}
	for id, n := range there {
		is, known := want[id]
		assert.True(s, known && is != 0, "%d is in the audit, and was not to be", id)
		assert.Equal(s, 1, n, "%d is in the audit so often", id)
	}
	for id, is := range want {
		assert.False(s, is == 1 && there[id] == 0, "%d was acknowledged, and is not in the audit", id)
	}
}

// judgeKeys does the same with the keys of once.
func (s *soak) judgeKeys(want map[string]int) {
	var ids []string
	require.NoError(s, s.look.Select(&ids, `SELECT id FROM raceproof_once`))
	there := map[string]bool{}
	for _, id := range ids {
		there[id] = true
		if is, ours := want[id]; ours {
			assert.NotZero(s, is, "key %s is there, and its update was refused", id)
		}
	}
	for id, is := range want {
		assert.False(s, is == 1 && !there[id], "key %s is not there, and its update was acknowledged", id)
	}
}

// soakClass is what an error is about, without what is different in each.
func soakClass(err error) string {
	var is []string
	for _, e := range []error{raceproof.ErrConflict, raceproof.ErrLocked, raceproof.ErrConditionFailed, raceproof.ErrOutOfRange, raceproof.ErrFinished,
		raceproof.ErrCommitUnknown, raceproof.ErrOverloaded, raceproof.ErrClosed, raceproof.ErrNotFound, errSoak} {
		if errors.Is(err, e) {
			is = append(is, strings.TrimPrefix(e.Error(), "raceproof: "))
		}
	}
	if is != nil {
		return strings.Join(is, ", ")
	}
	_, text, _ := strings.Cut(err.Error(), " with key ")
	_, text, _ = strings.Cut(text, ": ")
	if text == "" {
		text = err.Error()
	}
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return '#'
		}
		return r
	}, text)
}

func (s *soak) report(t soakTally) {
	fired := 0
	for _, rule := range s.rules {
		fired += rule.Fired()
	}
	s.Logf("%s: %d updates: %d applied, %d not applied, %d unknown; %d connections killed, %d statements or answers disturbed",
		s.fresh.Name, t.applied+t.refused+t.unknown, t.applied, t.refused, t.unknown, s.kills.Load(), fired)
	for i, p := range s.processes {
		for _, u := range p.updaters {
			stats := u.Stats()
			s.Logf("process %d, %s of %s: %+v", i, u.name, u.table, stats)
			assert.Zero(s, stats.Waiting+stats.WaitingBytes)
			if u.table == "plain" && !testing.Short() {
				assert.Positive(s, stats.Groups, "%s", u.name)
			}
		}
	}
	for _, class := range slices.Sorted(maps.Keys(t.errors)) {
		s.Logf("%8d %s", t.errors[class], class)
	}
	assert.Positive(s, t.applied)
	assert.Positive(s, t.refused)
	assert.Equal(s, s.proxy != nil, t.unknown > 0, "answers that were lost")
}
