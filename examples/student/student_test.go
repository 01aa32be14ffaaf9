package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/optimistic"
)

const (
	asJSON = "application/json"
	asForm = "application/x-www-form-urlencoded"
)

// ada is the student with the id 1 as every test finds her.
var ada = Student{ID: 1, Name: "Ada Lovelace", Address: "12 St James's Square", GPA: 390, Version: 1}

// testDB opens a database of its own. The file's name has the characters that mean something in a URI.
func testDB(t *testing.T) (*sqlx.DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "100% student? #1.db")
	pool, err := open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, pool.Close()) })
	require.FileExists(t, path)
	return pool, path
}

// database wraps the pool, until the test ends.
func database(t *testing.T, pool *sqlx.DB) *raceproof.DB {
	db, err := raceproof.New(pool)
	require.NoError(t, err)
	t.Cleanup(db.Close)
	return db
}

// testService is a service whose parts a test may change before it serves.
func testService(t *testing.T, pattern string) *service {
	t.Helper()
	pool, _ := testDB(t)
	protected, err := newUpdater(database(t, pool), pattern)
	require.NoError(t, err)
	return &service{pool, protected, &naive{pool: pool}, time.Minute}
}

// serving returns the base URL of a server that ends with the test.
func serving(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// answer is whatever the service sends.
type answer struct {
	status int
	header http.Header

	Student
	Error string
}

// send makes a request. It reports failures without ending the test, so that any goroutine can call it.
func send(t *testing.T, method, url, contentType, body string) (a answer) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if !assert.NoError(t, err) {
		return a
	}
	r.Header.Set("Content-Type", contentType)
	response, err := http.DefaultClient.Do(r)
	if !assert.NoError(t, err) {
		return a
	}
	defer func() { _ = response.Body.Close() }()
	a.status, a.header = response.StatusCode, response.Header
	assert.NoError(t, json.NewDecoder(response.Body).Decode(&a))
	assert.Equal(t, asJSON, a.header.Get("Content-Type"))
	return a
}

// patchStudent sends a patch until it is made: a conflict that the service gives up on has changed nothing.
func patchStudent(t *testing.T, url, body string) Student {
	for {
		a := send(t, http.MethodPatch, url, asJSON, body)
		if a.status == http.StatusConflict {
			continue
		}
		assert.Equal(t, http.StatusOK, a.status, a.Error)
		return a.Student
	}
}

// meeting returns a function whose first two callers wait for each other.
func meeting(t *testing.T) func() {
	var mu sync.Mutex
	callers, complete := 0, make(chan struct{})
	return func() {
		mu.Lock()
		if callers++; callers == 2 {
			close(complete)
		}
		mu.Unlock()
		select {
		case <-complete:
		case <-time.After(20 * time.Second):
			t.Error("the second request never came this far")
		}
	}
}

// twoPatches sends two patches of different fields at the same time, and returns both answers and what is left.
func twoPatches(t *testing.T, s *service, path string) (byName, byAddress, final Student) {
	t.Helper()
	url := serving(t, s.routes()) + path
	var users sync.WaitGroup
	users.Go(func() { byName = patchStudent(t, url, `{"name": "Ada King"}`) })
	users.Go(func() { byAddress = patchStudent(t, url, `{"address": "Ockham Park"}`) })
	users.Wait()
	final, err := find(t.Context(), s.pool, 1)
	require.NoError(t, err)
	return byName, byAddress, final
}

func TestNaiveUndoesAnotherField(t *testing.T) {
	s := testService(t, "optimistic")
	s.naive = &naive{s.pool, meeting(t)}
	byName, byAddress, final := twoPatches(t, s, "/naive/students/1")

	assert.Equal(t, "Ada King", byName.Name, "both users are told that their change is made")
	assert.Equal(t, "Ockham Park", byAddress.Address, "both users are told that their change is made")
	survivors := 0
	if final.Name == "Ada King" {
		survivors++
		assert.Equal(t, ada.Address, final.Address)
	}
	if final.Address == "Ockham Park" {
		survivors++
		assert.Equal(t, ada.Name, final.Name)
	}
	assert.Equal(t, 1, survivors, "one of the two changes is undone: %+v", final)
}

