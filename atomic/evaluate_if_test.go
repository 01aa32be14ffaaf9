package atomic_test

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof/atomic"
)

func TestEvaluateConditions(t *testing.T) {
	maybe2 := atomic.F("maybe_small")
	null, yes, no := maybe.Gt(1), a.Gt(1), a.Lt(1)
	conditions := map[string]struct {
		condition atomic.Condition
		holds     bool
	}{
		"=": {a.Eq(7), true}, "= not": {a.Eq(8), false},
		"<>": {a.Ne(8), true}, "<> not": {a.Ne(7), false},
		"<": {a.Lt(8), true}, "< not": {a.Lt(7), false},
		"<=": {a.Le(7), true}, "<= not": {a.Le(6), false},
		">": {a.Gt(6), true}, "> not": {a.Gt(7), false},
		">=": {a.Ge(7), true}, ">= not": {a.Ge(8), false},
		"two columns": {a.Gt(b), true}, "literals": {atomic.Value(1).Lt(2), true},
		"arithmetic": {a.Sub(3).Gt(3), true},
		"NULL":       {null, false}, "NULL behind": {a.Gt(maybe), false}, "not NULL": {atomic.Not(null), false}, "not not NULL": {atomic.Not(atomic.Not(null)), false},
		"not": {atomic.Not(no), true}, "not yes": {atomic.Not(yes), false},
		"is NULL": {maybe.IsNull(), true}, "is not": {maybe.IsNotNull(), false},
		"another": {maybe2.IsNull(), false}, "computed": {maybe.Add(1).IsNull(), true}, "never": {a.Add(1).IsNotNull(), true},
		"yes and yes": {yes.And(yes), true}, "yes and no": {yes.And(no), false}, "no and yes": {no.And(yes), false},
		"yes and NULL": {yes.And(null), false}, "not (no and NULL)": {atomic.Not(no.And(null)), true},
		"not (yes and NULL)": {atomic.Not(yes.And(null)), false},
		"yes or no":          {yes.Or(no), true}, "no or yes": {no.Or(yes), true}, "no or no": {no.Or(no), false},
		"NULL or yes": {null.Or(yes), true}, "no or NULL": {no.Or(null), false}, "not (no or NULL)": {atomic.Not(no.Or(null)), false},
	}
	cases := map[string]evaluation{}
	for name, c := range conditions {
		e := evaluation{atomic.Set("a", 1).If(c.condition), "rrr", nil}
		if c.holds {
			e.want, e.makes = "aaa", func(x *tally) { x.A = 1 }
		}
		cases[name] = e
	}
	check(t, cases)
}

// What the database can meet an error in, where the condition does not hold too.
func TestEvaluateErrorsInConditions(t *testing.T) {
	never, set := a.Lt(0), atomic.Set("a", 1)
	check(t, map[string]evaluation{
		"an overflow":                     {set.If(a.Add(most).Gt(0)), "---", nil},
		"behind what is false":            {set.If(never).If(a.Add(most).Gt(0)), "---", nil},
		"before what is true":             {set.If(a.Add(most).Gt(0).Or(a.Gt(0))), "---", nil},
		"in a test for NULL":              {set.If(a.Add(most).IsNull()), "---", nil},
		"of the row in what is set":       {atomic.Set("a", a.Add(most)).If(never), "rrr", nil},
		"of literals in what is set":      {atomic.Set("a", atomic.Value(1).Add(most)).If(never), "---", nil},
		"a part of literals":              {atomic.Set("a", a.Add(atomic.Value(1).Add(most))).If(never), "---", nil},
		"fractions of literals":           {atomic.Set("ratio", atomic.Value(1e308).Mul(10)).If(never), "---", nil},
		"of literals that a column holds": {atomic.Set("a", atomic.Value(3).Add(4)).If(never), "rrr", nil},
		"a large literal":                 {atomic.Set("a", 32768).If(never), "rr-", nil},
		"a large literal, a large column": {atomic.Set("big", most).If(never), "rrr", nil},
		"a default that is left out":      {atomic.Set("a", atomic.Value(32768).Coalesce(b)).If(never), "rr-", nil},
		"and what is computed of it":      {atomic.Set("a", atomic.Value(most).Coalesce(b).Add(1)).If(never), "---", nil},
		"a default that can be needed":    {atomic.Set("a", b.Coalesce(32768)).If(never), "rrr", nil},
		"a column that is not exact":      {atomic.Set("doubt", 1).If(never), "rr-", nil},
		"a text":                          {atomic.Set("name", "y").If(never), "rr-", nil},
		"a text that is none":             {atomic.Set("name", "\xff").If(never), "---", nil},
		"a bool":                          {atomic.Set("done", true).If(never), "rr-", nil},
		"NULL":                            {atomic.Set("at", nil).If(never), "rrr", nil},
		"a time":                          {atomic.Set("at", time.Unix(0, 0)).If(never), "---", nil},
		"a value of their own":            {atomic.Set("name", odd("y")).If(never), "---", nil},
		"a number of their own":           {atomic.Set("cents", cents(5)).If(never), "---", nil},
		"a default for a text":            {atomic.Set("name", atomic.F("alias").Coalesce("y")).If(never), "rr-", nil},
		"fractions of a column":           {atomic.Set("ratio", atomic.F("ratio").Mul(2)).If(never), "rrr", nil},
		"one of two":                      {atomic.Set("a", 1).Set("b", atomic.Value(1).Add(most)).If(never), "---", nil},
		"a swap":                          {atomic.Set("a", b).Set("b", a).If(never), "r-r", nil},

		// MariaDB puts 5 in the place of a.
		"equal, and computed":         {set.If(a.Eq(5)).If(a.Add(1).Gt(0)), "r-r", nil},
		"equal behind, and computed":  {set.If(atomic.Not(a.Add(1).IsNull()).Or(atomic.Value(5).Eq(b))), "a-a", func(x *tally) { x.A = 1 }},
		"computed, and not equal":     {set.If(a.Add(1).Gt(0)).If(a.Ne(7)), "rrr", nil},
		"computed, and equal to that": {set.If(a.Add(1).Eq(8)), "aaa", func(x *tally) { x.A = 1 }},
	})
}

// A row in which an integer has no place.
func TestEvaluateUnsigned(t *testing.T) {
	for i := range 3 {
		row := counted
		row.Big = math.MaxInt64 + 1
		assert.Equal(t, byte('-'), evaluated(t, i, atomic.Set("a", atomic.F("big").Sub(2)), &row))
		assert.Equal(t, byte('-'), evaluated(t, i, atomic.Set("a", 1).If(atomic.F("big").Gt(2)), &row))
		assert.Equal(t, byte('a'), evaluated(t, i, atomic.Set("big", 2), &row))
		assert.Equal(t, uint64(2), row.Big)
	}
}

func TestSize(t *testing.T) {
	for want, change := range map[int]atomic.Change{
		0:        {},
		16:       atomic.Set("a", 1),
		32:       atomic.Set("a", 1).Set("b", b),
		48:       atomic.Set("a", a.Add(1)),
		16 + 100: atomic.Set("name", string(make([]byte, 100))),
		16 + 200: atomic.Set("bytes", make([]byte, 200)),
		16 + 64:  atomic.Set("a", 1).If(atomic.Not(a.Eq(1))),
		16 + 128: atomic.Set("a", 1).If(a.Eq(1).Or(a.Add(1).IsNull())),
	} {
		assert.Equal(t, want, change.Size(), change)
	}
}
