package main

import (
	"bufio"
	"context"
	"io"
	"math"
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

func TestAnswers(t *testing.T) {
	for _, test := range []struct {
		method, path string
		status       int
		message      string // of the error
		score        int64  // of the player in the answer
		note         string
	}{
		{"GET", "/players/1", 200, "", 0, ""},
		{"POST", "/players/1/score/lock", 200, "", afterClicks(1), ""},
		{"POST", "/players/1/score/optimistic", 200, "", afterClicks(1), ""},
		{"POST", "/players/1/score/naive", 200, "", afterClicks(1), notes["naive"]},
		{"POST", "/players/1/score/atomic", 200, "", bonus, notes["atomic"]},
		{"POST", "/players/1/score/lock?weight=3", 200, "", 3 * afterClicks(1), ""},
		{"POST", "/players/1/score/atomic?weight=3", 200, "", 3 * bonus, notes["atomic"]},

		{"GET", "/players/99", 404, "there is no such player", 0, ""},
		{"POST", "/players/99/score/naive", 404, "there is no such player", 0, ""},
		{"POST", "/players/99/score/lock", 404, "there is no such player", 0, ""},
		{"POST", "/players/99/score/optimistic", 404, "there is no such player", 0, ""},
		{"POST", "/players/99/score/atomic", 404, "there is no such player", 0, ""},
		{"POST", "/players/1/score/magic", 404,
			`unknown pattern "magic": there are atomic, lock, naive, optimistic, serial`, 0, ""},

		{"GET", "/players/one", 400, "the player's id must be an integer", 0, ""},
		{"POST", "/players/1.0/score/lock", 400, "the player's id must be an integer", 0, ""},
		{"POST", "/players/9223372036854775808/score/lock", 400, "the player's id must be an integer", 0, ""},
		{"POST", "/players/1/score/lock?weight=0", 400, "the weight must be an integer from 1 to 100", 0, ""},
		{"POST", "/players/1/score/lock?weight=101", 400, "the weight must be an integer from 1 to 100", 0, ""},
		{"POST", "/players/1/score/lock?weight=x", 400, "the weight must be an integer from 1 to 100", 0, ""},
	} {
		t.Run(test.method+test.path, func(t *testing.T) {
			s := testService(t)
			a := send(t, test.method, serving(t, s.routes())+test.path)
			assert.Equal(t, test.status, a.status)
			assert.Equal(t, test.message, a.Error)
			assert.Equal(t, test.score, a.Player.Score)
			assert.Equal(t, test.note, a.Note)
			if test.status != 200 {
				assertUntouched(t, s)
			}
		})
	}
}

func assertUntouched(t *testing.T, s *service) {
	t.Helper()
	p, err := find(t.Context(), s.pool, 1)
	require.NoError(t, err)
	assert.Equal(t, Player{ID: 1, Name: "Ada", Score: 0, Version: 1}, p)
}

// overtaken lets another click through after its own, before its answer is sent.
type overtaken struct{ updater }

func (o overtaken) Update(ctx context.Context, key any, c click) (Player, error) {
	p, err := o.updater.Update(ctx, key, c)
	if err == nil {
		_, err = o.updater.Update(ctx, key, c)
	}
	return p, err
}

func TestTheAnswerIsWhatThisClickMade(t *testing.T) {
	for pattern, expected := range map[string]int64{
		"lock": afterClicks(1), "optimistic": afterClicks(1), "atomic": bonus, "serial": afterClicks(1),
	} {
		t.Run(pattern, func(t *testing.T) {
			s := testService(t)
			s.updaters[pattern] = overtaken{s.updaters[pattern]}
			a := send(t, http.MethodPost, serving(t, s.routes())+"/players/1/score/"+pattern)
			assert.Equal(t, Player{ID: 1, Name: "Ada", Score: expected, Version: 2}, a.Player)
		})
	}
}

func TestOtherMethods(t *testing.T) {
	base := serving(t, testService(t).routes())
	for _, path := range []string{"/players/1", "/players/1/score/lock"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, base+path, nil)
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		assert.Equal(t, http.StatusMethodNotAllowed, response.StatusCode, path)
	}
}

