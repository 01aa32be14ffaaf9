package lease

import "time"

// A clock is the process's own, which nobody can set: it is monotonic.
type clock interface {
	Now() time.Time
	AfterFunc(time.Duration, func()) timer
}

// A timer is one of package time.
type timer interface {
	Stop() bool
	Reset(time.Duration) bool
}

type monotonic struct{}

func (monotonic) Now() time.Time                            { return time.Now() }
func (monotonic) AfterFunc(d time.Duration, f func()) timer { return time.AfterFunc(d, f) }
