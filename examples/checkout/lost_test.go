package main

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/faultproxy"
)

// These need a connection that can break, and so a server.

// commit matches COMMIT; after statements of a caller's own it is not alone in its message on PostgreSQL.
func commit(text string) bool { return strings.HasSuffix(strings.TrimRight(text, " ;"), "COMMIT") }

// short is how long a request may take that is to be given up. It need not be long enough for anything.
const short = 500 * time.Millisecond

// patiently returns the same service with time for everything.
func patiently(hasty *service) *service {
	patient := *hasty
	patient.patience = time.Minute
	return &patient
}

// untilFired sends an order, which is not to be answered, until a rule was taken for it: on a machine that is busy the
// service may give up before it comes to COMMIT.
func untilFired(t *testing.T, base string, rule *faultproxy.Rule, times int) {
	t.Helper()
	for rule.Fired() < times {
		refusedForNow(t, buy(t, base, "a"))
	}
}

// The connection breaks after the server has executed COMMIT and before it says so: within the same request package once
// finds the key, and so knows. The mail is not sent, as the documentation of AfterCommit has it.
func TestAnswerToCommitIsLost(t *testing.T) {
	each(t, onServers, func(t *testing.T, s *shop) {
		service, proxy := s.behindProxy(time.Minute)
		base := serving(t, service.routes())
		rule := proxy.On(commit, 1, faultproxy.Drop())
		first := buy(t, base, "a")
		assert.Equal(t, http.StatusCreated, first.status)
		assert.Equal(t, 1, rule.Fired())
		s.charged(1, 0)
		assert.Equal(t, first, buy(t, base, "a"))
		s.charged(1, 0)
	})
}

// The connection breaks before COMMIT reaches the server: package once finds that the key is not there and never will be
// by that COMMIT, and does the work again.
func TestCommitIsLost(t *testing.T) {
	each(t, onServers, func(t *testing.T, s *shop) {
		service, proxy := s.behindProxy(time.Minute)
		base := serving(t, service.routes())
		rule := proxy.On(commit, 1, faultproxy.Cut())
		first := buy(t, base, "a")
		assert.Equal(t, http.StatusCreated, first.status)
		assert.Equal(t, 1, rule.Fired())
		s.charged(1, 1)
		assert.Equal(t, first, buy(t, base, "a"))
		s.charged(1, 1)
	})
}

// refusedForNow fails the test unless the client is told to come back.
func refusedForNow(t *testing.T, r reply) {
	t.Helper()
	require.Equal(t, http.StatusServiceUnavailable, r.status)
	assert.Equal(t, "1", r.retryAfter)
	assert.Equal(t, sendAgain, r.error())
}

// The order is committed, but the service does not hear of it before its patience ends. The client sends it again, and
// gets the answer to the order that was made.
func TestClientSendsAgain(t *testing.T) {
	each(t, onServers, func(t *testing.T, s *shop) {
		service, proxy := s.behindProxy(short)
		base := serving(t, service.routes())
		rule := proxy.On(commit, 1, faultproxy.Withhold())
		untilFired(t, base, rule, 1)
		<-rule.Answered()
		_, orders := s.books()
		require.Len(t, orders, 1)

		again := buy(t, serving(t, patiently(service).routes()), "a")
		assert.Equal(t, http.StatusCreated, again.status)
		assert.Contains(t, again.body, orders[0])
		s.charged(1, 0)
	})
}

// The same without package once.
func TestNaiveIsSentAgain(t *testing.T) {
	each(t, onServers, func(t *testing.T, s *shop) {
		service, proxy := s.behindProxy(short)
		base := serving(t, newNaive(service, func() {}).routes())
		patient := serving(t, newNaive(patiently(service), func() {}).routes())
		rule := proxy.On(commit, 1, faultproxy.Withhold())
		untilFired(t, base, rule, 1)
		<-rule.Answered()
		assert.Equal(t, http.StatusCreated, buy(t, patient, "a").status)
		s.charged(2, 1)
	})
}

// No COMMIT reaches the server for longer than a request takes. When all is well again the same request is answered, and
// charged once.
func TestUnresolved(t *testing.T) {
	each(t, onServers, func(t *testing.T, s *shop) {
		service, proxy := s.behindProxy(short)
		base := serving(t, service.routes())
		var well atomic.Bool
		rule := proxy.On(func(text string) bool { return !well.Load() && commit(text) }, 1<<30, faultproxy.Cut())
		untilFired(t, base, rule, 5)
		well.Store(true)
		assert.Equal(t, http.StatusCreated, buy(t, serving(t, patiently(service).routes()), "a").status)
		s.charged(1, 1)
	})
}

// Every COMMIT is executed and none is answered. That is no matter: the key is found, and nothing that becomes of the
// transaction which has found it makes that untrue.
func TestNoAnswers(t *testing.T) {
	each(t, onServers, func(t *testing.T, s *shop) {
		service, proxy := s.behindProxy(patience)
		base := serving(t, service.routes())
		rule := proxy.On(commit, 1<<30, faultproxy.Drop())
		for range 3 {
			assert.Equal(t, http.StatusCreated, buy(t, base, "a").status)
		}
		assert.GreaterOrEqual(t, rule.Fired(), 4)
		s.charged(1, 0)
	})
}