func TestNaiveAloneIsRight(t *testing.T) {
	s := testService(t, "optimistic")
	url := serving(t, s.routes()) + "/naive/students/1"
	patchStudent(t, url, `{"name": "Ada King"}`)
	got := patchStudent(t, url, `{"address": "Ockham Park"}`)
	assert.Equal(t, "Ada King", got.Name)
	assert.Equal(t, "Ockham Park", got.Address)
}

func assertBothSurvive(t *testing.T, byName, byAddress, final Student) {
	t.Helper()
	assert.Equal(t, "Ada King", byName.Name)
	assert.Equal(t, "Ockham Park", byAddress.Address)
	both := Student{ID: 1, Name: "Ada King", Address: "Ockham Park", GPA: ada.GPA, Version: 3}
	assert.Equal(t, both, final)
	assert.Contains(t, []Student{byName, byAddress}, both, "the later one is answered what both have made")
}

func TestLockKeepsBothFields(t *testing.T) {
	byName, byAddress, final := twoPatches(t, testService(t, "lock"), "/students/1")
	assertBothSurvive(t, byName, byAddress, final)
}

// Both requests have read the record before either writes: what undoes one by the naive pattern.
func TestOptimisticKeepsBothFields(t *testing.T) {
	s := testService(t, "optimistic")
	db, err := raceproof.New(s.pool)
	require.NoError(t, err)
	meet := meeting(t)
	s.protected = raceproof.Bind(optimistic.New(db, students, nil), func(p patch) raceproof.Func[Student] {
		return func(ctx context.Context, row *Student) error {
			meet()
			return p.apply(ctx, row)
		}
	})
	byName, byAddress, final := twoPatches(t, s, "/students/1")
	assertBothSurvive(t, byName, byAddress, final)
}

// Three writers change one field each, again and again, and check in every answer that theirs is as they sent it.
func TestFieldsDoNotDisturbEachOther(t *testing.T) {
	const times = 50
	for _, pattern := range []string{"lock", "optimistic"} {
		t.Run(pattern, func(t *testing.T) {
			pool, _ := testDB(t)
			handler, err := newHandler(database(t, pool), pool, pattern, time.Minute)
			require.NoError(t, err)
			url := serving(t, handler) + "/students/1"

			var writers sync.WaitGroup
			write := func(body string, own func(Student) any, value func(int) any) {
				writers.Go(func() {
					for i := range times {
						got := patchStudent(t, url, fmt.Sprintf(body, value(i)))
						assert.Equal(t, value(i), own(got))
					}
				})
			}
			write(`{"name": %q}`, func(s Student) any { return s.Name }, func(i int) any { return fmt.Sprint("Ada ", i) })
			write(`{"address": %q}`, func(s Student) any { return s.Address }, func(i int) any { return fmt.Sprint("Road ", i) })
			write(`{"gpa": %d}`, func(s Student) any { return s.GPA }, func(i int) any { return int64(i) })
			writers.Wait()

			final, err := find(t.Context(), pool, 1)
			require.NoError(t, err)
			assert.Equal(t, Student{ID: 1, Name: "Ada 49", Address: "Road 49", GPA: 49, Version: 1 + 3*times}, final)
		})
	}
}

// What else is in the record is not written, even with the value that it has: a trigger on every other column would say
// so.
func TestOnlyChangedColumnsAreWritten(t *testing.T) {
	for _, pattern := range []string{"lock", "optimistic"} {
		t.Run(pattern, func(t *testing.T) {
			s := testService(t, pattern)
			_, err := s.pool.ExecContext(t.Context(), `CREATE TRIGGER strict BEFORE UPDATE OF id, name, address ON students
				BEGIN SELECT raise(ABORT, 'a column that the request does not name is written'); END`)
			require.NoError(t, err)
			url := serving(t, s.routes())
			assert.EqualValues(t, 400, patchStudent(t, url+"/students/1", `{"gpa": 400}`).GPA)
			assert.Equal(t, 500, send(t, http.MethodPatch, url+"/naive/students/1", asJSON, `{"gpa": 400}`).status)
		})
	}
}
