package serial_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	dbatomic "github.com/raceproof/raceproof/atomic"
)

// function is the change, for those who take one.
func (c *soakCall) function(ctx context.Context, row *soakRow) error {
	if c.whenCalled {
		c.cancel()
	}
	if c.soon > 0 {
		time.AfterFunc(c.soon, c.cancel)
	}
	row.N += c.delta
	switch c.kind {
	case soakAudits:
		return c.audit(ctx, c.id)
	case soakNests:
		return c.nest(ctx)
	case soakTwo:
		return c.two(ctx)
	case soakHooks:
		if err := c.by.db.AfterCommit(ctx, func(context.Context) { c.committed.Add(1) }); err != nil {
			return err
		}
		return c.by.db.AfterRollback(ctx, func(context.Context) { c.undone.Add(1) })
	case soakFails:
		return errSoak
	case soakFailsLate, soakPanics, soakExits:
		if c.by.inTx && c.delta%2 == 0 {
			if err := c.audit(ctx, c.id); err != nil {
				return err
			}
		}
		switch c.kind {
		case soakPanics:
			panic(errSoak)
		case soakExits:
			runtime.Goexit()
		}
		return errSoak
	case soakViolates:
		c.violate(row)
	}
	return nil
}

func (c *soakCall) violate(row *soakRow) {
	switch c.value {
	case "small":
		row.Small = 40_000
	case "name":
		row.Name = "taken"
	case "n":
		row.N = -1
	}
}

// audit writes into another table, in the function's transaction.
func (c *soakCall) audit(ctx context.Context, id int64) error {
	_, err := c.by.db.Ext(ctx).ExecContext(ctx, fmt.Sprintf(`INSERT INTO audit VALUES (%d, %d)`, id, c.delta))
	return err
}

// nest audits in a Transact of its own, and in one that is taken back.
func (c *soakCall) nest(ctx context.Context) error {
	err := c.by.db.Transact(ctx, func(ctx context.Context) error {
		if err := c.audit(ctx, -c.id); err != nil {
			return err
		}
		return errSoak
	})
	if !errors.Is(err, errSoak) {
		return err
	}
	return c.by.db.Transact(ctx, func(ctx context.Context) error { return c.audit(ctx, c.id) })
}

// two changes another row as well, and audits.
func (c *soakCall) two(ctx context.Context) (err error) {
	c.other, err = c.by.another(ctx, c.otherRow, c.otherDelta)
	if err != nil {
		return err
	}
	return c.audit(ctx, c.id)
}

// change is the change in SQL.
func (c *soakCall) change() dbatomic.Change {
	n := dbatomic.F("n")
	change := dbatomic.Set("n", n.Add(c.delta))
	switch {
	case c.kind == soakFails:
		return change.If(n.Lt(0))
	case c.kind != soakViolates:
		return change
	}
	switch c.value {
	case "small":
		return change.Set("small", 40_000)
	case "name":
		return change.Set("name", "taken")
	}
	return dbatomic.Set("n", -1)
}
