package serial_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

func person(t *testing.T, w *world.World, id int64) (p Person) {
	t.Helper()
	require.NoError(t, w.Look.Get(&p, w.Look.Rebind(`SELECT * FROM people WHERE id = ?`), id))
	return p
}

func award(n int64) change[Person] {
	return change[Person]{
		func(_ context.Context, p *Person) error { p.Score += n; return nil },
		atomic.Set("score", atomic.F("score").Add(n)),
	}
}

func promote(n int64) change[Person] {
	return change[Person]{
		func(_ context.Context, p *Person) error { p.Level += n; return nil },
		atomic.Set("level", atomic.F("level").Add(n)),
	}
}

func rename(name string) change[Person] {
	return change[Person]{
		func(_ context.Context, p *Person) error { p.Name = name; return nil },
		atomic.Set("name", name),
	}
}

func join(team *int64) change[Person] {
	return change[Person]{
		func(_ context.Context, p *Person) error { p.Team = team; return nil },
		atomic.Set("team", team),
	}
}

// What a database refuses, of one caller among many.
var violations = []struct {
	name string
	of   change[Person]
}{
	{"check", award(-1_000_000)},
	{"unique", rename("Bob")},
	{"foreign key", join(new(int64))},
	{"range", promote(40_000)},
}

// What the database refuses is told to the caller whose change it is, as without the wrap. All others' changes are made.
func TestViolations(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		if w.Kind == "" {
			// SQLite looks at foreign keys only if a connection is told to, and at no ranges.
			w.Pool.SetMaxOpenConns(1)
			_, err := w.Pool.Exec(`PRAGMA foreign_keys = ON`)
			require.NoError(t, err)
		}
		score := int64(0)
		for _, p := range patterns(w, people) {
			for _, v := range violations {
				if w.Kind == "" && v.name == "range" {
					continue
				}
				about := p.name + ": " + v.name
				_, want := p.bare.Update(minute(t), 1, v.of)
				require.Error(t, want, about)
				good := func(key int) func() {
					return func() { _, err := p.Update(minute(t), key, award(1)); assert.NoError(t, err, about) }
				}
				open := gate(t, p)
				var c crowd
				c.queue(t, p, good(1))
				c.queue(t, p, good(2))
				c.queue(t, p, func() {
					got, err := p.Update(minute(t), 1, v.of)
					assert.Zero(t, got, about)
					if assert.Error(t, err, about) {
						assert.Equal(t, want.Error(), err.Error(), about)
						assert.Equal(t, w.Dialect.Classify(want), w.Dialect.Classify(err), about)
					}
				})
				c.queue(t, p, good(2))
				c.queue(t, p, good(1))
				open()
				c.Wait()
				score += 2
				for id, name := range map[int64]string{1: "Ada", 2: "Bob"} {
					assert.Equal(t, Person{ID: id, Name: name, Score: score, Version: score}, person(t, w, id), about)
				}
			}
		}
	})
}

// NULL where none may be.
func TestNotNull(t *testing.T) {
	type nullable struct {
		ID      int64   `db:"id"`
		N       *int64  `db:"n"`
		Note    *string `db:"note"`
		Version int64   `db:"version"`
	}
	table := raceproof.MustTable[nullable]("tallies")
	add := change[nullable]{
		func(_ context.Context, r *nullable) error { n := *r.N + 1; r.N = &n; return nil },
		atomic.Set("n", atomic.F("n").Add(1)),
	}
	null := change[nullable]{
		func(_ context.Context, r *nullable) error { r.N = nil; return nil },
		atomic.Set("n", (*int64)(nil)),
	}
	each(t, everywhere, func(t *testing.T, w *world.World) {
		n := int64(0)
		for _, p := range patterns(w, table) {
			_, want := p.bare.Update(minute(t), 1, null)
			require.Error(t, want, p.name)
			good := func() { _, err := p.Update(minute(t), 1, add); assert.NoError(t, err, p.name) }
			bad := func() { _, err := p.Update(minute(t), 1, null); assert.EqualError(t, err, want.Error(), p.name) }
			open := gate(t, p)
			var c crowd
			for _, call := range []func(){good, bad, good} {
				c.queue(t, p, call)
			}
			open()
			c.Wait()
			n += 2
			assert.Equal(t, Tally{ID: 1, N: n, Version: n}, tally(t, w, 1), p.name)
		}
	})
}

// A balance that only what comes in between makes negative: whatever is told is what one after the other could have been told.
func TestBetween(t *testing.T) {
	each(t, everywhere, func(t *testing.T, w *world.World) {
		for _, p := range patterns(w, people) {
			before := person(t, w, 1)
			rows, errs := make([]Person, 8), make([]error, 8)
			open := gate(t, p)
			var c crowd
			for i := range rows {
				c.queue(t, p, func() {
					by := int64(5)
					if i%2 == 0 {
						by = -5
					}
					rows[i], errs[i] = p.Update(minute(t), 1, award(by))
				})
			}
			open()
			c.Wait()
			after := person(t, w, 1)
			change, made := int64(0), int64(0)
			versions := map[int64]bool{}
			for i, err := range errs {
				switch {
				case i%2 == 1:
					assert.NoError(t, err, p.name)
					change += 5
				case err == nil:
					change -= 5
				default:
					continue
				}
				made++
				assert.GreaterOrEqual(t, rows[i].Score, int64(0), p.name)
				assert.False(t, versions[rows[i].Version], p.name)
				versions[rows[i].Version] = true
			}
			if p.name != "optimistic" { // whose callers can overtake each other
				assert.Error(t, errs[0], "%s: the first finds nothing", p.name)
			}
			assert.Equal(t, before.Score+change, after.Score, p.name)
			assert.Equal(t, before.Version+made, after.Version, p.name)
			w.Look.MustExec(`UPDATE people SET score = 0 WHERE id = 1`)
		}
	})
}
