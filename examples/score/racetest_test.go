package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/racetest"
)

// A user is an actor: a process of the service that has the file in common with the others, and is sent one click.
type user struct {
	pattern  string
	once     bool  // the optimistic pattern may try only once
	answered int64 // the score that the last click was answered with, if that was counted
}

// A refusal is the status of an answer that is not 200.
type refusal int

func (r refusal) Error() string { return fmt.Sprintf("the click was answered with %d", int(r)) }

// click calls the handler in the goroutine that it is called in itself: racetest wants all statements to come from there.
func (u *user) click(ctx context.Context, own *sql.DB) error {
	pool := sqlx.NewDb(own, "sqlite3")
	db, err := raceproof.New(pool)
	if err != nil {
		return err
	}
	defer db.Close()
	updaters, err := newUpdaters(db, pool)
	if err != nil {
		return err
	}
	if u.once {
		policy := raceproof.RetryPolicy{MaxAttempts: 1}
		updaters["optimistic"] = raceproof.Bind(optimistic.New(db, players, &optimistic.Options{Retry: policy}), inGo)
	}
	answer := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(ctx, http.MethodPost, "/players/1/score/"+u.pattern, nil)
	(&service{pool, updaters, time.Minute}).routes().ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		return refusal(answer.Code)
	}
	var a clicked
	err = json.Unmarshal(answer.Body.Bytes(), &a)
	u.answered = a.Player.Score
	return err
}

// earn is what a click makes of a score when it is alone.
func (u *user) earn(score int64) int64 {
	if u.pattern == "atomic" {
		return score + bonus
	}
	p := Player{Score: score}
	_ = click{weight: 1}.award(context.Background(), &p)
	return p.Score
}

// together is a scenario of users who click on one player at the same time. Every click that was answered with 200 must
// be in the score, and its answer must be the score that this very click made: as if one had come after the other. That
// any other answer comes fails it.
func together(t *testing.T, users map[string]*user) racetest.Scenario {
	t.Helper()
	_, path := testDB(t)
	actors := racetest.Actors{}
	for name, u := range users {
		actors[name] = u.click
	}
	return racetest.Scenario{
		Open:   racetest.Driver("sqlite3", dsn(path)),
		Actors: actors,
		Setup: func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "UPDATE players SET score = 0, version = 1")
			return err
		},
		Check: func(ctx context.Context, db *sql.DB, returned map[string]error) error {
			p, err := find(ctx, sqlx.NewDb(db, "sqlite3"), 1)
			if err != nil {
				return err
			}
			var counted []*user
			for name, err := range returned {
				if err == nil {
					counted = append(counted, users[name])
				}
			}
			slices.SortFunc(counted, func(a, b *user) int { return int(a.answered - b.answered) }) // the score only grows
			var want int64
			var wrong error
			for _, u := range counted {
				if want = u.earn(want); u.answered != want {
					wrong = errors.Join(wrong, fmt.Errorf("a click was answered with the score %d, want %d", u.answered, want))
				}
			}
			switch n := len(counted); {
			case p.Score < want:
				return fmt.Errorf("%d clicks were answered with 200, the score is %d, want %d: a click is lost", n, p.Score, want)
			case p.Score > want:
				return fmt.Errorf("%d clicks were answered with 200, the score is %d, want %d: one more is in it", n, p.Score, want)
			}
			return wrong
		},
	}
}

// clicking returns users of these patterns, by names that a timeline is easily read with.
func clicking(patterns ...string) map[string]*user {
	users := map[string]*user{}
	for i, pattern := range patterns {
		users[[]string{"ada", "bob", "eve"}[i]] = &user{pattern: pattern}
	}
	return users
}

// The first schedule that loses a click is as simple as can be: one user is interrupted, once, between the read and the
// write. The first statement of each is raceproof.New's.
func TestSchedulesNaiveLosesAClick(t *testing.T) {
	for _, test := range []struct {
		users   map[string]*user
		token   string
		message string
	}{
		{clicking("naive", "naive"), "a a b b b a", "2 clicks were answered with 200, the score is 11, want 21: a click is lost"},
		{clicking("naive", "naive", "naive"), "a a b b b a e e e",
			"3 clicks were answered with 200, the score is 21, want 32: a click is lost"},
	} {
		t.Run(fmt.Sprint(len(test.users)), func(t *testing.T) {
			s := together(t, test.users)
			s.Limit = 50
			for _, options := range [][]racetest.Option{nil, {racetest.Replay(test.token)}} {
				_, err := racetest.Run(t.Context(), s, options...)
				var f *racetest.Failure
				require.ErrorAs(t, err, &f)
				require.Equal(t, racetest.Invariant, f.Kind, "%v", f)
				assert.EqualError(t, f.Err, test.message)
				assert.Equal(t, test.token, f.Token)
				assert.Equal(t, 1, f.Switches)
				assert.Equal(t, "UPDATE players SET score = 11 WHERE id = 1", f.Steps[4].Statement)
				assert.Equal(t, f.Steps[4].Statement, f.Steps[5].Statement, "both write what they made of the same score")
				assert.NotEqual(t, f.Steps[4].Actor, f.Steps[5].Actor)
			}
		})
	}
}

// The other patterns count both clicks in every schedule there is, also each beside another one. The schedules of three
// users are few enough for one pattern.
func TestSchedulesCountEveryClick(t *testing.T) {
	for _, patterns := range [][]string{
		{"lock", "lock"}, {"optimistic", "optimistic"}, {"atomic", "atomic"}, {"atomic", "atomic", "atomic"},
		{"lock", "optimistic"}, {"lock", "atomic"}, {"optimistic", "atomic"}, {"serial", "serial"}, {"serial", "optimistic"},
	} {
		t.Run(strings.Join(patterns, ","), func(t *testing.T) {
			racetest.Explore(t, together(t, clicking(patterns...)))
		})
	}
}

// A click that is answered with 409 is not counted, in any schedule, and one of two always is.
func TestSchedulesConflictIsNotCounted(t *testing.T) {
	users := clicking("optimistic", "optimistic")
	for _, u := range users {
		u.once = true
	}
	s := together(t, users)
	conflicts, check := 0, s.Check
	s.MayFail = func(_ string, err error) bool { return errors.Is(err, refusal(http.StatusConflict)) }
	s.Check = func(ctx context.Context, db *sql.DB, returned map[string]error) error {
		switch ada, bob := returned["ada"], returned["bob"]; {
		case ada != nil && bob != nil:
			return errors.New("nobody's click was counted")
		case ada != nil || bob != nil:
			conflicts++
		}
		return check(ctx, db, returned)
	}
	r := racetest.Explore(t, s)
	assert.Positive(t, conflicts)
	assert.Less(t, conflicts, r.Schedules, "one click after the other is no conflict")
}
