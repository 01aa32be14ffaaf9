package serial

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/session"
)

// overtakeAfter is how long those who wait do so for a caller who makes his update himself: somebody else can hold his row, and
// not theirs.
const overtakeAfter = 10 * time.Millisecond

// A queue is of callers who wait, in the order in which they came. One at a time is at work: a lone caller who makes his own
// update, or a goroutine that serves groups, which there is only while somebody waits.
type queue[T, C any] struct {
	mu          sync.Mutex // guards what follows; never held while waiting
	first, last *caller[T, C]
	busy        bool
	lone        bool        // it is a lone caller who is at work
	turn        uint64      // his, which he loses if he is overtaken
	overtaking  *time.Timer // nil unless it runs
	overtaken   func()      // what it calls
	inside      int         // callers who are in the queue, in a group, or were sent away to make their updates themselves
	closed      bool
	refusing    bool          // also those who were there before
	left        chan struct{} // closed when nobody is inside or at work any more; nil unless Close waits for it
	stats       Stats
}

// refuses returns an error once it is closed and nobody is served any more, whose function could be what asks.
func (q *queue[T, C]) refuses() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed && !q.busy && q.inside == 0 {
		return raceproof.ErrClosed
	}
	return nil
}

// alone tells whether nobody is at work, so that the caller is now, with a turn to give back.
func (q *queue[T, C]) alone() (turn uint64, alone bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.begin()
}

func (q *queue[T, C]) begin() (turn uint64, alone bool) {
	if q.busy || q.closed {
		return 0, false
	}
	q.busy = true
	return q.beginLone(), true
}

func (q *queue[T, C]) beginLone() (turn uint64) {
	q.lone = true
	q.turn++
	q.stats.Alone++
	return q.turn
}

// join puts a caller into the queue, unless he is alone.
func (q *queue[T, C]) join(c *caller[T, C], l limits) (turn uint64, alone bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if turn, alone = q.begin(); alone {
		c.state.Store(entered) // he has a turn, and cannot leave
		q.inside++
		return turn, true, nil
	}
	switch waiting, bytes := q.stats.Waiting, q.stats.WaitingBytes; {
	case q.closed:
		return 0, false, raceproof.ErrClosed
	case waiting >= l.waiting:
		return 0, false, fmt.Errorf("%w: %d, which is as many as may", raceproof.ErrOverloaded, waiting)
	case waiting > 0 && bytes+c.bytes > l.waitingBytes:
		return 0, false, fmt.Errorf("%w: they hold %d bytes of the %d that they may", raceproof.ErrOverloaded, bytes, l.waitingBytes)
	}
	q.inside++
	q.link(q.last, c)
	q.watch()
	return 0, false, nil
}

// watch has a lone caller overtaken if somebody waits for him for long.
func (q *queue[T, C]) watch() {
	if q.lone && q.first != nil && q.overtaking == nil {
		q.overtaking = time.AfterFunc(overtakeAfter, q.overtaken)
	}
}

// sendAway counts a caller who is to make his update himself, whoever is at work.
func (q *queue[T, C]) sendAway(c *caller[T, C]) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return raceproof.ErrClosed
	}
	q.inside++
	c.sendAway()
	return nil
}

// link puts a caller behind another one, or first if that is nil.
func (q *queue[T, C]) link(before, c *caller[T, C]) {
	c.before, c.behind, c.queued = before, q.first, true
	if before != nil {
		c.behind = before.behind
		before.behind = c
	} else {
		q.first = c
	}
	if c.behind != nil {
		c.behind.before = c
	} else {
		q.last = c
	}
	q.stats.Waiting++
	q.stats.WaitingBytes += c.bytes
}

func (q *queue[T, C]) unlink(c *caller[T, C]) {
	if c.before != nil {
		c.before.behind = c.behind
	} else {
		q.first = c.behind
	}
	if c.behind != nil {
		c.behind.before = c.before
	} else {
		q.last = c.before
	}
	c.before, c.behind, c.queued = nil, nil, false
	q.stats.Waiting--
	q.stats.WaitingBytes -= c.bytes
}

