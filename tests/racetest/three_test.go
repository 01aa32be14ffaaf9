package racetest_test

import (
	"testing"

	"github.com/raceproof/raceproof/racetest"
)

func TestThree(t *testing.T) {
	each(t, func(t *testing.T, w *world) {
		for name, pattern := range patterns {
			t.Run(name, func(t *testing.T) {
				r, err := racetest.Run(t.Context(), racetest.Scenario{
					Open: w.connector, Setup: rows, Check: has(118, 100), Limit: 3000, Partial: true,
					Actors: racetest.Actors{"alice": w.adds(pattern, 5), "bob": w.adds(pattern, 10), "carol": w.adds(pattern, 3)},
				})
				t.Log(r, err)
			})
		}
	})
}
