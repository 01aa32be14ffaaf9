package serial

import (
	"fmt"
)

// An Option limits an updater.
type Option func(*limits)

type limits struct {
	group, groupBytes     int
	waiting, waitingBytes int
}

var defaults = limits{group: 1024, groupBytes: 1 << 20, waiting: 100_000, waitingBytes: 64 << 20}

// GroupLimit is how many callers are served by one transaction at the most. The default is 1,024.
func GroupLimit(callers int) Option { return func(l *limits) { l.group = callers } }

// GroupBytes is how many bytes one transaction's changes, and the rows that they are made of, take at the most, as far as Go
// knows; whoever is beyond that goes into the next group, and the first one is in any case. The default is 1 MiB.
func GroupBytes(bytes int) Option { return func(l *limits) { l.groupBytes = bytes } }

// MaxWaiting is how many callers may wait in this process; another one is told raceproof.ErrOverloaded. The default is 100,000.
func MaxWaiting(callers int) Option { return func(l *limits) { l.waiting = callers } }

// MaxWaitingBytes is how many bytes those who wait may hold, as Stats counts them; a caller who would make it more is told
// raceproof.ErrOverloaded, unless nobody waits. The default is 64 MiB.
func MaxWaitingBytes(bytes int) Option { return func(l *limits) { l.waitingBytes = bytes } }

func (l limits) check() error {
	for _, limit := range []struct {
		name  string
		value int
	}{{"GroupLimit", l.group}, {"GroupBytes", l.groupBytes}, {"MaxWaiting", l.waiting}, {"MaxWaitingBytes", l.waitingBytes}} {
		if limit.value <= 0 {
			return fmt.Errorf("%s is %d: it must be positive", limit.name, limit.value)
		}
	}
	return nil
}

// Stats are what an updater has done since it was made, and what waits in it.
type Stats struct {
	// Waiting is how many callers wait at this moment, and WaitingBytes what they hold: what this package needs for each of them,
	// their keys, a row, and the values in changes of package atomic. What a Go function holds it does not know.
	Waiting, WaitingBytes int

	Groups       uint64 // transactions that were committed for those who waited
	Grouped      uint64 // the callers that were served by those
	Alone        uint64 // callers who ran their updates themselves
	LargestGroup int    // how many callers one group has served at the most
}
