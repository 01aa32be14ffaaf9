package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/once"
)

type service struct {
	*store
	accounts *atomic.Updater[Account]
	deposits *once.Updater[Account, int64]
	patience time.Duration
	mail     func(receipt) // must not fail, nor take long: it is called before the client is answered
}

// newService returns the service over a store. A request gives up after patience.
func newService(st *store, patience time.Duration, mail func(receipt)) (*service, error) {
	inSQL := atomic.New(st.db, accounts, nil)
	// The argument of the updater that is wrapped is an amount, not a change, so that its JSON tells one from another.
	deposits := once.Wrap(raceproof.Bind(inSQL, func(amount int64) atomic.Change {
		return atomic.Set("balance", atomic.F("balance").Add(amount))
	}))
	return &service{st, inSQL, deposits, patience, mail}, errors.Join(inSQL.Err(), deposits.Err())
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /accounts/{id}", s.answer(s.show))
	mux.Handle("POST /accounts/{id}/orders", s.answer(s.order))
	mux.Handle("POST /accounts/{id}/deposits", s.answer(s.deposit))
	return mux
}

func (s *service) show(r *http.Request) (answer, error) {
	id, err := accountID(r)
	if err != nil {
		return answer{}, err
	}
	a, err := s.account(r.Context(), id)
	if err != nil {
		return answer{}, err
	}
	return answerOf(http.StatusOK, a)
}

// order makes an order once. The payload is the body as it came, to the byte, so that nothing a client could mean by it is
// left out of the comparison: a client that sends a request again sends the same one.
func (s *service) order(r *http.Request) (answer, error) {
	q, err := read(r, "order")
	if err != nil {
		return answer{}, err
	}
	o, err := parseOrder(q.body)
	if err != nil {
		return answer{}, err
	}
	return once.Do(r.Context(), s.db, q.key, func(ctx context.Context) (answer, error) {
		return s.place(ctx, q.account, o)
	}, once.Payload(q.body))
}

// deposit adds money once. Where the work is one update and the result its row, an updater that is wrapped will do; what is
// compared is its arguments.
func (s *service) deposit(r *http.Request) (answer, error) {
	q, err := read(r, "deposit")
	if err != nil {
		return answer{}, err
	}
	amount, err := parseDeposit(q.body)
	if err != nil {
		return answer{}, err
	}
	a, err := s.deposits.Update(once.WithKey(r.Context(), q.key), q.account, amount)
	if err != nil {
		return answer{}, err
	}
	return answerOf(http.StatusOK, a)
}

// A request is what the two POSTs have in common.
type request struct {
	account int64
	key     string // for package once
	body    []byte
}

// maxKey is how many bytes a client's key may have: once.MaxKey, with room for what is put in front of it.
const maxKey = 200

// read reads a request. The keys of package once belong to the whole database, so the kind of work and the account are put
// in front of the client's key: what another client has chosen must not be in the way of this one's. (A service that knows
// who its clients are would put that there.) That is also why package once would not see that the client's key is empty.
func read(r *http.Request, kind string) (q request, err error) {
	if q.account, err = accountID(r); err != nil {
		return q, err
	}
	keys := r.Header.Values("Idempotency-Key")
	if len(keys) != 1 || keys[0] == "" || len(keys[0]) > maxKey {
		return q, problem{http.StatusBadRequest, fmt.Sprintf("there must be one header Idempotency-Key, of 1 to %d bytes", maxKey)}
	}
	q.key = fmt.Sprintf("%s/%d/%s", kind, q.account, keys[0])
	q.body, err = io.ReadAll(r.Body)
	return q, err
}

func accountID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, problem{http.StatusBadRequest, "the account's id must be an integer"}
	}
	return id, nil
}

// A problem is an error that is the client's to know.
type problem struct {
	status  int
	message string
}

func (p problem) Error() string { return p.message }

const sendAgain = "the database is busy, or did not answer: send the same request with the same key again"

// problemOf says what an error means to the client. These are the answers that are not stored with the key.
//
// Whoever waited in vain for a lock, or for another request with the key, and whoever does not know what became of his
// COMMIT, is told the same, and does not have to be told more: with the same key the request can be sent again without a
// thought.
func problemOf(err error) problem {
	var p problem
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &tooLarge):
		return problem{http.StatusRequestEntityTooLarge, "the body is too large"}
	case errors.Is(err, once.ErrKeyReused):
		return problem{http.StatusUnprocessableEntity, "the key was used for another request: choose a new one"}
	case errors.Is(err, sql.ErrNoRows): // raceproof.ErrNotFound is one too
		return problem{http.StatusNotFound, "there is no such account"}
	case errors.Is(err, raceproof.ErrOutOfRange):
		return problem{http.StatusUnprocessableEntity, "the balance would be too high"}
	case errors.Is(err, raceproof.ErrCommitUnknown), errors.Is(err, raceproof.ErrLocked), errors.Is(err, raceproof.ErrConflict),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problem{http.StatusServiceUnavailable, sendAgain}
	}
	log.Print(err)
	return problem{http.StatusInternalServerError, "internal error"}
}

const maxBody = 64 << 10 // bytes

// answer makes a handler of a function that returns what is to be sent. The request's context, which the function hands on
// to the database, ends when the client goes away or patience is over.
func (s *service) answer(f func(*http.Request) (answer, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.patience)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		a, err := f(r.WithContext(ctx))
		if err != nil {
			p := problemOf(err)
			a.Status = p.status
			a.Body, _ = json.Marshal(map[string]string{"error": p.message}) // strings do not fail
		}
		if a.Status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.Status)
		_, _ = w.Write(append(a.Body, '\n')) // fails only if the client is gone
	})
}
