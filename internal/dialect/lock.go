package dialect

import (
	"fmt"
	"time"
)

// A Strength is what a row's lock keeps others from.
type Strength int

// The strengths. Default is the weakest lock of the database's that keeps others from changing the row.
const (
	Default Strength = iota
	KeyShare
	Share
	NoKeyUpdate
	Update
)

func (s Strength) String() string {
	names := []string{"default", "KeyShare", "Share", "NoKeyUpdate", "Update"}
	if s < Default || int(s) >= len(names) {
		return fmt.Sprintf("Strength(%d)", int(s))
	}
	return names[s]
}

// A Wait is how long a lock is waited for that somebody else holds. The zero value is for as long as the context lasts.
type Wait struct {
	None   bool          // not at all
	AtMost time.Duration // 0 is no limit
}

// Locking is how a SELECT is asked to lock its rows.
type Locking struct {
	Wait
	SkipLocked bool
	Strength   Strength
	Of         string // the table, if it is to be named
	First      bool   // by an UPDATE before it
}

// locks is how a database locks rows.
type locks struct {
	// Lock is the end of a SELECT that locks its rows: as weakly as keeps others from changing them.
	Lock Fragment

	// strengths are the ends of a SELECT by what is asked for. A database that has none has no locks of rows, and its
	// transactions lock as much as they ever will when they begin.
	strengths map[Strength]Fragment

	// of names the table; noWait and skipLocked come last.
	of                 Fragment
	noWait, skipLocked Fragment

	// waitSeconds is the end of a SELECT that waits for so many seconds at the most. Where it is empty the limit is set beside it.
	waitSeconds string

	// withoutLimit names the server if, by its settings, it is one that cannot limit how long a lock is waited for; else it is
	// empty.
	withoutLimit func(settings map[string]string) string

	// RowAtOnce is with how many callers at a time a row of which many want the lock changes hands fastest.
	RowAtOnce int

	// GapsLocked: to look for a missing row and lock it locks what is around it, and so keeps others from inserting.
	GapsLocked bool
}

// CheckLocking returns an error if the database cannot lock as it is asked to.
func (d *Dialect) CheckLocking(l Locking) error {
	lacks := func(what string) error { return fmt.Errorf("%s has no %s", d.Name, what) }
	switch {
	case l.SkipLocked && d.skipLocked == "":
		return lacks("SkipLocked")
	case l.Of != "" && d.of == "":
		return lacks("Of")
	case l.Strength != Default && d.strengths[l.Strength] == "":
		return lacks("lock of strength " + l.Strength.String())
	case l.First && d.strengths != nil && (l.None || l.SkipLocked):
		return lacks("UPDATE that does not wait for a lock: UpdateFirst can be had with WaitAtMost")
	case d.waitSeconds != "" && l.AtMost%time.Second != 0:
		return lacks(fmt.Sprintf("limit of %v for a lock: it counts whole seconds", l.AtMost))
	case l.AtMost > longestWait:
		return lacks(fmt.Sprintf("limit of %v for a lock", l.AtMost))
	}
	return nil
}

// CheckServer is CheckLocking for what depends on the server, whose settings are those of a connection.
func (d *Dialect) CheckServer(l Locking, settings map[string]string) error {
	shared := l.Strength == Share && (l.None || l.SkipLocked)
	if d.withoutLimit == nil || l.AtMost == 0 && !shared {
		return nil
	}
	switch server := d.withoutLimit(settings); {
	case server == "":
		return nil
	case shared:
		return fmt.Errorf("%s does not take NOWAIT and SKIP LOCKED with LOCK IN SHARE MODE", server)
	default:
		return fmt.Errorf("%s has no limit for how long a statement waits for a lock", server)
	}
}

// LimitsSelects tells whether the end of a SELECT can limit how long it waits for locks.
func (d *Dialect) LimitsSelects() bool { return d.waitSeconds != "" }

// LockText returns the end of a SELECT that locks its rows as it is asked to, and waits for what is left of its time.
func (d *Dialect) LockText(l Locking, left time.Duration) string {
	if d.strengths == nil {
		return ""
	}
	s := d.NewSQL()
	if l.Strength == Default {
		s.Add(d.Lock)
	} else {
		s.Add(d.strengths[l.Strength])
	}
	if l.Of != "" {
		s.Add(d.of).Name(l.Of)
	}
	switch {
	case l.SkipLocked:
		s.Add(d.skipLocked)
	case l.None:
		s.Add(d.noWait)
	case left > 0 && d.waitSeconds != "":
		fmt.Fprintf(&s.text, d.waitSeconds, (left+time.Second-1)/time.Second)
	}
	return s.text.String()
}