// Somebody else changes the player between the read and the write, and the updater may try only once.
func TestConflictIs409(t *testing.T) {
	s := testService(t)
	db, err := raceproof.New(s.pool)
	require.NoError(t, err)
	once := optimistic.New(db, players, &optimistic.Options{Retry: raceproof.RetryPolicy{MaxAttempts: 1}})
	other := lock.New(db, players, nil)
	s.updaters["optimistic"] = raceproof.Bind(once, func(c click) raceproof.Func[Player] {
		return func(ctx context.Context, p *Player) error {
			if _, err := other.Update(ctx, p.ID, c.award); err != nil {
				return err
			}
			return c.award(ctx, p)
		}
	})
	base := serving(t, s.routes()) + "/players/1"
	a := send(t, http.MethodPost, base+"/score/optimistic")
	assert.Equal(t, http.StatusConflict, a.status)
	assert.Equal(t, "too many clicks at once: this one was not counted, click again", a.Error)
	assert.Equal(t, afterClicks(1), send(t, http.MethodGet, base).Score, "the other's click counts, this one does not")
}

func TestTooHighIs422(t *testing.T) {
	for _, pattern := range []string{"lock", "optimistic", "atomic", "serial"} {
		t.Run(pattern, func(t *testing.T) {
			s := testService(t)
			_, err := s.pool.ExecContext(t.Context(), "UPDATE players SET score = ? WHERE id = 1", int64(math.MaxInt64))
			require.NoError(t, err)
			base := serving(t, s.routes()) + "/players/1"
			a := send(t, http.MethodPost, base+"/score/"+pattern)
			assert.Equal(t, http.StatusUnprocessableEntity, a.status)
			assert.Equal(t, "the score would be too high", a.Error)
			assert.EqualValues(t, math.MaxInt64, send(t, http.MethodGet, base).Score)
		})
	}
}

// Another process, for which another handle on the file stands here, holds the write lock for longer than a request
// waits.
func TestLockedIs503(t *testing.T) {
	for _, pattern := range []string{"lock", "optimistic", "atomic", "serial"} {
		t.Run(pattern, func(t *testing.T) {
			pool, path := testDB(t)
			updaters, err := newUpdaters(database(t, pool), pool)
			require.NoError(t, err)
			patient := serving(t, (&service{pool, updaters, time.Minute}).routes()) + "/players/1"
			impatient := serving(t, (&service{pool, updaters, 300 * time.Millisecond}).routes()) + "/players/1"
			release := holdLock(t, path)

			a := send(t, http.MethodPost, impatient+"/score/"+pattern)
			assert.Equal(t, http.StatusServiceUnavailable, a.status)
			assert.Equal(t, "1", a.header.Get("Retry-After"))
			assert.Equal(t, "the database is busy: this click was not counted, try again later", a.Error)
			assert.EqualValues(t, 0, send(t, http.MethodGet, patient).Score, "who reads does not wait")

			release()
			assert.Equal(t, http.StatusOK, send(t, http.MethodPost, patient+"/score/"+pattern).status)
		})
	}
}

// holdLock takes the file's write lock, and returns the function that gives it back.
func holdLock(t *testing.T, path string) (release func()) {
	t.Helper()
	stranger, err := open(t.Context(), path)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, stranger.Close()) })
	holder, err := stranger.Connx(t.Context())
	require.NoError(t, err)
	_, err = holder.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	return func() {
		_, err := holder.ExecContext(t.Context(), "ROLLBACK")
		require.NoError(t, err)
		require.NoError(t, holder.Close())
	}
}

func TestRun(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", "", writer) }()

	printed := bufio.NewScanner(reader)
	require.True(t, printed.Scan())
	base, _, _ := strings.Cut(strings.TrimPrefix(printed.Text(), "listening on "), ",")
	require.True(t, printed.Scan())
	assert.Equal(t, "  curl -X POST "+base+"/players/1/score/lock", printed.Text())
	require.True(t, printed.Scan())
	assert.Equal(t, "  curl "+base+"/players/1", printed.Text())
	assert.Equal(t, http.StatusOK, send(t, http.MethodPost, base+"/players/1/score/lock").status)
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Len(t, files, 1)

	cancel()
	require.NoError(t, <-ended)
	files, err = os.ReadDir(folder)
	require.NoError(t, err)
	assert.Empty(t, files, "the temporary database is removed")
}
