package racetest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/raceproof/raceproof/racetest"
)

// TestBadActors wants each named, wherever it goes wrong, beside a good one.
func TestBadActors(t *testing.T) {
	for i, bad := range badActors {
		for place, where := range []string{"first", "in the middle", "last"} {
			for _, other := range []string{"a-good", "z-good"} {
				if other == "z-good" && place != 1 || (bad.stuck || bad.slow) && (place != i%3 || other == "z-good") {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%s", bad.name, where, other), func(t *testing.T) {
					s := scenario(&counted{dsn: file(t)}, racetest.Actors{"bad": with(place, bad.do), other: add(1)})
					s.Steps = 30
					if bad.stuck {
						s.Patience = 300 * time.Millisecond
					}
					_, err := behave(t, s, bad.ignore...)
					if forgotten != nil {
						_ = forgotten.Rollback()
						forgotten = nil
					}
					actor := "bad"
					if bad.name == "polls for ever" {
						actor = "" // nobody's alone
					}
					f := failed(t, err, bad.kind, actor, bad.text...)
					if _, step, found := strings.Cut(f.Err.Error(), "begun by step "); found {
						n, err := strconv.Atoi(step)
						require.NoError(t, err)
						assert.Regexp(t, "^(BEGIN|SAVEPOINT)", f.Steps[n-1].Statement)
					}
					assert.NotContains(t, err.Error(), "did not end when told to")
				})
			}
		}
	}
}

// TestTwoBadActors wants one of them named.
func TestTwoBadActors(t *testing.T) {
	for _, bad := range badActors {
		if bad.stuck || bad.slow {
			continue
		}
		t.Run(bad.name, func(t *testing.T) {
			s := scenario(&counted{dsn: file(t)}, racetest.Actors{"bad": with(1, bad.do), "too": with(1, bad.do)})
			s.Steps = 30
			_, err := behave(t, s, bad.ignore...)
			var f *racetest.Failure
			require.ErrorAs(t, err, &f)
			assert.Equal(t, bad.kind, f.Kind, "%v", err)
		})
	}
}

// TestDeafActor wants it said that an actor does not end although it is told to, and the others let go.
func TestDeafActor(t *testing.T) {
	stop, gone := make(chan struct{}), make(chan struct{})
	s := scenario(&counted{dsn: file(t)}, racetest.Actors{"good": add(1), "deaf": func(context.Context, *sql.DB) error {
		defer close(gone)
		<-stop
		return nil
	}})
	s.Patience = 300 * time.Millisecond
	_, err := behave(t, s, goleak.IgnoreAnyFunction("github.com/raceproof/raceproof/racetest_test.TestDeafActor.func1"))
	close(stop)
	<-gone
	failed(t, err, racetest.NoEnd, "deaf", "neither to a statement nor to its end", "deaf did not end when told to", "actors_test.go")
}

// TestStatementWithoutEnd wants a statement ended that goes on for ever, and shown as it was before that.
func TestStatementWithoutEnd(t *testing.T) {
	s := scenario(&counted{dsn: file(t)}, racetest.Actors{"good": look, "bad": func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, "WITH RECURSIVE c (x) AS (VALUES (1) UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c")
		return err
	}})
	s.Patience = 300 * time.Millisecond
	f := fails(t, s, racetest.NoEnd, "bad", "the database has not answered", ": WITH RECURSIVE c (x)")
	assert.Empty(t, f.Steps[len(f.Steps)-1].Result)
}

// TestStatementAfterTheEnd is of an actor that has returned, and sends something from elsewhere while the other still runs.
func TestStatementAfterTheEnd(t *testing.T) {
	returned := make(chan struct{})
	s := scenario(&counted{dsn: file(t)}, racetest.Actors{
		"a-bad": func(ctx context.Context, db *sql.DB) error {
			returned = make(chan struct{})
			go func() {
				<-returned
				_, _ = db.ExecContext(ctx, left)
			}()
			return look(ctx, db)
		},
		"good": func(ctx context.Context, db *sql.DB) error {
			if err := look(ctx, db); err != nil {
				return err
			}
			close(returned)
			<-ctx.Done() // until the other is blamed
			return ctx.Err()
		},
	})
	fails(t, s, racetest.ForeignGoroutine, "a-bad", "another goroutine", left)
}

// TestNotDeterministic is of actors that do something else the second time.
func TestNotDeterministic(t *testing.T) {
	for name, bad := range map[string]struct {
		do    func(n int) actorFunc
		texts []string
	}{
		"another text": {func(n int) actorFunc {
			return func(ctx context.Context, db *sql.DB) error {
				_, err := db.ExecContext(ctx, fmt.Sprintf("UPDATE players SET score = %d", min(n, 2)))
				return err
			}
		}, []string{`it was about to send "UPDATE players SET score = 1"`, `it is about to send "UPDATE players SET score = 2"`}},
		"an extra statement": {func(n int) actorFunc {
			return func(ctx context.Context, db *sql.DB) error {
				if n == 1 {
					return write(ctx, db)
				}
				return errors.Join(write(ctx, db), write(ctx, db))
			}
		}, []string{"it had ended at choice", "it is about to send \"" + writes}},
		"ends earlier": {func(n int) actorFunc {
			return func(ctx context.Context, db *sql.DB) error {
				if n > 1 {
					return write(ctx, db)
				}
				return errors.Join(write(ctx, db), write(ctx, db))
			}
		}, []string{`it was about to send "` + writes, "now it has ended"}},
		"sends nothing": {func(n int) actorFunc {
			if n > 1 {
				return func(context.Context, *sql.DB) error { return nil }
			}
			return write
		}, []string{`it was about to send "` + writes, "now it has ended"}},
	} {
		t.Run(name, func(t *testing.T) {
			n := 0
			s := scenario(&counted{dsn: file(t)}, racetest.Actors{
				"bad":  func(ctx context.Context, db *sql.DB) error { n++; return bad.do(n)(ctx, db) },
				"good": add(1), "other": add(2),
			})
			f := fails(t, s, racetest.NotDeterministic, "bad", append(bad.texts, "bad is not deterministic: under the same schedule")...)
			assert.Greater(t, f.Schedules, 1)
		})
	}
}

// TestNotDeterministicWait is of an actor that waits where it has not before.
func TestNotDeterministicWait(t *testing.T) {
	n := 0
	s := scenario(&counted{dsn: file(t)}, racetest.Actors{
		"bad": func(ctx context.Context, db *sql.DB) error {
			n++
			_, err := db.ExecContext(ctx, left)
			return errors.Join(err, look(ctx, db))
		},
		"good": func(ctx context.Context, db *sql.DB) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			defer func() { _ = tx.Rollback() }()
			if n > 2 { // as if its lock had become wider
				_, err = tx.ExecContext(ctx, "DELETE FROM players")
			} else {
				_, err = tx.ExecContext(ctx, "DELETE FROM players WHERE id = (SELECT 1)")
			}
			return err
		},
	})
	_, err := behave(t, s)
	var f *racetest.Failure
	require.ErrorAs(t, err, &f)
	assert.Equal(t, racetest.NotDeterministic, f.Kind, "%v", err)
	assert.Equal(t, "good", f.Actor)
	assert.False(t, strings.Contains(err.Error(), "context canceled"), "what came of giving up is not in the timeline: %v", err)
}
