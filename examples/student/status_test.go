package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
)

func TestPatches(t *testing.T) {
	for _, test := range []struct {
		method, contentType, body string
		expected                  Student
	}{
		{"PATCH", asJSON, `{"name": "Ada King"}`, Student{1, "Ada King", ada.Address, 390, 2}},
		{"PATCH", asJSON, `{"name": "", "gpa": -1}`, Student{1, "", ada.Address, -1, 2}},
		{"PATCH", asJSON + "; charset=utf-8", ` {"address": "Ockham Park", "gpa": 400} `,
			Student{1, ada.Name, "Ockham Park", 400, 2}},
		{"POST", asJSON, `{"gpa": 400}`, Student{1, ada.Name, ada.Address, 400, 2}},
		{"POST", asForm, "name=Ada+King&gpa=+400&address=%C3%85", Student{1, "Ada King", "Å", 400, 2}},
		{"PATCH", asForm, "address=Ockham+Park", Student{1, ada.Name, "Ockham Park", 390, 2}},
		{"PATCH", asJSON, `{"gpa": 390}`, ada}, // what is so already is not written
	} {
		for _, pattern := range []string{"lock", "optimistic"} {
			t.Run(pattern+" "+test.method+" "+test.body, func(t *testing.T) {
				s := testService(t, pattern)
				url := serving(t, s.routes()) + "/students/1"
				a := send(t, test.method, url, test.contentType, test.body)
				assert.Equal(t, http.StatusOK, a.status, a.Error)
				assert.Equal(t, test.expected, a.Student)
				assert.Equal(t, test.expected, send(t, http.MethodGet, url, "", "").Student)
			})
		}
	}
}

const (
	noField       = "there is no field to change: send one or more of name, address, gpa"
	notObject     = "the body must be a JSON object"
	oneObject     = "the body must be one JSON object, and nothing after it"
	malformedJSON = "malformed JSON: "
	endsEarly     = malformedJSON + "the body ends too early"
	notText       = "name must be a string"
	notInteger    = "gpa must be an integer"
	noStudent     = "there is no such student"
	wrongType     = "the Content-Type must be application/json or application/x-www-form-urlencoded"
	tooLarge      = "the body is larger than 65536 bytes"
	badID         = "the student's id must be an integer"
)

func unknown(field string) string {
	return `unknown field "` + field + `": the fields are name, address, gpa`
}

// bodies are refused by whatever route they are sent to.
var bodies = []struct {
	contentType, body string
	status            int
	message           string
}{
	{asJSON, `{}`, 400, noField},
	{asForm, ``, 400, noField},
	{asJSON, `{"email": "ada@example.org"}`, 400, unknown("email")},
	{asJSON, `{"name": "Ada King", "email": "ada@example.org"}`, 400, unknown("email")},
	{asJSON, `{"Name": "Ada King"}`, 400, unknown("Name")},
	{asJSON, `{"id": 2}`, 400, unknown("id")},
	{asJSON, `{"version": 7}`, 400, unknown("version")},
	{asForm, `email=ada%40example.org`, 400, unknown("email")},
	{asForm, `name=Ada+King&email=`, 400, unknown("email")},

	{asJSON, `{"gpa": 3.5}`, 400, notInteger},
	{asJSON, `{"gpa": 4e2}`, 400, notInteger},
	{asJSON, `{"gpa": "400"}`, 400, notInteger},
	{asJSON, `{"gpa": null}`, 400, notInteger},
	{asJSON, `{"gpa": 9223372036854775808}`, 400, notInteger},
	{asJSON, `{"name": "Ada King", "gpa": true}`, 400, notInteger},
	{asForm, `gpa=3.5`, 400, notInteger},
	{asForm, `gpa=`, 400, notInteger},
	{asForm, `gpa=four&name=Ada+King`, 400, notInteger},
	{asJSON, `{"name": 7}`, 400, notText},
	{asJSON, `{"name": null}`, 400, notText},
	{asJSON, `{"name": ["Ada King"]}`, 400, notText},
	{asJSON, `{"address": {}}`, 400, "address must be a string"},

	{asJSON, ``, 400, endsEarly},
	{asJSON, `{"name"`, 400, endsEarly},
	{asJSON, `{"name": "Ada King"`, 400, endsEarly},
	{asJSON, `{"name": "Ada`, 400, endsEarly},
	{asJSON, `{"name": Ada}`, 400, malformedJSON},
	{asJSON, `{"name": "Ada King",}`, 400, malformedJSON},
	{asJSON, `{"name" "Ada King"}`, 400, malformedJSON},
	{asJSON, `{"name": "Ada King"]`, 400, malformedJSON},
	{asJSON, `{,}`, 400, malformedJSON},
	{asJSON, `{7: "Ada King"}`, 400, malformedJSON},
	{asJSON, `null`, 400, notObject},
	{asJSON, `[{"name": "Ada King"}]`, 400, notObject},
	{asJSON, `"name"`, 400, notObject},
	{asJSON, `7`, 400, notObject},
	{asJSON, `{"name": "Ada King"} {"name": "Ada King"}`, 400, oneObject},
	{asJSON, `{"name": "Ada King"}]`, 400, oneObject},
	{asJSON, `{"name": "Ada King", "name": "Ada Byron"}`, 400, "name is given twice"},
	{asForm, `name=Ada+King&name=Ada+Byron`, 400, "name is given twice"},
	{asForm, `name=%zz`, 400, `malformed form: invalid URL escape "%zz"`},

	{"text/plain", `name=Ada+King`, 415, wrongType},
	{"", `{"name": "Ada King"}`, 415, wrongType},
	{asJSON, `{"name": "` + strings.Repeat("a", maxBody) + `"}`, 413, tooLarge},
	{asJSON, `{"name": "Ada King"}` + strings.Repeat(" ", maxBody), 413, tooLarge},
	{asForm, `name=` + strings.Repeat("a", maxBody), 413, tooLarge},
}

