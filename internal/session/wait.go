package session

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/raceproof/raceproof/internal/dialect"
)

// The root package documents these under the same names.
var (
	ErrLocked   = errors.New("raceproof: locked by somebody else")
	ErrFinished = errors.New("raceproof: the transaction of this context is over")
)

// Ended returns nil while the context has not ended, and then an error that wraps both its error and its cause.
func Ended(ctx context.Context) error {
	err := ctx.Err()
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); !errors.Is(err, cause) {
		return fmt.Errorf("%w: %w", err, cause)
	}
	return err
}

// Sleep waits for d, or until the context ends, when it returns what Ended does.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return Ended(ctx)
	}
}

// Jitter returns a random duration up to d. Callers that failed together would otherwise come back together.
func Jitter(d time.Duration) time.Duration {
	return rand.N(d + 1)
}

// The pauses between two tries for a lock that another process holds. The first is about one transaction on a fast
// disk; the last bounds how long a free lock is not noticed.
const (
	firstPause = 500 * time.Microsecond
	lastPause  = 10 * time.Millisecond
)

// patiently calls f again as long as the database refuses it because of a lock that somebody outside the queue of
// writers holds. A statement so refused was not applied. It waits until the context ends or, for a context that cannot
// end, for as long as the connection would have waited by itself.
func (c *Conn) patiently(ctx context.Context, f func() error) error {
	var deadline time.Time
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		err := f()
		if err == nil || c.pool.dialect.Classify(err) != dialect.Busy {
			return err
		}
		if ctx.Done() == nil {
			if deadline.IsZero() {
				deadline = time.Now().Add(c.limit)
			}
			if !time.Now().Before(deadline) {
				return fmt.Errorf("%w: waited for %v, the connection's own limit: %w", ErrLocked, c.limit, err)
			}
		}
		if ended := Sleep(ctx, pause/2+Jitter(pause/2)); ended != nil {
			return fmt.Errorf("%w: %w: %w", ErrLocked, ended, err)
		}
	}
}
