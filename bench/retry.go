package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// errOver is what an update is given up with that would have to try again when its turn is over.
var errOver = errors.New("the turn is over")

// again comes between two attempts of an optimistic update, of which there were some already. A pause is a random part
// of a length that doubles from attempt to attempt, from 1 to 64 milliseconds.
func (j job) again(ctx context.Context, attempts int) error {
	if j.over.Load() {
		return errOver
	}
	if !j.pause {
		return ctx.Err()
	}
	t := time.NewTimer(rand.N(time.Millisecond << min(attempts-1, 6)))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
