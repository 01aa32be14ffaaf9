// Package evaluate holds what package atomic computes of a change in Go against what databases make of the same change.
package evaluate

import (
	"context"
	"flag"
	"math/rand/v2"
	"net/url"
	"os"
	"reflect"
	"testing"

	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3" // the driver under test
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/mapping"
	"github.com/raceproof/raceproof/tests/databases"
)

func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }

// Each table has so many rows, and gets batches of so many changes, each a transaction.
const (
	rows  = 60
	batch = 400
)

var (
	seedFlag = flag.Uint64("seed", 0, "the changes to make again, instead of others each time")
	batches  = flag.Int("batches", 3, "how many batches of changes each table gets")
)

// Drivers can bind values, or write them into the statement.
var written = map[string]url.Values{
	"postgres/pgx":  {"default_query_exec_mode": {"simple_protocol"}},
	"postgres/pq":   {"binary_parameters": {"yes"}},
	"mariadb/mysql": {"interpolateParams": {"true"}},
}

// What is known without the database is what the database does; and it is known of most changes.
func TestEvaluate(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	for _, d := range databases.All() {
		t.Run(d.Name, func(t *testing.T) {
			t.Parallel()
			t.Logf("-seed %d", seed)
			r := rand.New(rand.NewPCG(seed, 0))
			fresh := d.Fresh(t)
			bound := begin(t, d, fresh.Open(databases.Options{}), r)
			changes(t, bound, "counted", func(c *counted) (*numbers, *int64) { return &c.numbers, &c.Version })
			wrote := bound
			wrote.pool = fresh.Open(databases.Options{Parameters: written[d.Name]})
			changes(t, wrote, "numbers", func(n *numbers) (*numbers, *int64) { return n, new(int64) })
		})
	}
}

// A run is a test with a database, and with random numbers.
type run struct {
	database databases.Database
	pool     *sqlx.DB
	random   *rand.Rand
}

// begin makes the tables.
func begin(t *testing.T, d databases.Database, pool *sqlx.DB, r *rand.Rand) run {
	t.Helper()
	for _, statement := range schema(d) {
		pool.MustExec(statement)
	}
	for id := range rows {
		_, err := pool.NamedExec(insert, randomRow(r, d, int64(id)))
		require.NoError(t, err)
	}
	pool.MustExec(`INSERT INTO counted SELECT numbers.*, 0 FROM numbers`)
	return run{d, pool, r}
}

// tally counts what became of the changes.
type tally struct{ applied, refused, beyond, tooLarge int }

// changes makes changes of the rows of a table, and compares.
func changes[T comparable](t *testing.T, r run, name string, parts func(*T) (*numbers, *int64)) {
	db, err := raceproof.New(r.pool)
	require.NoError(t, err)
	defer db.Close()
	table := raceproof.MustTable[T](name)
	c := comparison[T]{run: r, t: t, db: db, table: table.Mapping(), update: atomic.New(db, table, nil), parts: parts}
	require.NoError(t, c.update.Err())
	query := `SELECT * FROM ` + name + ` ORDER BY id`
	require.NoError(t, r.pool.Select(&c.rows, query))
	for range *batches {
		require.NoError(t, db.Transact(t.Context(), func(ctx context.Context) error {
			for range batch {
				c.one(ctx)
			}
			return nil
		}))
	}
	var stored []T
	require.NoError(t, r.pool.Select(&stored, query))
	assert.Equal(t, c.rows, stored)

	all := *batches * batch
	t.Logf("%s: %+v of %d", name, c.tally, all)
	assert.Less(t, c.beyond+c.tooLarge, all/2, "most are known")
	assert.Greater(t, c.applied, all/4)
	assert.Greater(t, c.refused, all/20)
	assert.Greater(t, c.beyond, all/20, "some are not")
}

type comparison[T comparable] struct {
	run
	tally
	t      *testing.T
	db     *raceproof.DB
	table  *mapping.Mapping
	update *atomic.Updater[T]
	parts  func(*T) (*numbers, *int64)
	rows   []T
}

// one makes a change of a row by the database and by itself.
func (c *comparison[T]) one(ctx context.Context) {
	i := c.random.IntN(len(c.rows))
	before := c.rows[i]
	row := before
	change := randomChange(c.random)
	exact := func(column int) bool { return c.table.Columns[column].Kind == mapping.Integer }
	applied, refused := change.Evaluate(c.table, c.db.Pool().Dialect(), reflect.ValueOf(&row).Elem(), exact)
	require.False(c.t, applied && refused)
	if !applied {
		require.Equal(c.t, before, row, "%s", change)
	}

	var got T
	err := c.db.Transact(ctx, func(ctx context.Context) (err error) {
		got, err = c.update.Update(ctx, i, change)
		return err
	})
	if err == nil {
		c.rows[i] = got
	}
	numbers, version := c.parts(&row)
	switch {
	case refused:
		c.refused++
		require.ErrorIs(c.t, err, raceproof.ErrConditionFailed, "%+v: %s", before, change)
	case !applied:
		c.beyond++
	case !numbers.fit(c.database):
		c.tooLarge++
		require.ErrorIs(c.t, err, raceproof.ErrOutOfRange, "%+v: %s", before, change)
	default:
		c.applied++
		require.NoError(c.t, err, "%+v: %s", before, change)
		*version++
		require.Equal(c.t, row, got, "%+v: %s", before, change)
	}
}
