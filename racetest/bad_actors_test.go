package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"runtime"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/raceproof/raceproof/racetest"
)

// A badActor does one thing wrong.
type badActor struct {
	name   string
	do     actorFunc
	kind   racetest.Kind
	text   []string
	stuck  bool            // it is found after a time in which nothing happens
	slow   bool            // and so is what it leaves behind
	ignore []goleak.Option // what database/sql leaves behind of it whatever anybody does
}

const left = "INSERT INTO players (score) VALUES (1)"

var badActors = []badActor{
	{name: "waits for its context", stuck: true, kind: racetest.NoEnd, text: []string{"neither to a statement nor to its end"},
		do: func(ctx context.Context, _ *sql.DB) error { <-ctx.Done(); return ctx.Err() }},
	{name: "loops", stuck: true, kind: racetest.NoEnd, text: []string{"neither to a statement nor to its end"},
		do: func(ctx context.Context, _ *sql.DB) error {
			for ctx.Err() == nil {
				runtime.Gosched()
			}
			return nil
		}},
	{name: "loops over connections", stuck: true, kind: racetest.NoEnd, text: []string{"neither to a statement nor to its end"},
		do: func(_ context.Context, db *sql.DB) error {
			for {
				c, err := db.Conn(context.Background())
				if err != nil {
					return nil // it was closed
				}
				_ = c.Close()
			}
		}},
	{name: "waits for a connection of its own", stuck: true, kind: racetest.NoEnd, text: []string{"neither to a statement nor to its end", "since " + left},
		do: func(_ context.Context, db *sql.DB) error {
			db.SetMaxOpenConns(1)
			tx, err := db.Begin()
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
			if _, err := tx.Exec(left); err != nil {
				return err
			}
			return write(context.Background(), db)
		}},
	{name: "polls for ever", stuck: true, kind: racetest.Deadlock, text: []string{"nobody can go on: ", "bad waits for bad", left},
		do: func(ctx context.Context, db *sql.DB) error {
			return within(ctx, db, func(*sql.Tx) error {
				for ctx.Err() == nil {
					if _, err := db.ExecContext(ctx, left); err == nil {
						return nil
					}
				}
				return ctx.Err()
			})
		}},
	{name: "blocks itself", kind: racetest.Deadlock, text: []string{"bad waits for bad", "bad has failed", left},
		do: func(ctx context.Context, db *sql.DB) error {
			return within(ctx, db, func(*sql.Tx) error {
				_, err := db.ExecContext(ctx, left)
				return err
			})
		}},
	{name: "sends without end", kind: racetest.NoEnd, text: []string{"no end after 30 statements", "bad's " + left},
		do: func(ctx context.Context, db *sql.DB) error {
			for ctx.Err() == nil {
				_, _ = db.ExecContext(ctx, left)
			}
			return nil
		}},
	{name: "sets without end", kind: racetest.NoEnd, text: []string{"no end after 30 statements", "bad's PRAGMA foreign_keys = ON"},
		do: func(ctx context.Context, db *sql.DB) error {
			for ctx.Err() == nil {
				_, _ = db.ExecContext(ctx, "PRAGMA foreign_keys = ON")
			}
			return nil
		}},
	{name: "sends from elsewhere", kind: racetest.ForeignGoroutine, text: []string{"another goroutine", left},
		do: func(ctx context.Context, db *sql.DB) error {
			done := make(chan error)
			go func() { _, err := db.ExecContext(ctx, left); done <- err }()
			return <-done
		}},
	{name: "begins elsewhere", kind: racetest.ForeignGoroutine, text: []string{"another goroutine", ": BEGIN"},
		do: func(ctx context.Context, db *sql.DB) error {
			done := make(chan error)
			go func() { _, err := db.BeginTx(ctx, nil); done <- err }()
			return <-done
		}},
	{name: "panics", kind: racetest.Panic, text: []string{"bad panicked: oops", "actors_test.go"},
		do: func(context.Context, *sql.DB) error { panic("oops") }},
	{name: "panics with nil", kind: racetest.Panic, text: []string{"bad panicked: panic called with nil"},
		do: func(context.Context, *sql.DB) error { panic(nil) }},
	{name: "panics with an error", kind: racetest.Panic, text: []string{"bad panicked: EOF"},
		do: func(context.Context, *sql.DB) error { panic(errors.New("EOF")) }},
	{name: "panics at last", kind: racetest.Panic, text: []string{"bad panicked: at last"},
		do: func(context.Context, *sql.DB) error { defer func() { panic("at last") }(); return errors.New("no") }},
	{name: "panics in a transaction", kind: racetest.Panic, text: []string{"bad panicked: oops", left},
		do: func(ctx context.Context, db *sql.DB) error {
			return within(ctx, db, func(*sql.Tx) error { panic("oops") })
		}},
	{name: "panics and leaves a transaction", kind: racetest.Panic, text: []string{"bad panicked: oops", "BEGIN"},
		do: func(ctx context.Context, db *sql.DB) error {
			if _, err := db.BeginTx(ctx, nil); err != nil {
				return err
			}
			panic("oops")
		}},
	{name: "panics while it scans", slow: true, kind: racetest.Panic, text: []string{"bad panicked: unfit", "Scan"},
		do: func(_ context.Context, db *sql.DB) error {
			rows, err := db.Query(reads) // with a context, database/sql would wait for ever for the lock that Scan has kept
			if err != nil {
				return err
			}
			rows.Next()
			return rows.Scan(unfit{})
		}},
	{name: "ends its goroutine", kind: racetest.Panic, text: []string{"bad ended its goroutine"},
		do: func(context.Context, *sql.DB) error { runtime.Goexit(); return nil }},
	{name: "requires", kind: racetest.Panic, text: []string{"bad ended its goroutine", "t.FailNow"},
		do: func(context.Context, *sql.DB) error { require.NoError(&quiet{}, errors.New("no")); return nil }},
	{name: "leaves a transaction", kind: racetest.Leak, text: []string{"left a transaction open, begun by step ", "BEGIN"},
		do: func(ctx context.Context, db *sql.DB) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, left)
			return err
		}},
	{name: "leaves a transaction of no context", slow: true, kind: racetest.Leak, text: []string{"left a transaction open, begun by step "},
		ignore: []goleak.Option{goleak.IgnoreAnyFunction("database/sql.(*Tx).awaitDone")},
		do:     func(_ context.Context, db *sql.DB) (err error) { forgotten, err = db.Begin(); return err }},
	{name: "leaves a transaction by text", kind: racetest.Leak, text: []string{"left a transaction open, begun by step "},
		do: func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "BEGIN IMMEDIATE")
			_, set := db.ExecContext(ctx, "PRAGMA foreign_keys = ON")
			return errors.Join(err, set)
		}},
	{name: "leaves a transaction in a text of several", kind: racetest.Leak, text: []string{"left a transaction open, begun by step "},
		do: func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "COMMIT; BEGIN; "+left)
			if err != nil {
				_, err = db.ExecContext(ctx, "BEGIN; "+left)
			}
			return err
		}},
	{name: "leaves a savepoint", kind: racetest.Leak, text: []string{"left a transaction open, begun by step "},
		do: func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "SAVEPOINT a; ")
			return err
		}},
	{name: "leaves rows", kind: racetest.Leak, text: []string{"left rows open, of SELECT id FROM players"},
		do: func(ctx context.Context, db *sql.DB) error {
			_, err := db.QueryContext(ctx, "SELECT id FROM players")
			return err
		}},
	{name: "leaves rows half read", slow: true, kind: racetest.Leak, text: []string{"left rows open, of SELECT id FROM players"},
		do: func(_ context.Context, db *sql.DB) error {
			rows, err := db.Query("SELECT id FROM players")
			if err != nil {
				return err
			}
			rows.Next()
			return nil
		}},
	{name: "leaves a row", kind: racetest.Leak, text: []string{"left rows open, of SELECT id FROM players"},
		do: func(ctx context.Context, db *sql.DB) error {
			return db.QueryRowContext(ctx, "SELECT id FROM players").Err()
		}},
	{name: "leaves rows of what it has prepared", kind: racetest.Leak, text: []string{"left rows open, of SELECT id FROM players"},
		do: func(ctx context.Context, db *sql.DB) error {
			st, err := db.PrepareContext(ctx, "SELECT id FROM players")
			if err != nil {
				return err
			}
			_, err = st.QueryContext(ctx)
			return err
		}},
	{name: "keeps a connection", slow: true, kind: racetest.Leak, text: []string{"bad has ended and keeps a connection", ": " + left},
		do: func(ctx context.Context, db *sql.DB) error {
			c, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			_, err = c.ExecContext(ctx, left)
			return err
		}},
	{name: "fails", kind: racetest.ActorFailed, text: []string{"bad has failed: no such table: nowhere", "SELECT x FROM nowhere"},
		do: func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "SELECT x FROM nowhere")
			if err != nil {
				err = errors.New(err.Error())
			}
			return err
		}},
	{name: "commits twice", kind: racetest.ActorFailed, text: []string{"bad has failed: sql: transaction has already been committed", "COMMIT"},
		do: func(ctx context.Context, db *sql.DB) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			return errors.Join(tx.Commit(), tx.Commit())
		}},
	{name: "commits twice by text", kind: racetest.ActorFailed, text: []string{"bad has failed: cannot commit - no transaction is active"},
		do: func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "COMMIT")
			return err
		}},
	{name: "closes its database", kind: racetest.ActorFailed, text: []string{"bad has failed: sql: database is closed"},
		do: func(ctx context.Context, db *sql.DB) error { return errors.Join(db.Close(), write(ctx, db)) }},
}

// forgotten is a transaction that nothing but its own end ends.
var forgotten *sql.Tx

type unfit struct{}

func (unfit) Scan(any) error { panic("unfit") }

// quiet is a test that fails without a word.
type quiet struct{}

func (*quiet) Errorf(string, ...any) {}
func (*quiet) FailNow()              { runtime.Goexit() }

// within does something in a transaction that has written.
func within(ctx context.Context, db *sql.DB, do func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, left); err != nil {
		return err
	}
	if err := do(tx); err != nil {
		return err
	}
	return tx.Commit()
}
