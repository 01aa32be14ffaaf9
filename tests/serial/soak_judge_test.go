package serial_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

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
	rows, audit, keys := map[string]*soakHistory{}, map[int64]*soakCall{}, map[int64]*soakCall{}
	t := soakTally{errors: map[string]int{}}
	for _, c := range s.callers {
		for _, call := range c.calls {
			switch call.is() {
			case soakApplied:
				t.applied++
			case soakUnknown:
				t.unknown++
			default:
				t.refused++
			}
			if call.err != nil {
				t.errors[call.by.name+": "+soakClass(call.err)]++
			}
			call.enter(rows)
			if call.kind >= soakAudits && call.kind <= soakTwo {
				audit[call.id] = call
			}
			if call.keyed {
				keys[call.id] = call
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

// What a caller was told.
const (
	soakRefused = iota
	soakApplied
	soakUnknown
)

// is returns what the caller was told. If he has asked again, an error is about the last time only.
func (c *soakCall) is() int {
	switch {
	case c.err == nil:
		return soakApplied
	case c.unknown || errors.Is(c.err, raceproof.ErrCommitUnknown):
		return soakUnknown
	}
	return soakRefused
}

// enter adds a call to the histories of its rows.
func (c *soakCall) enter(rows map[string]*soakHistory) {
	add := func(id, delta int64, row soakRow) {
		name := fmt.Sprintf("%s WHERE id = %d", c.by.table, id)
		h := rows[name]
		if h == nil {
			h = &soakHistory{}
			rows[name] = h
		}
		switch c.is() {
		case soakApplied:
			h.steps = append(h.steps, soakStep{delta, row.N, row.Version})
		case soakUnknown:
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
			if assert.GreaterOrEqual(s, i, 0, "%s: nobody can have made version %d, which added %d: %v", name, step.version-1, by, s.who(by)) {
				h.unknown = slices.Delete(h.unknown, i, i+1)
				missing--
			}
		}
		n, version = step.n, step.version
	}
	assert.LessOrEqual(s, missing, int64(len(h.unknown)), "%s: changes that nobody can have made", name)
}

// who returns the calls that were to add so much.
func (s *soak) who(delta int64) (calls []*soakCall) {
	for _, c := range s.callers {
		for _, call := range c.calls {
			if call.delta == delta || call.otherDelta == delta {
				calls = append(calls, call)
			}
		}
	}
	return calls
}

// judgeAudit finds each line once that must be there, and none that must not.
func (s *soak) judgeAudit(calls map[int64]*soakCall) {
	var ids []int64
	require.NoError(s, s.look.Select(&ids, `SELECT id FROM audit`))
	there := map[int64]int{}
	for _, id := range ids {
		there[id]++
	}
	for id, n := range there {
		assert.Contains(s, calls, id, "it is in the audit, and was not to be")
		assert.Equal(s, 1, n, "%d is in the audit so often", id)
	}
	s.judgeIDs(calls, there, "the audit")
}

// judgeKeys does the same with the keys of once.
func (s *soak) judgeKeys(calls map[int64]*soakCall) {
	var ids []string
	require.NoError(s, s.look.Select(&ids, `SELECT id FROM raceproof_once`))
	there := map[int64]int{}
	for _, text := range ids {
		if id, err := strconv.ParseInt(text, 10, 64); err == nil { // or it is a random one
			there[id]++
		}
	}
	s.judgeIDs(calls, there, "the keys")
}

func (s *soak) judgeIDs(calls map[int64]*soakCall, there map[int64]int, where string) {
	for id, call := range calls {
		is := call.is()
		assert.False(s, is == soakApplied && there[id] == 0, "%v: it was acknowledged, and is not among %s", call, where)
		assert.False(s, is == soakRefused && there[id] > 0, "%v: it was refused, and is among %s", call, where)
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
	groups := map[string]uint64{}
	for i, p := range s.processes {
		for _, u := range p.updaters {
			stats := u.Stats()
			s.Logf("process %d, %s of %s: %+v", i, u.name, u.table, stats)
			assert.Zero(s, stats.Waiting+stats.WaitingBytes)
			groups[u.name] += stats.Groups
		}
	}
	for _, class := range slices.Sorted(maps.Keys(t.errors)) {
		s.Logf("%8d %s", t.errors[class], class)
	}
	for _, name := range []string{"lock", "once", "atomic"} { // those of optimistic find rows changed: in seconds there may be none
		assert.Positive(s, groups[name], name)
	}
	assert.Positive(s, t.applied)
	assert.Positive(s, t.refused)
	assert.Equal(s, s.proxy != nil, t.unknown > 0, "answers that were lost")
}
