package atomic_test

import (
	"database/sql/driver"
	"encoding/json"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/atomic"
)

// price has a conversion of its own, to a text.
type price string

func (p price) Value() (driver.Value, error) { return string(p), nil }

// Package once compares changes by these texts, and has stored what it compares with: they must stay what they are.
func TestChangeString(t *testing.T) {
	east := time.FixedZone("east", 5*3600)
	noon := time.Date(2024, 3, 1, 12, 0, 0, 120_000_000, time.UTC)
	for want, change := range map[string]atomic.Change{
		"":                        {},
		"a = 3":                   atomic.Set("a", 3),
		"b = -3":                  atomic.Set("b", int8(-3)),
		"a = 9223372036854775807": atomic.Set("a", uint64(math.MaxInt64)),
		"a = 4":                   atomic.Set("a", ptr(4)),
		"cents = 5":               atomic.Set("cents", cents(5)),
		`cents = "12.50"`:         atomic.Set("cents", price("12.50")),
		"ratio = 2.5f":            atomic.Set("ratio", 2.5),
		"ratio = 1e+100f":         atomic.Set("ratio", 1e100),
		"ratio = 0.1f":            atomic.Set("ratio", 0.1),
		`name = "it's \"x\"\x00"`: atomic.Set("name", "it's \"x\"\x00"),
		`name = ""`:               atomic.Set("name", ""),
		"name = x'00ff41'":        atomic.Set("name", []byte("\x00\xffA")),
		"name = x''":              atomic.Set("name", []byte{}),
		"maybe = true":            atomic.Set("maybe", true),
		"maybe = NULL":            atomic.Set("maybe", nil),
		"maybe_real = NULL":       atomic.Set("maybe_real", (*float64)(nil)),
		"at = 2024-03-01T12:00:00.12Z": atomic.Set("at",
			noon.In(east)),

		"a = F(b)":           atomic.Set("a", b),
		"a = F(a).Add(3)":    atomic.Set("a", a.Add(3)),
		"a = F(a).Sub(F(b))": atomic.Set("a", a.Sub(b)),
		"a = F(a).Mul(-2)":   atomic.Set("a", a.Mul(-2)),
		"a = F(a).Div(F(b))": atomic.Set("a", a.Div(b)),
		"a = F(a).Mod(7)":    atomic.Set("a", a.Mod(7)),
		"a = 0.Sub(F(b))":    atomic.Set("a", b.Neg()),
		"maybe = F(maybe).Coalesce(40).Add(2)": atomic.Set("maybe",
			maybe.Coalesce(40).Add(2)),
		"a = F(a).Add(1).Mul(2)":       atomic.Set("a", a.Add(1).Mul(2)),
		"a = F(a).Add(1.Mul(2))":       atomic.Set("a", a.Add(atomic.Value(1).Mul(2))),
		"a = 1, b = F(a), name = F(b)": atomic.Set("a", 1).Set("b", a).Set("name", b),

		"a = 1 IF (F(a) = 2)":                              atomic.Set("a", 1).If(a.Eq(2)),
		"a = 1 IF (F(a) <> F(b))":                          atomic.Set("a", 1).If(a.Ne(b)),
		"a = 1 IF (F(a) < 2)":                              atomic.Set("a", 1).If(a.Lt(2)),
		"a = 1 IF (F(a) <= 2)":                             atomic.Set("a", 1).If(a.Le(2)),
		"a = 1 IF (F(a) > 2)":                              atomic.Set("a", 1).If(a.Gt(2)),
		"a = 1 IF (F(a).Add(1) >= 2)":                      atomic.Set("a", 1).If(a.Add(1).Ge(2)),
		"a = 1 IF (F(maybe) IS NULL)":                      atomic.Set("a", 1).If(maybe.IsNull()),
		"a = 1 IF NOT (F(a) = 2)":                          atomic.Set("a", 1).If(atomic.Not(a.Eq(2))),
		`a = 1 IF (F(name) = "x")`:                         atomic.Set("a", 1).If(atomic.F("name").Eq("x")),
		"a = 1 IF ((F(maybe) IS NOT NULL) AND (F(a) = 2))": atomic.Set("a", 1).If(maybe.IsNotNull()).If(a.Eq(2)),
		"a = 1 IF (((F(a) = 1) OR (F(b) = 2)) AND (F(a) = 3))": atomic.Set("a", 1).
			If(a.Eq(1).Or(b.Eq(2)).And(a.Eq(3))),
		"a = 1 IF ((F(a) = 1) OR ((F(b) = 2) AND (F(a) = 3)))": atomic.Set("a", 1).
			If(a.Eq(1).Or(b.Eq(2).And(a.Eq(3)))),

		// What is refused when it is used can be shown.
		"a = an Expr is empty: begin with F or Value":                   atomic.Set("a", atomic.Expr{}),
		"a = a Condition stands where a value must":                     atomic.Set("a", a.Eq(1)),
		"a = 1 IF a Condition is empty: make one by comparing an Expr":  atomic.Set("a", 1).If(atomic.Condition{}),
		"a = value of type chan int: unsupported type chan int, a chan": atomic.Set("a", make(chan int)),
	} {
		for range 2 {
			assert.Equal(t, want, change.String())
			text, err := json.Marshal(change)
			require.NoError(t, err)
			var back string
			require.NoError(t, json.Unmarshal(text, &back))
			assert.Equal(t, want, back, "what package once hashes")
		}
	}
}

// The same instant is the same text, wherever the process runs and however the time was come by.
func TestChangeStringOfTimes(t *testing.T) {
	now := time.Now() // with a reading of the monotonic clock
	want := atomic.Set("at", now.Round(0).UTC()).String()
	for name, same := range map[string]time.Time{
		"as it is": now, "local": now.Local(), "east": now.In(time.FixedZone("east", 5*3600)), "west": now.In(time.FixedZone("", -7*1800)),
		"read back": time.Unix(0, now.UnixNano()),
	} {
		assert.Equal(t, want, atomic.Set("at", same).String(), name)
		assert.Equal(t, want, atomic.Set("at", &same).String(), name)
	}
	assert.NotEqual(t, want, atomic.Set("at", now.Add(1)).String())
}
