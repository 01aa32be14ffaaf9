package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
)

const (
	badKey   = "there must be one header Idempotency-Key, of 1 to 200 bytes"
	badOrder = "an order has an item of 1 to 100 bytes and a positive price in cents"
)

// What is wrong with a request is told, nothing is done, and its key can still be used.
func TestBadRequests(t *testing.T) {
	s := newShop(t, everywhere[0])
	base := serving(t, s.service().routes())
	key := []string{"a"}
	for _, test := range []struct {
		path, body string
		keys       []string
		status     int
		message    string
	}{
		{"/accounts/1/orders", teapot, nil, 400, badKey},
		{"/accounts/1/orders", teapot, []string{""}, 400, badKey},
		{"/accounts/1/orders", teapot, []string{strings.Repeat("x", maxKey+1)}, 400, badKey},
		{"/accounts/1/orders", teapot, []string{"a", "b"}, 400, badKey},
		{"/accounts/1/deposits", `{"amount": 1}`, nil, 400, badKey},
		{"/accounts/one/orders", teapot, key, 400, "the account's id must be an integer"},
		{"/accounts/1/orders", `{"item": "", "price": 1}`, key, 400, badOrder},
		{"/accounts/1/orders", `{"item": "teapot", "price": 0}`, key, 400, badOrder},
		{"/accounts/1/orders", `{"item": "teapot", "price": -1}`, key, 400, badOrder},
		{"/accounts/1/orders", `{"item": "` + strings.Repeat("x", 101) + `", "price": 1}`, key, 400, badOrder},
		{"/accounts/1/orders", "", key, 400, "the body is not what was expected: EOF"},
		{"/accounts/1/orders", teapot + teapot, key, 400, "the body is not what was expected: there is something behind it"},
		{"/accounts/1/orders", `{"item": "teapot", "cost": 1}`, key, 400, `the body is not what was expected: json: unknown field "cost"`},
		{"/accounts/1/deposits", `{"amount": -1}`, key, 400, "a deposit has a positive amount in cents"},
		{"/accounts/1/deposits", `{"amount": true}`, key, 400,
			"the body is not what was expected: json: cannot unmarshal bool into Go struct field .amount of type int64"},
		{"/accounts/1/orders", strings.Repeat(" ", maxBody+1), key, 413, "the body is too large"},
		{"/accounts/99/orders", teapot, key, 404, "there is no such account"},
		{"/accounts/99/deposits", `{"amount": 1}`, key, 404, "there is no such account"},
	} {
		r := send(t, http.MethodPost, base+test.path, test.body, test.keys...)
		assert.Equal(t, test.status, r.status, test)
		assert.Equal(t, test.message, r.error(), test)
		assert.Empty(t, r.retryAfter, test)
	}
	s.charged(0, 0)
	assert.Equal(t, http.StatusNotFound, send(t, http.MethodGet, base+"/accounts/99", "").status)
	assert.Equal(t, http.StatusCreated, buy(t, base, "a").status)
	s.charged(1, 1)
}

// Somebody holds the account for longer than a request waits. Afterwards the same request goes through.
func TestLockedIs503(t *testing.T) {
	each(t, everywhere, func(t *testing.T, s *shop) {
		patient := s.service()
		hasty := *patient
		hasty.patience = 300 * time.Millisecond
		base, hastyBase := serving(t, patient.routes()), serving(t, hasty.routes())
		release := s.hold()
		refusedForNow(t, buy(t, hastyBase, "a"))
		assert.Equal(t, http.StatusOK, send(t, http.MethodGet, base+"/accounts/1", "").status, "who reads does not wait")

		// Now there is also another one with the key.
		var first reply
		var client sync.WaitGroup
		client.Go(func() { first = buy(t, base, "a") })
		refusedForNow(t, buy(t, hastyBase, "a"))
		release()
		client.Wait()
		assert.Equal(t, http.StatusCreated, first.status)
		assert.Equal(t, first, buy(t, base, "a"))
		s.charged(1, 1)
	})
}

