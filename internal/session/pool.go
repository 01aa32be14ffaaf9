// Package session takes connections from a service's pool for one statement or for one transaction, waits its turn
// where the database has one writer at a time, and gives the connections back as they were.
package session

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/fifo"
)

// A Pool is a service's pool of connections to one database.
type Pool struct {
	db       *sqlx.DB
	dialect  *dialect.Dialect
	prepares bool // statements, on connections that are kept
	stubborn bool // its driver goes on waiting when a context has ended

	// writers stands in front of a database that has one write lock: the writers of this process wait here, first come
	// first served and without a connection, instead of polling for the lock, where the unlucky wait for seconds.
	writers fifo.Mutex
	readers atomic.Int32 // who have the turn to read, or look for it
	read    atomic.Int64 // how many have had it, or looked for it
	kept    keeper
	shut    atomic.Bool

	// seats are as many as the pool may have connections, where connections are kept: whoever waits here is handed one as
	// it is, with its statements prepared, and whoever waits in the pool is not.
	seats fifo.Semaphore

	rows rowQueues

	// Tables are for the floors above: what they know of the tables of this database.
	Tables sync.Map

	attempts sync.Map // *Attempts by their Policy, of those with a budget; as many as a service writes down

	inspected atomic.Bool
	settings  atomic.Pointer[map[string]string] // of the connection that was looked at
	limit     atomic.Int64                      // how long the pool's connections wait for a lock, as a Duration; 0: for ever
}

// NewPool returns a pool over db. If it prepares, statements are prepared where the dialect would have them so.
func NewPool(db *sqlx.DB, d *dialect.Dialect, prepares bool) *Pool {
	return &Pool{db: db, dialect: d, prepares: prepares && d.Prepares, stubborn: d.Stubborn(db.Driver())}
}

// Dialect returns the dialect of the pool's database.
func (p *Pool) Dialect() *dialect.Dialect { return p.dialect }

// Waiting returns how many writers wait in this process for their turn at this moment, or for that of a row.
func (p *Pool) Waiting() int { return p.writers.Waiting() + p.rows.Waiting() }

// A Querier runs statements of this module: on a connection outside a transaction, or in a transaction.
type Querier interface {
	// One runs a statement that yields at most one row, scans the row and reports whether there was one. An error that does
	// not wrap ErrCommitUnknown means that the statement has changed nothing, also if it is the scan that failed: outside a
	// transaction the statement is then undone, inside one the savepoint around it must be.
	One(ctx context.Context, s dialect.Statement, dest ...any) (found bool, err error)
	// Change runs a statement that yields no rows and returns how many it changed. What is said of One's errors holds here too.
	Change(ctx context.Context, s dialect.Statement) (n int64, err error)
	// Many scans each row of a query into what next returns.
	Many(ctx context.Context, s dialect.Statement, next func() []any) error
	// Rows calls each after it has scanned a row of a query into dest.
	Rows(ctx context.Context, s dialect.Statement, each func(), dest ...any) error
	// Columns returns the names of the columns that a query yields.
	Columns(ctx context.Context, s dialect.Statement) ([]string, error)
}

// Read calls f to run reading statements: in the context's transaction, or else on a connection of the pool. f is
// called again as long as its statement is refused because of a lock, until the time to wait for one is over.
func (p *Pool) Read(ctx context.Context, f func(Querier) error) error {
	t := p.Current(ctx)
	if t == nil {
		return p.single(ctx, reading, f)
	}
	if err := Ended(ctx); err != nil {
		return err
	}
	if p.dialect.ErrorsAbort {
		return p.Transact(ctx, func(_ context.Context, t *Tx) error { return f(t) })
	}
	return f(t)
}

// Write calls f to run a writing statement. If it can stand alone, it is a transaction of its own; else, or if the
// context carries a transaction, f is called in a transaction or in a savepoint of that one. In any case an error of f leaves
// nothing behind. f is called again as long as a statement that stands alone is refused because of a lock, until the time
// to wait for one is over.
func (p *Pool) Write(ctx context.Context, alone bool, f func(Querier) error) error {
	if !alone || p.InTransaction(ctx) {
		return p.Transact(ctx, func(_ context.Context, t *Tx) error { return f(t) })
	}
	return p.single(ctx, writing, f)
}

