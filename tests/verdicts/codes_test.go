package verdicts_test

import (
	"context"
	"net/url"
	"strconv"
	"testing"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/tests/databases"
	"github.com/raceproof/raceproof/tests/verdicts/world"
)

// A failure is an error of a database, how to get it, and what it is to mean.
type failure struct {
	name    string
	code    string
	class   dialect.Class
	ends    bool // the transaction
	unknown bool // whether a COMMIT was applied that failed with it
	provoke func(*stage) error
}

// A stage is where one failure is provoked.
type stage struct {
	*testing.T
	*world.World
}

// conn returns a connection of its own, with parameters of the driver's: name, value, name, value.
func (s *stage) conn(parameters ...string) *sqlx.Conn {
	s.Helper()
	values := url.Values{}
	for i := 0; i < len(parameters); i += 2 {
		values.Set(parameters[i], parameters[i+1])
	}
	pool := s.Fresh.Open(databases.Options{Parameters: values})
	c, err := pool.Connx(context.Background())
	require.NoError(s, err)
	s.Cleanup(func() {
		_ = c.Close()
		_ = pool.Close() // now, and not at the end of the test around this one
	})
	return c
}

// run sends a statement, which must succeed.
func (s *stage) run(c sqlx.ExecerContext, statements ...string) {
	s.Helper()
	for _, statement := range statements {
		require.NoError(s, try(c, statement), statement)
	}
}

func try(c sqlx.ExecerContext, statement string) error {
	_, err := c.ExecContext(context.Background(), statement)
	return err
}

// Each error that the drivers return is classified for what the database has done.
func TestCodes(t *testing.T) {
	check := func(names []string, failures []failure) {
		each(t, names, func(t *testing.T, d databases.Database) {
			w := world.New(t, d, databases.Options{})
			for _, f := range failures {
				ok := t.Run(f.name, func(t *testing.T) {
					err := f.provoke(&stage{t, w})
					require.Error(t, err)
					require.Equal(t, f.code, saw(d, err), "%v", err)
					assert.Equal(t, f.class, w.Dialect.Classify(err), "%v", err)
					assert.Equal(t, f.ends, w.Dialect.EndsTransaction(err), "ends the transaction: %v", err)
					assert.Equal(t, !f.unknown, w.Dialect.Refused(err), "refused: %v", err)
					assert.True(t, w.Dialect.FromServer(err), "%v", err)
				})
				if ok {
					w.Reset()
				}
			}
		})
	}
	each(t, onSQLite, func(t *testing.T, d databases.Database) {
		world.SQLite(t, d, func(err error) int {
			code, _ := strconv.Atoi(saw(d, err))
			return code
		})
	})
	check(onPostgres, ofPostgres)
	check(onPostgres[:1], ofPgx)
	check(onMariaDB, ofMariaDB)
}
