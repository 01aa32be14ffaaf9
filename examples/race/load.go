package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
)

// A store is the database that the load is put on.
type store struct {
	pool *sqlx.DB
	db   *raceproof.DB
}

func open(ctx context.Context, s settings) (*store, error) {
	pool, err := sqlx.ConnectContext(ctx, s.driver, s.dsn)
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(16)
	pool.SetMaxIdleConns(16)
	st := &store{pool: pool}
	if st.db, err = raceproof.New(pool); err == nil {
		err = st.create(ctx, s.keys)
	}
	if err != nil {
		_ = pool.Close()
		return nil, err
	}
	return st, nil
}

// create makes the table. It drops none: one that is there already is not ours.
func (s *store) create(ctx context.Context, keys int) error {
	_, err := s.pool.ExecContext(ctx, "CREATE TABLE "+table+" (id BIGINT PRIMARY KEY, score BIGINT NOT NULL, version BIGINT NOT NULL)")
	if err != nil {
		return err
	}
	return s.db.Transact(ctx, func(ctx context.Context) error {
		for id := range keys {
			_, err := s.db.Ext(ctx).ExecContext(ctx, s.pool.Rebind("INSERT INTO "+table+" VALUES (?, 0, 0)"), id)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *store) close() {
	s.db.Close()
	_, _ = s.pool.Exec("DROP TABLE " + table)
	_ = s.pool.Close()
}

// A result is what became of the load under one pattern.
type result struct {
	Pattern  string        `json:"pattern"`
	Expected int64         `json:"expected"` // updates that were acknowledged
	Actual   int64         `json:"actual"`   // updates that are in the database
	Lost     int64         `json:"lost"`
	Rate     float64       `json:"updates_per_second"`
	P50      time.Duration `json:"p50_ns"`
	P99      time.Duration `json:"p99_ns"`
	Retries  int64         `json:"retries"`
	Errors   int64         `json:"errors"`
	Error    string        `json:"first_error,omitempty"`
}

// race puts the load on one pattern.
func (s *store) race(ctx context.Context, set settings, pattern string, p *progress) (result, error) {
	if _, err := s.pool.ExecContext(ctx, "UPDATE "+table+" SET score = 0"); err != nil {
		return result{}, err
	}
	var t tally
	u, err := s.updater(pattern, &t)
	if err != nil {
		return result{}, err
	}
	all := make([]worker, set.workers)
	start := time.Now()
	p.start(int64(set.workers * set.updates))
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() { all[i].work(ctx, u, set, i, p) })
	}
	wg.Wait()
	took := time.Since(start)
	p.stop()
	if ctx.Err() != nil {
		return result{}, context.Cause(ctx)
	}

	r := result{Pattern: pattern}
	var latencies []time.Duration
	for _, w := range all {
		latencies = append(latencies, w.latencies...)
		r.Errors += w.errors
		if r.Error == "" && w.first != nil {
			r.Error = w.first.Error()
		}
	}
	r.Expected = int64(len(latencies))
	if err := s.pool.GetContext(ctx, &r.Actual, "SELECT SUM(score) FROM "+table); err != nil {
		return result{}, err
	}
	r.Lost = r.Expected - r.Actual
	r.Rate = float64(r.Expected) / took.Seconds()
	r.P50, r.P99 = percentile(latencies, 50), percentile(latencies, 99)
	r.Retries = t.calls.Load() - int64(set.workers*set.updates)
	return r, nil
}

// A worker is one of the goroutines, with what it saw.
type worker struct {
	latencies []time.Duration
	errors    int64
	first     error
}

func (w *worker) work(ctx context.Context, u raceproof.Updater[Player, int64], set settings, number int, p *progress) {
	for i := range set.updates {
		if ctx.Err() != nil {
			return
		}
		key := (number*set.updates + i) % set.keys
		start := time.Now()
		if _, err := u.Update(ctx, key, 1); err != nil {
			w.errors++
			if w.first == nil {
				w.first = fmt.Errorf("worker %d, update %d: %w", number, i, err)
			}
		} else {
			w.latencies = append(w.latencies, time.Since(start))
		}
		p.done.Add(1)
	}
}

func percentile(d []time.Duration, p int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[(len(d)-1)*p/100]
}
