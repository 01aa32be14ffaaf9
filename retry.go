package raceproof

import (
	"fmt"
	"time"

	"github.com/raceproof/raceproof/internal/session"
)

// A RetryPolicy says how often something is attempted that the database refuses because of somebody else, and how long
// to pause before it is attempted again. It is a value that nothing changes: keep one in a variable and use it from
// anywhere. The zero value of each field stands for its default, so the zero policy is the default one: it gives up after
// about three seconds of conflicts.
type RetryPolicy struct {
	// MaxAttempts is how many attempts are made at the most, the first one included; the default is 64. 1 means that nothing
	// is attempted again.
	MaxAttempts int

	// MinPause is the longest pause after the first attempt; each further one doubles it, up to MaxPause. The pause is a
	// random part of that, so that callers who failed together do not come back together. The defaults are 1 and 100
	// milliseconds. Nothing is held during a pause, neither a connection nor a lock.
	MinPause, MaxPause time.Duration

	// Budget is how many further attempts each call adds to what all callers of one DB with an equal policy may make together.
	// What is not used is saved, for up to 100 calls, which is also what there is at first. When all of it is used up calls
	// fail with ErrRetryBudget after an attempt that would have been made again. So many callers who get in each other's way
	// do not multiply what the database has to do by MaxAttempts, but by 1 + Budget at the most; 3 to 10 is usual. At most
	// 1,000,000. The default, 0, is that there is no such limit.
	Budget int
}

// ErrRetryBudget is wrapped by a [RetryError] besides what the last attempt failed with, if it was not made again because
// the budget of the [RetryPolicy] is used up.
var ErrRetryBudget = session.ErrRetryBudget

// A RetryError reports that something was tried more than once, or could have been, and was given up. It wraps the
// failure of the last attempt and, if it is something else that ended the attempts, that: the context's error and
// cause, or ErrRetryBudget.
type RetryError struct {
	Attempts int   // how many attempts were made, at least 1
	Last     error // what the last attempt failed with
	Ended    error // the context's error and cause, or ErrRetryBudget; nil if the attempts were used up
}

// Error describes the failure and tells the attempts.
func (e *RetryError) Error() string {
	attempts := "attempts"
	if e.Attempts == 1 {
		attempts = "attempt"
	}
	if e.Ended != nil {
		return fmt.Sprintf("%v (given up after %d %s: %v)", e.Last, e.Attempts, attempts, e.Ended)
	}
	return fmt.Sprintf("%v (given up after %d %s)", e.Last, e.Attempts, attempts)
}

// Unwrap returns the failure of the last attempt and, if there is one, what else ended the attempts.
func (e *RetryError) Unwrap() []error {
	if e.Ended != nil {
		return []error{e.Last, e.Ended}
	}
	return []error{e.Last}
}