func (p *Pool) single(ctx context.Context, a access, f func(Querier) error) error {
	use := func(c *Conn) error { return c.patiently(ctx, ctx, func() error { return f(c) }) }
	var c *Conn
	var err error
	if a == reading {
		c, err = p.onLiving(ctx, ctx, a, use)
	} else {
		c, _, err = p.on(ctx, ctx, a, use)
	}
	if err == nil {
		c.release()
	}
	return err
}

// deadAtMost bounds how many dead connections are tried in a row.
const deadAtMost = 100

// onLiving is on, again and again as long as the connection was dead in the pool: what use does leaves nothing behind if
// it fails.
func (p *Pool) onLiving(ctx, patience context.Context, a access, use func(*Conn) error) (*Conn, error) {
	for tries := 1; ; tries++ {
		c, dead, err := p.on(ctx, patience, a, use)
		if err == nil || !dead || tries == deadAtMost || ctx.Err() != nil {
			return c, err
		}
	}
}

// on takes a connection, calls use with it, and returns it. If use fails the connection is given back, and dead tells
// whether it had waited in the pool and the database did not answer on it.
func (p *Pool) on(ctx, patience context.Context, a access, use func(*Conn) error) (taken *Conn, dead bool, err error) {
	start, waited := time.Now(), p.db.Stats().Idle > 0
	c, err := p.acquire(ctx, patience, a)
	if err != nil {
		return nil, false, err
	}
	done := false
	defer func() {
		if !done { // also if a caller's Scan method, or a hook of the service's, has panicked
			dead = c.dead && (waited || c.since.Before(start)) // nobody else has the connection yet
			c.release()
		}
	}()
	if err = use(c); err != nil {
		return nil, false, err
	}
	done = true
	return c, false, nil
}

type access int

const (
	reading access = iota
	writing
	viewing // reading for so long that nobody's turn may be taken for it
)

// acquire takes a connection, and for writing to a database with one write lock first a turn in the queue of writers,
// so that whoever waits for a turn holds no connection that somebody else could use. A reader takes the writers' turn and
// their connection if nobody else wants them: it is the cheapest to have.
func (p *Pool) acquire(ctx, patience context.Context, a access) (c *Conn, err error) {
	if err := Ended(ctx); err != nil {
		return nil, err
	}
	if p.shut.Load() {
		return nil, ErrClosed
	}
	if !p.dialect.OneWriter {
		return p.takeSeat(ctx)
	}
	turn := false
	switch {
	case a == viewing:
	case a == reading:
		turn = p.takeIdle()
	case p.lockWriters(ctx, patience):
		turn = true
	default:
		return nil, fmt.Errorf("%w: by the writers before it: %w", ErrLocked, impatience(ctx, patience))
	}
	defer func() {
		if turn && c == nil { // also if a hook of the service's, called by the driver, has panicked
			p.endTurn(a == reading)
		}
	}()
	if !turn {
		return p.connect(ctx)
	}
	if c, err = p.takeWithin(ctx); err != nil {
		return nil, err
	}
	c.turn, c.reads, c.keepable = true, a == reading, p.prepares
	return c, nil
}

// takeSeat takes a seat, if the pool has a limit, and then a connection.
func (p *Pool) takeSeat(ctx context.Context) (c *Conn, err error) {
	limit := p.db.Stats().MaxOpenConnections
	seated := p.prepares && limit > 0
	if seated && !p.seats.Acquire(ctx, limit) {
		return nil, fmt.Errorf("raceproof: wait for a connection: %w", Ended(ctx))
	}
	defer func() {
		if seated && c == nil { // also if a hook of the service's, called by the driver, has panicked
			p.seats.Release()
		}
	}()
	if c, err = p.takeWithin(ctx); err != nil {
		return nil, err
	}
	c.seated = seated
	return c, nil
}

// limitKey is for how long a connection is waited for once it is the caller's turn to have one.
type limitKey struct{}

// Within returns a context with which a connection is waited for for limit at the most once it is the caller's turn to have
// one: he does not lose his place in a queue by it, and a server that does not answer does not keep him.
func Within(ctx context.Context, limit time.Duration) context.Context {
	return context.WithValue(ctx, limitKey{}, limit)
}

func (p *Pool) takeWithin(ctx context.Context) (*Conn, error) {
	if limit, ok := ctx.Value(limitKey{}).(time.Duration); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return p.take(ctx)
}

// takeIdle takes the writers' turn if nobody wants it and they have left a connection.
func (p *Pool) takeIdle() bool {
	p.readers.Add(1)
	p.read.Add(1)
	if p.writers.TryLock() {
		if !p.kept.empty() {
			return true
		}
		p.writers.Unlock()
	}
	p.readers.Add(-1)
	return false
}

