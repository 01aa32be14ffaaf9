package serial_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof"
	dbatomic "github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/once"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/serial"
)

// A soakUpdater is one of each kind of a table.
type soakUpdater struct {
	raceproof.Updater[soakRow, *soakCall]
	name string
	db   *raceproof.DB
	soakServed

	table   string
	inTx    bool // its functions' contexts carry a transaction
	once    bool
	inSQL   bool
	another func(ctx context.Context, id, delta int64) (soakRow, error) // another row, in a function
}

type soakServed interface {
	Stats() serial.Stats
	Close(context.Context) error
}

func soakUpdaters(db *raceproof.DB, table *raceproof.Table[soakRow]) []soakUpdater {
	function := func(c *soakCall) raceproof.Func[soakRow] { return c.function }
	locking := lock.New(db, table, nil)
	byLock, byOnce := serial.Wrap(locking), serial.Wrap(once.Wrap(locking))
	byVersion, inSQL := serial.Wrap(optimistic.New(db, table, nil)), serial.Wrap(dbatomic.New(db, table, nil))
	another := func(ctx context.Context, id, delta int64) (soakRow, error) {
		return byLock.Update(ctx, id, func(_ context.Context, row *soakRow) error { row.N += delta; return nil })
	}
	return []soakUpdater{
		{raceproof.Bind(byLock, function), "lock", db, byLock, byLock.Table(), true, false, false, another},
		{raceproof.Bind(byOnce, function), "once", db, byOnce, byLock.Table(), true, true, false, another},
		{raceproof.Bind(byVersion, function), "optimistic", db, byVersion, byLock.Table(), false, false, false, nil},
		{raceproof.Bind(inSQL, (*soakCall).change), "atomic", db, inSQL, byLock.Table(), false, false, true, nil},
	}
}

// What is asked for in a call, besides adding to a row.
type soakKind int

const (
	soakAdds soakKind = iota
	soakAudits
	soakNests // a Transact that audits, and one that fails
	soakTwo   // changes another row as well
	soakHooks // is told what comes of it
	soakFails // from here on nothing is to be changed
	soakFailsLate
	soakPanics
	soakExits
	soakViolates
	soakKinds
)

// A soakCall is one update that a caller asks for, and what he was told of it.
type soakCall struct {
	by    *soakUpdater
	kind  soakKind
	id    int64 // nobody else's, in the audit and as a key of once
	row   int64
	delta int64
	value string // that a violation is of

	otherRow   int64 // with soakTwo
	other      soakRow
	otherDelta int64
	keyed      bool // its id is a key of once

	cancel            context.CancelFunc
	whenCalled        bool          // it is cancelled in the function
	soon              time.Duration // it is cancelled so much later than its function is called; 0: it is not
	committed, undone atomic.Int64

	result   soakRow
	unknown  bool // when it was asked for before
	err      error
	panicked any
	ended    bool // its goroutine
}

// A soakCaller makes one call after the other.
type soakCaller struct {
	*soak
	number  int
	process *soakProcess
	r       *rand.Rand
	calls   []*soakCall
}

var errSoak = errors.New("the function's own error")

func (c *soakCaller) run() {
	for !c.over.Load() {
		call := c.next()
		c.calls = append(c.calls, call)
		ctx, cancel := c.context(call)
		call.cancel = cancel
		for range 5 {
			done := make(chan struct{})
			go func() { // the function may end it
				defer close(done)
				call.make(ctx)
			}()
			<-done
			if !call.keyed || !errors.Is(call.err, raceproof.ErrCommitUnknown) {
				break
			}
			call.unknown = true
			cancel() // with its key it can be asked again
			ctx, cancel = context.WithTimeout(once.WithKey(c.Context(), fmt.Sprint(call.id)), soakPatience)
			call.cancel, call.whenCalled, call.soon = cancel, false, 0
		}
		cancel()
		c.told(call)
	}
}

