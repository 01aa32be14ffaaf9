package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
)

type service struct {
	pool     *sqlx.DB
	updaters map[string]updater // by pattern
	patience time.Duration
}

// newHandler returns the service's routes over the players in the database. A request gives up after patience.
func newHandler(db *raceproof.DB, pool *sqlx.DB, patience time.Duration) (http.Handler, error) {
	updaters, err := newUpdaters(db, pool)
	if err != nil {
		return nil, err
	}
	return (&service{pool, updaters, patience}).routes(), nil
}

func (s *service) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /players/{id}", s.answer(s.show))
	mux.Handle("POST /players/{id}/score/{pattern}", s.answer(s.click))
	return mux
}

func (s *service) show(r *http.Request) (any, error) {
	id, err := playerID(r)
	if err != nil {
		return nil, err
	}
	return find(r.Context(), s.pool, id)
}

// clicked is the answer to a click.
type clicked struct {
	Pattern string `json:"pattern"`
	Player  Player `json:"player"`
	Note    string `json:"note,omitempty"`
}

var notes = map[string]string{
	"naive":  "wrong on purpose: a click at the same time may be lost",
	"atomic": fmt.Sprintf("the calculation cannot be said in SQL, so this is a fixed bonus of %d", bonus),
}

// click is the one handler of all patterns. The player in the answer is the one that this very click made: the updaters
// return the row as they wrote it, which a SELECT afterwards could not promise.
func (s *service) click(r *http.Request) (any, error) {
	pattern := r.PathValue("pattern")
	u, known := s.updaters[pattern]
	if !known {
		names := strings.Join(slices.Sorted(maps.Keys(s.updaters)), ", ")
		return nil, problem{http.StatusNotFound, fmt.Sprintf("unknown pattern %q: there are %s", pattern, names)}
	}
	id, err := playerID(r)
	if err != nil {
		return nil, err
	}
	c, err := clickOf(r)
	if err != nil {
		return nil, err
	}
	player, err := u.Update(r.Context(), id, c)
	if err != nil {
		return nil, err
	}
	return clicked{pattern, player, notes[pattern]}, nil
}

func playerID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil {
		return 0, problem{http.StatusBadRequest, "the player's id must be an integer"}
	}
	return id, nil
}

// clickOf reads the click's weight, which may be left out.
func clickOf(r *http.Request) (click, error) {
	text := r.URL.Query().Get("weight")
	if text == "" {
		return click{weight: 1}, nil
	}
	weight, err := strconv.ParseInt(text, 10, 64)
	if err != nil || weight < 1 || weight > 100 {
		return click{}, problem{http.StatusBadRequest, "the weight must be an integer from 1 to 100"}
	}
	return click{weight}, nil
}

// A problem is an error that is the client's to know.
type problem struct {
	status  int
	message string
}

func (p problem) Error() string { return p.message }

// problemOf says what an error means to the client. Every error of the library's updaters means that the click was not
// counted, so that a client can click again after a 409 or a 503 and be counted once. Only a client that gets no answer
// at all cannot know.
func problemOf(err error) problem {
	var p problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, sql.ErrNoRows): // raceproof.ErrNotFound is one too
		return problem{http.StatusNotFound, "there is no such player"}
	case errors.Is(err, raceproof.ErrConflict):
		return problem{http.StatusConflict, "too many clicks at once: this one was not counted, click again"}
	case errors.Is(err, raceproof.ErrOutOfRange):
		return problem{http.StatusUnprocessableEntity, "the score would be too high"}
	case errors.Is(err, raceproof.ErrLocked), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return problem{http.StatusServiceUnavailable, "the database is busy: this click was not counted, try again later"}
	}
	log.Print(err)
	return problem{http.StatusInternalServerError, "internal error"}
}

// answer makes a handler of a function that returns what is to be sent as JSON. The request's context, which the
// function hands on to the database, ends when the client goes away or patience is over.
func (s *service) answer(f func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.patience)
		defer cancel()
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
