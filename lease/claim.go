package lease

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/session"
)

// A claim is one call of Acquire or TryAcquire.
type claim struct {
	*named
	holder []byte             // of this call alone
	seen   map[int64]sighting // by the number of the place
	waits  bool               // it is one that tries again

	place, token int64
	sent         time.Time // before the statement that has seized the place
}

// A place is a row of raceproof_lease.
type place struct {
	number   int64
	holder   []byte // nil if it is free
	shown    string
	ttl      time.Duration
	renewals int64
	left     time.Duration
}

// A sighting is since when a place is known to be as it is.
type sighting struct {
	holder   []byte
	renewals int64
	since    time.Time
}

// holderBytes are enough for no two to be the same.
const holderBytes = 16

func (s *named) newClaim(ctx context.Context) (*claim, error) {
	if err := s.outside(ctx, "a lease is acquired in transactions of its own"); err != nil {
		return nil, err
	}
	c := &claim{named: s, holder: make([]byte, holderBytes), seen: map[int64]sighting{}}
	_, _ = rand.Read(c.holder) // which never fails
	return c, nil
}

// try seizes a place if there is one. It looks first, which locks nothing.
func (c *claim) try(ctx context.Context) (*Lease, error) {
	err := c.look(ctx)
	if err == nil {
		err = c.resolve(ctx, func() error { return c.seize(ctx) })
	}
	var held *HeldError
	switch {
	case errors.As(err, &held):
		return nil, held
	case err != nil:
		return nil, c.about(err)
	}
	return newLease(ctx, c)
}

// lookAtMost bounds how long a server that is silent is listened to before it is asked again.
const lookAtMost = 30 * time.Second

var errSilent = errors.New("the database has not answered")

// look returns a HeldError if there is certainly no place.
func (c *claim) look(ctx context.Context) error {
	if c.waits {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, lookAtMost, errSilent) // others of this process wait behind it
		defer cancel()
	}
	var places []*place
	err := c.pool().Read(ctx, func(q session.Querier) (err error) {
		places, err = c.read(ctx, q)
		return err
	})
	if err != nil && context.Cause(ctx) == errSilent {
		return fmt.Errorf("%w: %w", errSilent, err)
	}
	if err != nil {
		return err
	}
	var live []*place
	for _, p := range places {
		if p.holder != nil && !bytes.Equal(p.holder, c.holder) && !c.overdue(p) {
			live = append(live, p) // our own is by a COMMIT of this call whose answer was lost
		}
	}
	return c.full(live)
}

// read reads all places, and notes since when they are as they are.
func (c *claim) read(ctx context.Context, q session.Querier) (places []*place, err error) {
	var p place
	var ttl, left int64
	err = q.Rows(ctx, c.places(), func() {
		found := p
		found.ttl, found.left = time.Duration(ttl)*time.Microsecond, time.Duration(left)*time.Microsecond
		places = append(places, &found)
	}, &p.number, &p.holder, &p.shown, &ttl, &p.renewals, &left)
	now := c.clock.Now() // after it: what was read was true before
	for _, p := range places {
		if s, ok := c.seen[p.number]; !ok || s.renewals != p.renewals || !bytes.Equal(s.holder, p.holder) {
			c.seen[p.number] = sighting{p.holder, p.renewals, now}
		}
	}
	return places, err
}

// overdue tells whether the time of a place that is held is over: by the database's clock or, if that was set back, because
// it was not renewed for all the time that its holder has, and a little more, by our own.
func (c *claim) overdue(p *place) bool {
	return p.left <= 0 || c.clock.Now().Sub(c.seen[p.number].since) >= p.ttl+margin(p.ttl)
}

// full returns a HeldError if there is no place beside those that are held.
func (c *claim) full(held []*place) error {
	if len(held) < c.n {
		return nil
	}
	first := held[0]
	for _, p := range held {
		if p.left < first.left {
			first = p
		}
	}
	// More than the TTL can be left only by a clock that was set back.
	return &HeldError{c.name, first.shown, max(0, min(first.left, first.ttl))}
}

// errNoCounter: the name was never acquired.
var errNoCounter = errors.New("the counter of its tokens is gone again and again")

// countersAtMost bounds how often a row can be missing that was just made.
const countersAtMost = 8

