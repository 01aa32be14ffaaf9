package conformance

import (
	"context"
	"sync"
	"testing"

	"github.com/raceproof/raceproof"
)

// Mixed has all patterns change one row at the same time, and fails if an update is lost: every pattern must raise the
// version, or the checks of those that rely on it are worthless.
func Mixed(t *testing.T, open Open, patterns []Pattern) {
	s := newSubject(t, open, Pattern{})
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var updaters []raceproof.Updater[Account, int64]
	for _, p := range patterns {
		updaters = append(updaters, p.Add(s.db))
	}
	const each = 4
	var wg sync.WaitGroup
	for w := range each * len(updaters) {
		wg.Go(func() {
			for range updates {
				if _, err := updaters[w%len(updaters)].Update(ctx, 1, 1); err != nil {
					t.Errorf("%s: %v", patterns[w%len(updaters)].Name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	n := int64(each * len(updaters) * updates)
	if err := s.is(Account{ID: 1, Balance: n, Version: n}); err != nil {
		t.Error(err)
	}
}