func TestRefusedBodies(t *testing.T) {
	s := testService(t, "optimistic")
	url := serving(t, s.routes())
	for _, test := range bodies {
		for _, route := range [][2]string{
			{"PATCH", "/students/1"}, {"POST", "/students/1"}, {"PATCH", "/naive/students/1"},
		} {
			t.Run(route[0]+route[1]+" "+test.body[:min(40, len(test.body))], func(t *testing.T) {
				a := send(t, route[0], url+route[1], test.contentType, test.body)
				assert.Equal(t, test.status, a.status)
				assert.Contains(t, a.Error, test.message)
				assertStudent(t, s, ada)
			})
		}
	}
}

func TestLargestBody(t *testing.T) {
	body := `{"name": "Ada King"}`
	got := patchStudent(t, serving(t, testService(t, "optimistic").routes())+"/students/1",
		body+strings.Repeat(" ", maxBody-len(body)))
	assert.Equal(t, "Ada King", got.Name)
}

// overtaken lets another patch through after its own, before its answer is sent.
type overtaken struct{ updater }

func (o overtaken) Update(ctx context.Context, key any, p patch) (Student, error) {
	row, err := o.updater.Update(ctx, key, p)
	if err == nil {
		name := "Ada Byron"
		_, err = o.updater.Update(ctx, key, patch{Name: &name})
	}
	return row, err
}

func TestTheAnswerIsWhatThisPatchMade(t *testing.T) {
	for _, pattern := range []string{"lock", "optimistic"} {
		t.Run(pattern, func(t *testing.T) {
			s := testService(t, pattern)
			s.protected = overtaken{s.protected}
			a := send(t, http.MethodPatch, serving(t, s.routes())+"/students/1", asJSON, `{"name": "Ada King"}`)
			assert.Equal(t, Student{1, "Ada King", ada.Address, ada.GPA, 2}, a.Student)
		})
	}
}

func assertStudent(t *testing.T, s *service, expected Student) {
	t.Helper()
	got, err := find(t.Context(), s.pool, expected.ID)
	require.NoError(t, err)
	assert.Equal(t, expected, got)
}

