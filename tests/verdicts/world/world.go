// Package world is what the tests of verdicts share: a table of players, every updater of it, and ways to look at the
// table and to disturb it from outside.
package world

import (
	"context"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	dbatomic "github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/faultproxy"
	"github.com/raceproof/raceproof/internal/servers"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/tests/databases"
)

// A Player is a row.
type Player struct {
	ID      int64  `db:"id"`
	Name    string `db:"name"`
	Score   int64  `db:"score"`
	Level   int64  `db:"level"`
	Version int64  `db:"version"`
}

// What the table has at first.
var (
	Ada = Player{7, "Ada", 1, 0, 0}
	Bob = Player{8, "Bob", 1, 0, 0}
)

// The name is unique, a score is not negative, a level has 16 bits.
var setup = []string{
	`CREATE TABLE players (id BIGINT PRIMARY KEY, name VARCHAR(20) NOT NULL UNIQUE, score BIGINT NOT NULL CHECK (score >= 0),
		level SMALLINT NOT NULL, version BIGINT NOT NULL)`,
	`INSERT INTO players VALUES (7, 'Ada', 1, 0, 0), (8, 'Bob', 1, 0, 0)`,
}

// A World is a fresh database with the table.
type World struct {
	*databases.Fresh
	TB      testing.TB
	Dialect *dialect.Dialect
	Look    *sqlx.DB          // straight to the database, for who looks and who disturbs
	Proxy   *faultproxy.Proxy // nil if there is no server
	Pool    *sqlx.DB          // the library's, through the proxy
	DB      *raceproof.DB
	Calls   atomic.Int64 // of functions that updaters were given
}

// New makes a World whose pool has the options.
func New(tb testing.TB, d databases.Database, o databases.Options) *World {
	tb.Helper()
	w := &World{Fresh: d.Fresh(tb), TB: tb}
	if d.Kind == "" {
		w.Look = w.Fresh.Open(o) // how a file is read and locked is the connections' business
	} else {
		w.Look = w.Fresh.Open(databases.Options{})
	}
	for _, statement := range setup {
		w.Look.MustExec(statement)
	}
	var err error
	w.Dialect, err = dialect.ByDriver(d.Driver, "")
	require.NoError(tb, err)
	if d.Kind != "" {
		protocol := faultproxy.PostgreSQL
		if d.Kind == servers.MariaDB {
			protocol = faultproxy.MySQL
		}
		w.Proxy = faultproxy.New(tb, protocol, w.address())
		o.Address = w.Proxy.Addr()
	}
	w.Pool, w.DB = w.Open(o)
	return w
}

// Open opens another pool for the library.
func (w *World) Open(o databases.Options) (*sqlx.DB, *raceproof.DB) {
	w.TB.Helper()
	pool := w.Fresh.Open(o)
	db, err := raceproof.New(pool)
	require.NoError(w.TB, err)
	w.TB.Cleanup(db.Close)
	return pool, db
}

func (w *World) address() string {
	if w.Kind == servers.MariaDB {
		c, err := mysql.ParseDSN(w.DSN(databases.Options{}))
		require.NoError(w.TB, err)
		return c.Addr
	}
	u, err := url.Parse(w.DSN(databases.Options{}))
	require.NoError(w.TB, err)
	return u.Host
}

// A Change is one for every pattern.
type Change struct {
	Func func(context.Context, *Player) error
	Expr dbatomic.Change
}

// Award adds to the score.
func Award(points int64) Change {
	return Change{
		func(_ context.Context, p *Player) error { p.Score += points; return nil },
		dbatomic.Set("score", dbatomic.F("score").Add(points)),
	}
}

// Rename sets the name.
func Rename(name string) Change {
	return Change{
		func(_ context.Context, p *Player) error { p.Name = name; return nil },
		dbatomic.Set("name", name),
	}
}

// Promote adds to the level.
func Promote(levels int64) Change {
	return Change{
		func(_ context.Context, p *Player) error { p.Level += levels; return nil },
		dbatomic.Set("level", dbatomic.F("level").Add(levels)),
	}
}

// A Pattern is an updater with its name.
type Pattern struct {
	Name string
	raceproof.Updater[Player, Change]
}

// Patterns returns every updater of the world's DB.
func (w *World) Patterns() []Pattern { return w.PatternsOf(w.DB) }

// PatternsOf returns every updater of another DB.
func (w *World) PatternsOf(db *raceproof.DB) []Pattern { return patterns(w, db, Players) }

// Players is the table.
var Players = raceproof.MustTable[Player]("players")

func patterns(w *World, db *raceproof.DB, table *raceproof.Table[Player]) []Pattern {
	counted := func(c Change) raceproof.Func[Player] {
		return func(ctx context.Context, p *Player) error {
			w.Calls.Add(1)
			return c.Func(ctx, p)
		}
	}
	return []Pattern{
		{"lock", raceproof.Bind(lock.New(db, table, nil), counted)},
		{"optimistic", raceproof.Bind(optimistic.New(db, table, nil), counted)},
		{"atomic", raceproof.Bind(dbatomic.New(db, table, nil), func(c Change) dbatomic.Change { return c.Expr })},
	}
}

// wrap returns every updater over a pool of the caller's, and what ends them.
func (w *World) wrap(pool *sqlx.DB) ([]Pattern, func()) {
	w.TB.Helper()
	db, err := raceproof.New(pool)
	require.NoError(w.TB, err)
	return w.PatternsOf(db), db.Close
}

// Pattern returns one of them.
func (w *World) Pattern(name string) Pattern {
	for _, p := range w.Patterns() {
		if p.Name == name {
			return p
		}
	}
	panic(name)
}

// PatternsIn returns every updater of another table.
func (w *World) PatternsIn(table *raceproof.Table[Player]) []Pattern { return patterns(w, w.DB, table) }