// endTurn gives the turn to write, or to read in the place of a writer, to whoever is next.
func (p *Pool) endTurn(reads bool) {
	p.writers.Unlock()
	if reads {
		p.readers.Add(-1)
	}
}

// lockWriters waits for the turn to write. Who does not want to wait for writers waits for the turn of a reader all the same,
// which is over at once and keeps nobody from writing: also if it was over before it could be told whose turn it was.
func (p *Pool) lockWriters(ctx, patience context.Context) bool {
	reading, read := p.readers.Load() > 0, p.read.Load()
	if p.writers.Lock(patience) {
		return true
	}
	if ctx.Err() != nil {
		return false
	}
	if !reading && p.read.Load() == read {
		return p.writers.TryLock() // a place that was handed over to who had stopped waiting is free
	}
	ctx, cancel := context.WithTimeout(ctx, readersTurn)
	defer cancel()
	return p.writers.Lock(ctx)
}

// readersTurn is far longer than a turn that reads a row.
const readersTurn = 100 * time.Millisecond

func (p *Pool) connect(ctx context.Context) (*Conn, error) {
	conn, err := p.connx(ctx)
	if err != nil {
		if ended := Ended(ctx); ended != nil {
			err = ended
		}
		return nil, fmt.Errorf("raceproof: take a connection: %w", err)
	}
	c := &Conn{Conn: conn, pool: p, since: time.Now(), keepable: p.prepares && !p.dialect.OneWriter}
	c.findStubborn()
	if err := c.inspect(ctx); err != nil {
		c.close()
		return nil, err
	}
	if err := c.impatient(ctx); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// inspect looks once at how the pool's connections are set up.
func (c *Conn) inspect(ctx context.Context) error {
	p := c.pool
	if p.inspected.Load() {
		return nil
	}
	d := p.dialect
	if d.Settings != "" {
		settings := map[string]string{}
		var name, value string
		err := c.Rows(ctx, dialect.Statement{Text: d.Settings}, func() { settings[name] = value }, &name, &value)
		if err == nil {
			err = d.CheckSettings(settings)
		}
		if err != nil {
			return fmt.Errorf("raceproof: look at the connection: %w", err)
		}
		p.settings.Store(&settings)
	}
	if d.WaitLimit != "" && d.SetWaitLimit == "" {
		var limit int64
		if err := c.setting(ctx, d.WaitLimit, &limit); err != nil {
			return err
		}
		p.limit.Store(int64(time.Duration(limit) * time.Millisecond))
	}
	p.inspected.Store(true)
	return nil
}

// CheckServer returns an error if the server cannot lock as it is asked to. A connection must have been taken before.
func (p *Pool) CheckServer(l dialect.Locking) error {
	settings := p.settings.Load()
	if settings == nil {
		return nil
	}
	return p.dialect.CheckServer(l, *settings)
}

func (c *Conn) setting(ctx context.Context, query string, dest any) error {
	inner := c.during(ctx)
	defer c.attend(inner)()
	if err := c.Conn.QueryRowContext(inner, query).Scan(dest); err != nil {
		return fmt.Errorf("raceproof: look at the connection: %w", c.failed(ctx, err))
	}
	return nil
}

// impatient makes a database that polls for locks refuse a statement that would have to wait for one: it cannot be
// called back, so that it is patiently that waits, and looks at the context.
func (c *Conn) impatient(ctx context.Context) error {
	d := c.pool.dialect
	if d.SetWaitLimit == "" {
		return nil
	}
	var limit int64
	if err := c.setting(ctx, d.WaitLimit, &limit); err != nil {
		return err
	}
	c.limit = time.Duration(limit) * time.Millisecond
	if limit == 0 {
		return nil
	}
	c.restore = append(c.restore, fmt.Sprintf(d.SetWaitLimit, limit))
	if err := c.exec(ctx, fmt.Sprintf(d.SetWaitLimit, 0)); err != nil {
		return fmt.Errorf("raceproof: limit lock waits: %w", err)
	}
	return nil
}

// readOnly makes a database refuse writes on the connection whose transactions cannot be told to.
func (c *Conn) readOnly(ctx context.Context) error {
	var already bool
	if err := c.setting(ctx, c.pool.dialect.ReadOnly, &already); err != nil || already {
		return err
	}
	c.restore = append(c.restore, c.pool.dialect.ReadOnly+" = 0")
	return c.exec(ctx, c.pool.dialect.ReadOnly+" = 1")
}
