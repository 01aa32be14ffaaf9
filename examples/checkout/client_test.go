package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/lock"
)

const teapot = `{"item": "teapot", "price": 1200}`

// A reply is whatever the service sends.
type reply struct {
	status     int
	body       string
	retryAfter string
}

// error returns what the body says was wrong, if anything.
func (r reply) error() string {
	var body struct{ Error string }
	_ = json.Unmarshal([]byte(r.body), &body)
	return body.Error
}

// serving returns the base URL of a server that ends with the test.
func serving(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.URL
}

// send makes a request. It reports failures without ending the test, so that any goroutine can call it.
func send(t *testing.T, method, url, body string, keys ...string) (got reply) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if !assert.NoError(t, err) {
		return got
	}
	for _, key := range keys {
		r.Header.Add("Idempotency-Key", key)
	}
	response, err := http.DefaultClient.Do(r)
	if !assert.NoError(t, err) {
		return got
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	assert.NoError(t, err)
	assert.Equal(t, "application/json", response.Header.Get("Content-Type"))
	return reply{response.StatusCode, string(data), response.Header.Get("Retry-After")}
}

// buy orders the teapot on account 1.
func buy(t *testing.T, base, key string) reply {
	return send(t, http.MethodPost, base+"/accounts/1/orders", teapot, key)
}

func deposit(t *testing.T, base, key, body string) reply {
	return send(t, http.MethodPost, base+"/accounts/1/deposits", body, key)
}

// hold locks account 1, and returns the function that lets it go. Meanwhile nobody can be charged; on SQLite nobody can
// write at all.
func (s *shop) hold() (release func()) {
	held, released, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := lock.New(s.db, accounts, nil).Update(s.t.Context(), 1, func(context.Context, *Account) error {
			close(held)
			<-released
			return nil
		})
		ended <- err
	}()
	release = sync.OnceFunc(func() {
		close(released)
		assert.NoError(s.t, <-ended)
	})
	s.t.Cleanup(release)
	select {
	case <-held:
	case err := <-ended:
		ended <- err
		require.NoError(s.t, err)
	}
	return release
}

// gathered makes a handler that n requests come to before it lets go of the account: none of them can be through before
// the last is there.
func gathered(s *shop, n int, handler http.Handler) http.Handler {
	var mu sync.Mutex
	release := s.hold()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n--
		if n == 0 {
			release()
		}
		mu.Unlock()
		handler.ServeHTTP(w, r)
	})
}

// together sends the same order n times at the same time.
func together(s *shop, n int, handler http.Handler) []reply {
	base := serving(s.t, gathered(s, n, handler))
	replies := make([]reply, n)
	var clients sync.WaitGroup
	for i := range replies {
		clients.Go(func() { replies[i] = buy(s.t, base, "a key") })
	}
	clients.Wait()
	return replies
}

// naive is WRONG, on purpose: it looks whether the key has an answer, and if not does the work, and remembers the answer.
// Two who look at the same time both see nothing. And after a COMMIT whose answer was lost there is nothing to be seen,
// though the work was done.
type naive struct {
	*service
	mu        sync.Mutex
	answers   map[string]answer
	afterLook func()
}

func newNaive(s *service, afterLook func()) *naive {
	return &naive{service: s, answers: map[string]answer{}, afterLook: afterLook}
}

func (n *naive) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /accounts/{id}/orders", n.answer(n.order))
	return mux
}

func (n *naive) order(r *http.Request) (a answer, err error) {
	q, err := read(r, "order")
	if err != nil {
		return a, err
	}
	n.mu.Lock()
	a, found := n.answers[q.key]
	n.mu.Unlock()
	if found {
		return a, nil
	}
	n.afterLook()
	o, err := parseOrder(q.body)
	if err != nil {
		return a, err
	}
	err = n.db.Transact(r.Context(), func(ctx context.Context) (err error) {
		a, err = n.place(ctx, q.account, o)
		return err
	})
	if err != nil {
		return a, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.answers[q.key] = a
	return a, nil
}