// leave takes a caller out whose context has ended, unless his function has been called already. A group that he is in does not
// go on for long: it can be stuck.
func (q *queue[T, C]) leave(c *caller[T, C]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := c.state.CompareAndSwap(waiting, gone)
	if c.queued {
		q.unlink(c)
	} else if r := c.round.Load(); r != nil {
		r.soon()
	}
	return left
}

// putBack puts callers in front of the others, in their order.
func (q *queue[T, C]) putBack(callers []*caller[T, C]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var before *caller[T, C]
	for _, c := range callers {
		if c.state.Load() == waiting {
			q.link(before, c)
			before = c
		}
	}
	if q.refusing {
		q.refuseAll()
	}
}

// take takes the callers out that are served next. If it is only one, the turn is his.
func (q *queue[T, C]) take(l limits) (group []*caller[T, C], turn uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	bytes := 0
	for c := q.first; c != nil && len(group) < l.group && (bytes == 0 || bytes+c.bytes <= l.groupBytes); c = q.first {
		q.unlink(c)
		bytes += c.bytes
		group = append(group, c)
	}
	switch len(group) {
	case 0:
		q.rest()
	case 1:
		group[0].state.Store(entered) // he cannot leave any more
		turn = q.beginLone()
		q.watch()
	}
	return group, turn
}

// rest says that nobody is at work.
func (q *queue[T, C]) rest() {
	q.busy = false
	q.empty()
}

func (q *queue[T, C]) empty() {
	if q.left != nil && !q.busy && q.inside == 0 {
		close(q.left)
		q.left = nil
	}
}

// end ends the turn of a lone caller, and tells whether somebody waits now for a goroutine to serve him. A caller who was
// overtaken has no turn any more.
func (q *queue[T, C]) end(turn uint64) (serve bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.lone || q.turn != turn {
		q.inside--
		q.empty()
		return false
	}
	q.lone = false
	if q.overtaking != nil {
		q.overtaking.Stop()
		q.overtaking = nil
	}
	if q.first == nil {
		q.rest()
		return false
	}
	return true
}

// overtake takes the turn from a lone caller, and tells whether somebody waits for it.
func (q *queue[T, C]) overtake() (serve bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.overtaking = nil
	if !q.lone || q.first == nil {
		return false
	}
	q.lone = false
	q.inside++ // he is still here
	return true
}

// exit counts a caller out.
func (q *queue[T, C]) exit() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.inside--
	q.empty()
}

// served counts a group.
func (q *queue[T, C]) served(callers int) {
	if callers == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Groups++
	q.stats.Grouped += uint64(callers)
	q.stats.LargestGroup = max(q.stats.LargestGroup, callers)
}

// oneAlone counts a caller who makes his update himself.
func (q *queue[T, C]) oneAlone() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stats.Alone++
}

// Stats returns what the updater has done so far, and what waits.
func (u *Updater[T, C]) Stats() Stats {
	u.queue.mu.Lock()
	defer u.queue.mu.Unlock()
	return u.queue.stats
}

// Close refuses all updates that come later, with raceproof.ErrClosed, and those in callers' transactions as soon as nobody is
// served any more; and it returns nil when all who were there before are served. If the context ends first, those who still wait are refused as well, nothing of theirs
// was applied, and Close returns the context's error and cause without waiting for those who are being served. So with a
// context that has ended it refuses, and with one that does not end it drains. It can be called more than once. The DB stays
// open.
func (u *Updater[T, C]) Close(ctx context.Context) error {
	if u.err != nil {
		return u.err
	}
	q := &u.queue
	q.mu.Lock()
	q.closed = true
	if !q.busy && q.inside == 0 {
		q.mu.Unlock()
		return nil
	}
	if q.left == nil {
		q.left = make(chan struct{})
	}
	left := q.left
	q.mu.Unlock()
	select {
	case <-left:
		return nil
	case <-ctx.Done():
	}
	q.refuseWaiting()
	return fmt.Errorf("serial: Close: %w", session.Ended(ctx))
}

func (q *queue[T, C]) refuseWaiting() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refusing = true
	q.refuseAll()
}

func (q *queue[T, C]) refuseAll() {
	for c := q.first; c != nil; c = q.first {
		q.unlink(c)
		if c.state.CompareAndSwap(waiting, gone) {
			c.wake <- refused
		}
	}
}
