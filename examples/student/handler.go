package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"strconv"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
)

type service struct {
	pool      *sqlx.DB
	protected updater
	naive     updater
	patience  time.Duration
}

// newHandler returns the service's routes over the students in the database. A request gives up after patience.
func newHandler(db *raceproof.DB, pool *sqlx.DB, pattern string, patience time.Duration) (http.Handler, error) {
	protected, err := newUpdater(db, pattern)
	if err != nil {
		return nil, err
	}
	return (&service{pool, protected, &naive{pool: pool}, patience}).routes(), nil
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /students/{id}", s.answer(s.show))
	mux.Handle("PATCH /students/{id}", s.answer(edit(s.protected)))
	mux.Handle("POST /students/{id}", s.answer(edit(s.protected)))
	mux.Handle("PATCH /naive/students/{id}", s.answer(edit(s.naive)))
	return mux
}

func (s *service) show(r *http.Request) (any, error) {
	id, err := studentID(r)
	if err != nil {
		return nil, err
	}
	return find(r.Context(), s.pool, id)
}

// edit patches a student. The answer is the record as this very request left it: the updaters return the row as they
// wrote it, which a SELECT afterwards could not promise.
func edit(u updater) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		id, err := studentID(r)
		if err != nil {
			return nil, err
		}
		p, err := readPatch(r)
		if err != nil {
			return nil, err
		}
		return u.Update(r.Context(), id, p)
	}
}

func studentID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, badRequest("the student's id must be an integer")
	}
	return id, nil
}

// A problem is an error that is the client's to know.
type problem struct {
	status  int
	message string
}

func (p problem) Error() string { return p.message }

func badRequest(message string) error { return problem{http.StatusBadRequest, message} }

// problemOf says what an error means to the client. Every error of the library's updaters means that nothing was
// changed, so that after a 409 or a 503 the same request can simply be sent again.
func problemOf(err error) problem {
	var p problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, sql.ErrNoRows): // raceproof.ErrNotFound is one too
		return problem{http.StatusNotFound, "there is no such student"}
	case errors.Is(err, raceproof.ErrConflict):
		return problem{http.StatusConflict, "others keep changing the record: nothing was changed, send the request again"}
	case errors.Is(err, raceproof.ErrLocked), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problem{http.StatusServiceUnavailable, "the database is busy: nothing was changed, try again later"}
	}
	log.Print(err)
	return problem{http.StatusInternalServerError, "internal error"}
}

const maxBody = 64 << 10 // bytes

// answer makes a handler of a function that returns what is to be sent as JSON. The request's context, which the
// function hands on to the database, ends when the client goes away or patience is over.
func (s *service) answer(f func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.patience)
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		result, err := f(r.WithContext(ctx))
		status := http.StatusOK
		if err != nil {
			p := problemOf(err)
			status, result = p.status, map[string]string{"error": p.message}
		}
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(result) // fails only if the client is gone
	})
}
