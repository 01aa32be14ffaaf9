package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
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

// An editor is an actor: a process of the service that has the file in common with the others, and is sent one patch.
type editor struct {
	pattern string
	body    string
	apply   func(*Student) // what the patch makes of a student

	answered Student // what the last patch was answered with, if that was made
}

// A refusal is the status of an answer that is not 200.
type refusal int

func (r refusal) Error() string { return fmt.Sprintf("the patch was answered with %d", int(r)) }

// patch calls the handler in the goroutine that it is called in itself: racetest wants all statements to come from there.
func (e *editor) patch(ctx context.Context, own *sql.DB) error {
	pool := sqlx.NewDb(own, "sqlite3")
	db, err := raceproof.New(pool)
	if err != nil {
		return err
	}
	defer db.Close()
	s := &service{pool, nil, &naive{pool: pool}, time.Minute}
	path := "/students/1"
	switch e.pattern {
	case "naive":
		path = "/naive" + path
	case "once": // optimistic, with one attempt
		policy := raceproof.RetryPolicy{MaxAttempts: 1}
		s.protected = raceproof.Bind(optimistic.New(db, students, &optimistic.Options{Retry: policy}), change)
	default:
		if s.protected, err = newUpdater(db, e.pattern); err != nil {
			return err
		}
	}
	answer := httptest.NewRecorder()
	request := httptest.NewRequestWithContext(ctx, http.MethodPatch, path, strings.NewReader(e.body))
	request.Header.Set("Content-Type", asJSON)
	s.routes().ServeHTTP(answer, request)
	if answer.Code != http.StatusOK {
		return refusal(answer.Code)
	}
	return json.Unmarshal(answer.Body.Bytes(), &e.answered)
}

// editing returns editors of these patterns, each with another field to change, by its name.
func editing(patterns ...string) map[string]*editor {
	all := []struct {
		field string
		editor
	}{
		{"name", editor{body: `{"name": "Ada King"}`, apply: func(s *Student) { s.Name = "Ada King" }}},
		{"address", editor{body: `{"address": "Ockham Park"}`, apply: func(s *Student) { s.Address = "Ockham Park" }}},
		{"gpa", editor{body: `{"gpa": 400}`, apply: func(s *Student) { s.GPA = 400 }}},
	}
	editors := map[string]*editor{}
	for i, pattern := range patterns {
		e := all[i].editor
		e.pattern = pattern
		editors[all[i].field] = &e
	}
	return editors
}

// together is a scenario of editors who change one student at the same time. Every patch that was answered with 200 must
// be in the record, and in its own answer, and nothing else: patches of different fields do not undo each other. That any
// other answer comes fails it.
func together(t *testing.T, editors map[string]*editor) racetest.Scenario {
	t.Helper()
	_, path := testDB(t)
	actors := racetest.Actors{}
	for field, e := range editors {
		actors[field] = e.patch
	}
	return racetest.Scenario{
		Open:   racetest.Driver("sqlite3", dsn(path)),
		Actors: actors,
		Setup: func(ctx context.Context, db *sql.DB) error {
			_, err := db.ExecContext(ctx, "UPDATE students SET name = ?, address = ?, gpa = ?, version = ? WHERE id = ?",
				ada.Name, ada.Address, ada.GPA, ada.Version, ada.ID)
			return err
		},
		Check: func(ctx context.Context, db *sql.DB, returned map[string]error) error {
			got, err := find(ctx, sqlx.NewDb(db, "sqlite3"), ada.ID)
			if err != nil {
				return err
			}
			want := ada
			for field, err := range returned {
				if err != nil {
					continue
				}
				e := editors[field]
				e.apply(&want)
				if e.pattern != "naive" {
					want.Version++
				}
				own := e.answered
				if e.apply(&own); own != e.answered {
					return fmt.Errorf("the patch of the %s is not in its answer %+v", field, e.answered)
				}
			}
			if got != want {
				return fmt.Errorf("the student is %+v, want %+v: a patch that was answered with 200 is undone", got, want)
			}
			return nil
		},
	}
}

// The first schedule that undoes a patch is as simple as can be: one editor is interrupted, once, between the read and
// the write. The first statement of each is raceproof.New's.
func TestSchedulesNaiveUndoesAnotherField(t *testing.T) {
	for _, test := range []struct {
		editors   map[string]*editor
		token     string
		got, want Student
	}{
		{editing("naive", "naive"), "a a n n n a",
			Student{1, ada.Name, "Ockham Park", 390, 1}, Student{1, "Ada King", "Ockham Park", 390, 1}},
		{editing("naive", "naive", "naive"), "a a g g g a n n n",
			Student{1, "Ada King", "Ockham Park", 390, 1}, Student{1, "Ada King", "Ockham Park", 400, 1}},
	} {
		t.Run(fmt.Sprint(len(test.editors)), func(t *testing.T) {
			s := together(t, test.editors)
			s.Limit = 50
			for _, options := range [][]racetest.Option{nil, {racetest.Replay(test.token)}} {
				_, err := racetest.Run(t.Context(), s, options...)
				var f *racetest.Failure
				require.ErrorAs(t, err, &f)
				require.Equal(t, racetest.Invariant, f.Kind, "%v", f)
				assert.EqualError(t, f.Err, fmt.Sprintf(
					"the student is %+v, want %+v: a patch that was answered with 200 is undone", test.got, test.want))
				assert.Equal(t, test.token, f.Token)
				assert.Equal(t, 1, f.Switches)
				undoes := f.Steps[5]
				assert.Equal(t, "address", undoes.Actor)
				assert.Equal(t, "UPDATE students SET name = 'Ada Lovelace', address = 'Ockham Park', gpa = 390 WHERE id = 1",
					undoes.Statement, "it writes the old values of the fields that its patch does not name")
			}
		})
	}
}

// Either of the other patterns keeps both fields in every schedule there is, also beside the other one.
func TestSchedulesKeepBothFields(t *testing.T) {
	for _, patterns := range [][]string{{"lock", "lock"}, {"optimistic", "optimistic"}, {"lock", "optimistic"}} {
		t.Run(strings.Join(patterns, ","), func(t *testing.T) {
			racetest.Explore(t, together(t, editing(patterns...)))
		})
	}
}

// A patch that is answered with 409 has changed nothing, in any schedule, and one of two is always made.
func TestSchedulesConflictChangesNothing(t *testing.T) {
	s := together(t, editing("once", "once"))
	conflicts, check := 0, s.Check
	s.MayFail = func(_ string, err error) bool { return errors.Is(err, refusal(http.StatusConflict)) }
	s.Check = func(ctx context.Context, db *sql.DB, returned map[string]error) error {
		switch name, address := returned["name"], returned["address"]; {
		case name != nil && address != nil:
			return errors.New("neither patch was made")
		case name != nil || address != nil:
			conflicts++
		}
		return check(ctx, db, returned)
	}
	r := racetest.Explore(t, s)
	assert.Positive(t, conflicts)
	assert.Less(t, conflicts, r.Schedules, "one patch after the other is no conflict")
}