// next draws a call.
func (c *soakCaller) next() *soakCall {
	u := &c.process.updaters[c.r.IntN(4)]
	if c.r.IntN(4) == 0 {
		u = &c.process.updaters[4+c.r.IntN(4)]
	}
	call := &soakCall{by: u, id: int64(c.number+1)<<32 + int64(len(c.calls)), row: 1, delta: 1 + c.r.Int64N(1<<30)}
	if c.r.IntN(3) == 0 {
		call.row = 1 + c.r.Int64N(soakRows)
	}
	if u.name == "optimistic" && c.r.IntN(2) == 0 { // where nobody else changes the row there are groups more often
		call.row = soakRows + 1 + int64(c.number%2)
	}
	if c.r.IntN(2) == 0 {
		call.kind = soakKind(c.r.IntN(int(soakKinds)))
	}
	switch {
	case call.kind == soakTwo && call.row == soakRows, !u.inTx && call.kind < soakHooks, u.inSQL && call.kind < soakFails:
		call.kind = soakAdds
	case u.inSQL && call.kind > soakFails:
		call.kind = soakFails + (soakViolates-soakFails)*soakKind(c.r.IntN(2))
	case call.kind == soakTwo:
		call.otherRow, call.otherDelta = call.row+1+c.r.Int64N(soakRows-call.row), 1+c.r.Int64N(1<<30)
	}
	if call.kind == soakViolates {
		call.value = "small"
		if u.table == "checked" {
			call.value = []string{"small", "name", "n"}[c.r.IntN(3)]
		}
		if c.fresh.Kind == "" && call.value == "small" { // SQLite has no such limit
			call.kind = soakAdds
		}
	}
	call.keyed = u.once && c.r.IntN(2) == 0
	return call
}

// soakPatience ends what is kept back for ever.
const soakPatience = 5 * time.Second

// context draws when the caller gives up.
func (c *soakCaller) context(call *soakCall) (context.Context, context.CancelFunc) {
	patience := soakPatience
	in := func(most time.Duration) time.Duration { return 1 + time.Duration(c.r.Int64N(int64(most))) }
	ctx := c.Context()
	if call.keyed {
		ctx = once.WithKey(ctx, fmt.Sprint(call.id))
	}
	switch c.r.IntN(40) {
	case 0, 1:
		patience = in(100 * time.Millisecond)
	case 2:
		patience = in(2 * time.Second)
	case 3:
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return ctx, cancel
	case 4:
		call.whenCalled = true
	case 5, 6:
		call.soon = in(5 * time.Millisecond)
	case 7:
		ctx, cancel := context.WithCancel(ctx)
		stop := time.AfterFunc(in(50*time.Millisecond), cancel).Stop
		return ctx, func() { stop(); cancel() }
	}
	return context.WithTimeout(ctx, patience)
}

func (c *soakCall) make(ctx context.Context) {
	c.panicked, c.ended = nil, true
	c.err = errors.New("it has not returned")
	defer func() { c.panicked = recover() }()
	c.result, c.err = c.by.Update(ctx, c.row, c)
	c.ended = false
}

func (c *soakCall) String() string {
	return fmt.Sprintf("%s of %s, kind %d, id %d, it was told: %v", c.by.name, c.by.table, c.kind, c.id, c.err)
}

// told holds what a caller was told against what he has asked for.
func (c *soakCaller) told(call *soakCall) {
	unknown, about := errors.Is(call.err, raceproof.ErrCommitUnknown), call.String()
	assert.True(c, call.panicked == nil || call.kind == soakPanics && call.panicked == errSoak, "%s: panicked: %v", about, call.panicked)
	assert.True(c, !call.ended || call.panicked != nil || call.kind == soakExits, about)
	if call.err == nil {
		assert.Less(c, call.kind, soakFails, about)
		assert.Equal(c, call.row, call.result.ID, about)
	} else {
		assert.Zero(c, call.result, about)
	}
	if call.kind >= soakFails && call.kind != soakViolates && !call.by.inSQL { // a write alone, whose answer can be lost
		assert.False(c, unknown, about)
	}
	if call.kind == soakHooks && !call.by.once {
		assert.Equal(c, call.err == nil, call.committed.Load() == 1, "%s: hooks", about)
		assert.LessOrEqual(c, call.committed.Load(), int64(1), "%s: hooks", about)
	}
}
