package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
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
	clients = 16
	clicks  = 25 // of each client
)

// afterClicks is the score that n clicks in Go make, one after the other.
func afterClicks(n int) int64 {
	p := Player{}
	for range n {
		_ = click{weight: 1}.award(context.Background(), &p)
	}
	return p.Score
}

// testDB opens a database of its own. The file's name has the characters that mean something in a URI.
func testDB(t *testing.T) (*sqlx.DB, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "100% score? #1.db")
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
func testService(t *testing.T) *service {
	t.Helper()
	pool, _ := testDB(t)
	updaters, err := newUpdaters(database(t, pool), pool)
	require.NoError(t, err)
	return &service{pool, updaters, time.Minute}
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

	clicked
	Score int64
	Error string
}

// send makes a request. It reports failures without ending the test, so that any goroutine can call it.
func send(t *testing.T, method, url string) (a answer) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if !assert.NoError(t, err) {
		return a
	}
	response, err := http.DefaultClient.Do(r)
	if !assert.NoError(t, err) {
		return a
	}
	defer func() { _ = response.Body.Close() }()
	a.status, a.header = response.StatusCode, response.Header
	assert.NoError(t, json.NewDecoder(response.Body).Decode(&a))
	assert.Equal(t, "application/json", a.header.Get("Content-Type"))
	return a
}

// clickOnce clicks until the click is counted: a conflict that the service gives up on has changed nothing.
func clickOnce(t *testing.T, url string) int64 {
	for {
		a := send(t, http.MethodPost, url)
		if a.status == http.StatusConflict {
			continue
		}
		assert.Equal(t, http.StatusOK, a.status, a.Error)
		return a.Player.Score
	}
}

// twoClicks clicks twice at the same time, and returns the scores that were answered, the lower one first, and the
// player at the end.
func twoClicks(t *testing.T, s *service, pattern string) (answered []int64, final Player) {
	t.Helper()
	url := serving(t, s.routes()) + "/players/1/score/" + pattern
	answered = make([]int64, 2)
	var users sync.WaitGroup
	for i := range answered {
		users.Go(func() {
			a := send(t, http.MethodPost, url)
			assert.Equal(t, http.StatusOK, a.status, a.Error)
			answered[i] = a.Player.Score
		})
	}
	users.Wait()
	slices.Sort(answered)
	final, err := find(t.Context(), s.pool, 1)
	require.NoError(t, err)
	return answered, final
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
			t.Error("the second click never came this far")
		}
	}
}

func TestNaiveLosesAClick(t *testing.T) {
	s := testService(t)
	s.updaters["naive"] = raceproof.Bind(&naive{s.pool, meeting(t)}, inGo)
	answered, final := twoClicks(t, s, "naive")

	one := afterClicks(1)
	assert.Equal(t, []int64{one, one}, answered, "both users are told that their click counts")
	assert.Equal(t, one, final.Score, "two clicks, and the score of one")
}

func TestNaiveAloneIsRight(t *testing.T) {
	s := testService(t)
	url := serving(t, s.routes()) + "/players/1/score/naive"
	assert.Equal(t, afterClicks(1), clickOnce(t, url))
	assert.Equal(t, afterClicks(2), clickOnce(t, url))
}

func TestLockCountsBothClicks(t *testing.T) {
	answered, final := twoClicks(t, testService(t), "lock")
	assert.Equal(t, []int64{afterClicks(1), afterClicks(2)}, answered)
	assert.Equal(t, Player{ID: 1, Name: "Ada", Score: afterClicks(2), Version: 3}, final)
}

func TestAtomicCountsBothClicks(t *testing.T) {
	answered, final := twoClicks(t, testService(t), "atomic")
	assert.Equal(t, []int64{bonus, 2 * bonus}, answered)
	assert.Equal(t, Player{ID: 1, Name: "Ada", Score: 2 * bonus, Version: 3}, final)
}

// Both clicks have read the same score before either writes: what loses one by the naive pattern.
func TestOptimisticCountsBothClicks(t *testing.T) {
	s := testService(t)
	db, err := raceproof.New(s.pool)
	require.NoError(t, err)
	meet, mu, attempts := meeting(t), sync.Mutex{}, 0
	s.updaters["optimistic"] = raceproof.Bind(optimistic.New(db, players, nil), func(c click) raceproof.Func[Player] {
		return func(ctx context.Context, p *Player) error {
			mu.Lock()
			attempts++
			mu.Unlock()
			meet()
			return c.award(ctx, p)
		}
	})
	answered, final := twoClicks(t, s, "optimistic")
	assert.Equal(t, []int64{afterClicks(1), afterClicks(2)}, answered)
	assert.Equal(t, Player{ID: 1, Name: "Ada", Score: afterClicks(2), Version: 3}, final)
	assert.Equal(t, 3, attempts, "the slower click starts again, once")
}

func TestNoClickIsLost(t *testing.T) {
	for pattern, expected := range map[string]int64{
		"lock":       afterClicks(clients * clicks),
		"optimistic": afterClicks(clients * clicks),
		"atomic":     bonus * clients * clicks,
		"serial":     afterClicks(clients * clicks),
	} {
		t.Run(pattern, func(t *testing.T) {
			pool, _ := testDB(t)
			handler, err := newHandler(database(t, pool), pool, time.Minute)
			require.NoError(t, err)
			base := serving(t, handler) + "/players/1"

			scores := make([][]int64, clients)
			var users sync.WaitGroup
			for i := range scores {
				users.Go(func() {
					for range clicks {
						scores[i] = append(scores[i], clickOnce(t, base+"/score/"+pattern))
					}
				})
			}
			users.Wait()

			assert.Equal(t, expected, send(t, http.MethodGet, base).Score)
			all := slices.Concat(scores...)
			assert.Len(t, all, clients*clicks)
			slices.Sort(all)
			assert.Len(t, slices.Compact(all), clients*clicks, "every answer is the score that this click made")
		})
	}
}

// The patterns can be mixed: each leaves the version as the others need it.
func TestNoClickIsLostWhenPatternsMix(t *testing.T) {
	s := testService(t)
	base := serving(t, s.routes()) + "/players/1"
	var users sync.WaitGroup
	for i := range clients {
		users.Go(func() {
			for range clicks {
				clickOnce(t, base+"/score/"+[]string{"lock", "optimistic", "atomic", "serial"}[i%4])
			}
		})
	}
	users.Wait()
	p, err := find(t.Context(), s.pool, 1)
	require.NoError(t, err)
	assert.EqualValues(t, 1+clients*clicks, p.Version, "each of the clicks raised the version by one")
}