// Whatever can be over by itself is 503, also if it is not the request's patience that has ended it.
func TestProblems(t *testing.T) {
	for _, err := range []error{
		raceproof.ErrCommitUnknown, raceproof.ErrLocked, raceproof.ErrConflict, context.DeadlineExceeded, context.Canceled,
	} {
		assert.Equal(t, problem{http.StatusServiceUnavailable, sendAgain}, problemOf(fmt.Errorf("about: %w", err)), err)
	}
	assert.Equal(t, problem{http.StatusInternalServerError, "internal error"}, problemOf(io.ErrUnexpectedEOF))
}

func (s *shop) keys() (n int) {
	require.NoError(s.t, s.pool.GetContext(s.t.Context(), &n, "SELECT COUNT(*) FROM raceproof_once"))
	return n
}

// Keys are forgotten when they are old, and not before. After that they are new.
func TestForget(t *testing.T) {
	each(t, everywhere, func(t *testing.T, s *shop) {
		service := s.service()
		base := serving(t, service.routes())
		first := buy(t, base, "a")
		sweep := func(keep time.Duration) {
			ctx, cancel := context.WithCancel(t.Context())
			ticks, ended := make(chan time.Time), make(chan struct{})
			go func() { defer close(ended); service.forget(ctx, keep, ticks) }()
			for range 2 { // it takes the second when it is through with the first
				ticks <- time.Now()
			}
			cancel()
			<-ended
		}
		sweep(time.Hour)
		assert.Equal(t, 1, s.keys())
		assert.Equal(t, first, buy(t, base, "a"))
		s.charged(1, 1)

		deadline := time.Now().Add(time.Minute)
		for s.keys() > 0 { // the database's clock may not have moved since
			require.True(t, time.Now().Before(deadline), "the key is never forgotten")
			sweep(time.Microsecond)
		}
		again := buy(t, base, "a")
		assert.Equal(t, http.StatusCreated, again.status)
		assert.NotEqual(t, first, again)
		s.charged(2, 2)
	})
}

// Two services on one database are as one, and find what the other has made.
func TestTwoServices(t *testing.T) {
	each(t, everywhere, func(t *testing.T, s *shop) {
		assert.Equal(t, buy(t, serving(t, s.service().routes()), "a"), buy(t, serving(t, s.service().routes()), "a"))
		s.charged(1, 1)
	})
}

func TestRun(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	s, err := parse([]string{"-addr", "127.0.0.1:0", "-keep", "1us", "-sweep", "1ms"}, io.Discard)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, s, writer) }()

	var printed []string
	lines := bufio.NewScanner(reader)
	for range 4 {
		require.True(t, lines.Scan())
		printed = append(printed, lines.Text())
	}
	base, _, _ := strings.Cut(strings.TrimPrefix(printed[0], "listening on "), ",")
	assert.Equal(t, "  curl -i -H 'Idempotency-Key: tea-1' -d '"+teapot+"' "+base+"/accounts/1/orders", printed[1])
	assert.Equal(t, "  curl "+base+"/accounts/1", printed[3])
	first := buy(t, base, "a")
	assert.Equal(t, http.StatusCreated, first.status)
	require.Eventually(t, func() bool { return buy(t, base, "a") != first }, time.Minute, time.Millisecond, "keys are never swept")

	cancel()
	require.NoError(t, <-ended)
	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Empty(t, files, "the temporary database is removed")
}

func TestBadArguments(t *testing.T) {
	for message, args := range map[string][]string{
		`unexpected argument "now"`:      {"now"},
		"-keep and -sweep must be":       {"-keep", "0"},
		"-keep and -sweep must be posit": {"-sweep", "-1s"},
		"-driver pgx needs a -dsn":       {"-driver", "pgx"},
		"flag provided but not defined":  {"-rows", "3"},
	} {
		_, err := parse(args, io.Discard)
		assert.ErrorContains(t, err, message)
	}
	for message, s := range map[string]settings{
		`unknown driver "oracle"`:      {driver: "oracle", dsn: "x"},
		"unable to open database file": {driver: "sqlite3", dsn: "file:" + filepath.Join(t.TempDir(), "no", "such", "folder.db")},
	} {
		assert.ErrorContains(t, run(t.Context(), s, io.Discard), message)
	}
}