func TestRefusedStudents(t *testing.T) {
	for _, pattern := range []string{"lock", "optimistic"} {
		s := testService(t, pattern)
		url := serving(t, s.routes())
		for _, test := range []struct {
			method, path string
			status       int
			message      string
		}{
			{"GET", "/students/99", 404, noStudent},
			{"PATCH", "/students/99", 404, noStudent},
			{"POST", "/students/99", 404, noStudent},
			{"PATCH", "/naive/students/99", 404, noStudent},
			{"GET", "/students/one", 400, badID},
			{"PATCH", "/students/1.0", 400, badID},
			{"POST", "/students/9223372036854775808", 400, badID},
			{"PATCH", "/naive/students/one", 400, badID},
		} {
			t.Run(pattern+" "+test.method+test.path, func(t *testing.T) {
				a := send(t, test.method, url+test.path, asJSON, `{"name": "Ada King"}`)
				assert.Equal(t, test.status, a.status)
				assert.Equal(t, test.message, a.Error)
				assertStudent(t, s, ada)
			})
		}
	}
}

// Somebody else changes the record between the read and the write, and the updater may try only once. It makes no
// difference that the change is to another field: the version is one for the whole record.
func TestConflictIs409(t *testing.T) {
	s := testService(t, "optimistic")
	db, err := raceproof.New(s.pool)
	require.NoError(t, err)
	once := optimistic.New(db, students, &optimistic.Options{Retry: raceproof.RetryPolicy{MaxAttempts: 1}})
	other := raceproof.Bind(lock.New(db, students, nil), change)
	s.protected = raceproof.Bind(once, func(p patch) raceproof.Func[Student] {
		return func(ctx context.Context, row *Student) error {
			address := "Ockham Park"
			if _, err := other.Update(ctx, row.ID, patch{Address: &address}); err != nil {
				return err
			}
			return p.apply(ctx, row)
		}
	})
	a := send(t, http.MethodPatch, serving(t, s.routes())+"/students/1", asJSON, `{"name": "Ada King"}`)
	assert.Equal(t, http.StatusConflict, a.status)
	assert.Equal(t, "others keep changing the record: nothing was changed, send the request again", a.Error)
	assertStudent(t, s, Student{1, ada.Name, "Ockham Park", ada.GPA, 2})
}

// Another process, for which another handle on the file stands here, holds the write lock for longer than a request
// waits.
func TestLockedIs503(t *testing.T) {
	for _, pattern := range []string{"lock", "optimistic"} {
		t.Run(pattern, func(t *testing.T) {
			pool, path := testDB(t)
			handler, err := newHandler(database(t, pool), pool, pattern, 300*time.Millisecond)
			require.NoError(t, err)
			stranger, err := open(t.Context(), path)
			require.NoError(t, err)
			defer func() { require.NoError(t, stranger.Close()) }()
			holder, err := stranger.Beginx()
			require.NoError(t, err)
			defer func() { require.NoError(t, holder.Rollback()) }()
			_, err = holder.ExecContext(t.Context(), "UPDATE students SET gpa = 0")
			require.NoError(t, err)

			url := serving(t, handler) + "/students/1"
			a := send(t, http.MethodPatch, url, asJSON, `{"name": "Ada King"}`)
			assert.Equal(t, http.StatusServiceUnavailable, a.status)
			assert.Equal(t, "1", a.header.Get("Retry-After"))
			assert.Equal(t, "the database is busy: nothing was changed, try again later", a.Error)
			student, err := find(t.Context(), pool, 1)
			require.NoError(t, err)
			assert.Equal(t, ada, student)
		})
	}
}

func TestUnknownPattern(t *testing.T) {
	pool, _ := testDB(t)
	_, err := newHandler(database(t, pool), pool, "naive", time.Minute)
	assert.EqualError(t, err, `unknown pattern "naive": it must be lock or optimistic`)
}

func TestRun(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", "", "lock", writer) }()

	printed := bufio.NewScanner(reader)
	require.True(t, printed.Scan())
	base, _, _ := strings.Cut(strings.TrimPrefix(printed.Text(), "listening on "), ",")
	for range 2 {
		require.True(t, printed.Scan())
		assert.Contains(t, printed.Text(), "  curl ")
		assert.Contains(t, printed.Text(), " "+base+"/students/1")
	}
	assert.EqualValues(t, 380, send(t, http.MethodPost, base+"/students/1", asForm, "gpa=380").GPA)
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Len(t, files, 1)

	cancel()
	require.NoError(t, <-ended)
	files, err = os.ReadDir(folder)
	require.NoError(t, err)
	assert.Empty(t, files, "the temporary database is removed")
}
