package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
)

// The index leads to the jobs that are ready, in their order, also if nearly all are done. The logbook has no key, so that
// nothing but the workers keeps a job from standing in it twice.
var schema = []string{
	"CREATE TABLE " + table + " (id BIGINT NOT NULL PRIMARY KEY, state VARCHAR(5) NOT NULL, failures BIGINT NOT NULL)",
	"CREATE TABLE " + logbook + " (job BIGINT NOT NULL, worker BIGINT NOT NULL)",
	"CREATE INDEX " + table + "_state ON " + table + " (state, id)",
}

// A queue is a database with the jobs.
type queue struct {
	pool *sqlx.DB
	db   *raceproof.DB
}

func open(ctx context.Context, driver, dsn string) (*queue, error) {
	pool, err := sqlx.ConnectContext(ctx, driver, dsn)
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(16)
	pool.SetMaxIdleConns(16)
	q := &queue{pool: pool}
	if q.db, err = raceproof.New(pool); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	for _, statement := range schema {
		if _, err := pool.ExecContext(ctx, statement); err != nil {
			q.db.Close()
			return nil, errors.Join(err, pool.Close())
		}
	}
	return q, nil
}

func (q *queue) close() error {
	q.db.Close() // before the pool
	_, err := q.pool.Exec("DROP TABLE " + table)
	_, err2 := q.pool.Exec("DROP TABLE " + logbook)
	return errors.Join(err, err2, q.pool.Close())
}

// fill makes jobs 1 to n.
func (q *queue) fill(ctx context.Context, n int) error {
	return q.db.Transact(ctx, func(ctx context.Context) error {
		for id := range n {
			_, err := q.db.Ext(ctx).ExecContext(ctx, q.pool.Rebind("INSERT INTO "+table+" VALUES (?, 'ready', 0)"), id+1)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// work has all workers drain the queue at the same time.
func (q *queue) work(ctx context.Context, s settings, do func(context.Context, *worker, Job) error) ([]*worker, error) {
	all, errs := make([]*worker, s.workers), make([]error, s.workers)
	var wg sync.WaitGroup
	for i := range all {
		all[i] = &worker{db: q.db, jobs: atomic.New(q.db, jobs, nil), number: i + 1, batch: s.batch, do: do}
		wg.Go(func() { errs[i] = all[i].drain(ctx) })
	}
	wg.Wait()
	return all, errors.Join(errs...)
}

// check returns errWrong unless each job is marked as done and stands in the logbook once.
func (q *queue) check(ctx context.Context) error {
	var wrong int
	err := q.pool.GetContext(ctx, &wrong, "SELECT COUNT(*) FROM "+table+" LEFT JOIN (SELECT job, COUNT(*) AS times FROM "+logbook+
		" GROUP BY job) l ON job = id WHERE state <> 'done' OR COALESCE(times, 0) <> 1")
	if err == nil && wrong > 0 {
		err = fmt.Errorf("%w: %d were not", errWrong, wrong)
	}
	return err
}