// seize takes a place in a transaction of its own.
func (c *claim) seize(ctx context.Context) error {
	for range countersAtMost {
		err := c.transact(ctx, c.take)
		if !errors.Is(err, errNoCounter) {
			return err
		}
		// In a transaction of its own. If somebody else was faster, on another node perhaps, or if the answer is lost, that is
		// seen in the next round.
		err = c.transact(ctx, func(ctx context.Context, tx *session.Tx) error { return c.insert(ctx, tx, c.addFence(counter, 0)) })
		if err != nil && !errors.Is(err, raceproof.ErrCommitUnknown) && !c.dialect.IsDuplicate(err) {
			return err
		}
	}
	return errNoCounter
}

// insert inserts a row unless it is there.
func (c *claim) insert(ctx context.Context, tx *session.Tx, s dialect.Statement) error {
	if _, err := tx.Change(ctx, s); err != nil && !c.dialect.IsDuplicate(err) {
		return err
	}
	return nil
}

// take takes a place in a transaction. Its first statement writes the row that counts the name's tokens: from there to the end
// of the transaction nobody else takes a place, on this server because the row is locked, on another node of a cluster
// because one of the two is refused. What is read behind that is therefore true until then, but for renewals and releases.
func (c *claim) take(ctx context.Context, tx *session.Tx) error {
	switch n, err := tx.Change(ctx, c.raise()); {
	case err != nil:
		return err
	case n == 0:
		return errNoCounter
	}
	if _, err := tx.One(ctx, c.count(), &c.token); err != nil {
		return err
	}
	places, err := c.read(ctx, tx)
	if err != nil {
		return err
	}
	if c.place, err = c.choose(ctx, tx, places); err != nil {
		return err
	}
	c.sent = c.clock.Now()
	return c.changeOne(ctx, tx, c.texts.seize(c.place, c.holder, c.options.Holder, c.options.TTL), c.setToken(c.place, c.token, c.holder))
}

// changeOne sends statements that must change one row each.
func (c *claim) changeOne(ctx context.Context, tx *session.Tx, statements ...dialect.Statement) error {
	for _, s := range statements {
		n, err := tx.Change(ctx, s)
		if err != nil {
			return err
		}
		if n != 1 {
			return fmt.Errorf("a row of place %d is gone, or was changed by somebody else's statement", c.place)
		}
	}
	return nil
}

// choose returns the number of the lowest place that is free, or can be freed, or else that of a new one; or a HeldError, if
// as many as may be are held.
//
// All places whose time is over are freed, not only the one that is chosen. They are not counted, so they must be written:
// a renewal that is under way would otherwise have one holder more than may be.
func (c *claim) choose(ctx context.Context, tx *session.Tx, places []*place) (chosen int64, err error) {
	var held []*place
	highest := int64(0)
	for _, p := range places {
		highest = max(highest, p.number)
		free := false
		switch {
		case bytes.Equal(p.holder, c.holder):
			return p.number, nil // by a COMMIT of this call whose answer was lost
		case p.holder == nil && chosen != 0 && len(places) <= c.n:
			continue // of so few it need not be known whether one that is free is still fenced
		case p.holder == nil:
			free, err = c.isUnfenced(ctx, tx, p)
		case c.overdue(p):
			free, err = c.free(ctx, tx, p)
		}
		switch {
		case err != nil:
			return 0, err
		case !free:
			held = append(held, p)
		case chosen == 0:
			chosen = p.number
		}
	}
	if err := c.full(held); err != nil || chosen != 0 {
		return chosen, err
	}
	chosen = highest + 1
	if err := c.insert(ctx, tx, c.addFence(chosen, 0)); err != nil {
		return 0, err
	}
	return chosen, c.changeOne(ctx, tx, c.addPlace(chosen))
}

// isUnfenced tells whether no transaction has the place's fence; nobody can get it then before this one is over. A place
// that was released, or whose time is over, is held nevertheless by a transaction with its fence: it can still be committed.
func (c *claim) isUnfenced(ctx context.Context, tx *session.Tx, p *place) (bool, error) {
	if c.dialect.Unlocked == "" {
		return true, nil // nobody else has a transaction that writes
	}
	var number int64
	return tx.One(ctx, c.unfenced(p.number), &number)
}

// free takes a place from a holder whose time is over. It fails if that has renewed it at the last moment.
func (c *claim) free(ctx context.Context, tx *session.Tx, p *place) (bool, error) {
	if free, err := c.isUnfenced(ctx, tx, p); err != nil || !free {
		return false, err
	}
	n, err := tx.Change(ctx, c.retire(p))
	if err != nil || n == 0 {
		return false, err
	}
	c.place = p.number
	return true, c.changeOne(ctx, tx, c.setToken(p.number, c.token, nil))
}
