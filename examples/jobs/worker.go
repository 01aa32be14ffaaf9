package main

import (
	"context"
	"database/sql"
	"errors"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
)

// The tables are made when the program starts and dropped when it ends, so they have names that no service uses.
const (
	table   = "raceproof_jobs"
	logbook = "raceproof_jobs_log" // who has done what: a line for each time that a job was done
)

// A Job is a row of the first.
type Job struct {
	ID       int64  `db:"id"`
	State    string `db:"state"`    // ready or done
	Failures int64  `db:"failures"` // how often it was tried in vain
}

var jobs = raceproof.MustTable[Job](table)

// wanted are the jobs that a worker looks for. One that has failed three times is left for somebody who finds out why.
var wanted = atomic.F("state").Eq("ready").And(atomic.F("failures").Lt(3))

// A worker takes jobs and does them until there are none left.
type worker struct {
	db     *raceproof.DB
	jobs   *atomic.Updater[Job]
	number int
	batch  int                                                 // how many jobs it takes at a time
	do     func(ctx context.Context, w *worker, job Job) error // the work

	done, failed int
}

// drain works until it finds no job. Those that others have taken may be there still, but who has taken a job looks again
// after it, so that one that fails is not left behind.
func (w *worker) drain(ctx context.Context) error {
	// Workers skip the rows that others have locked, instead of waiting for them. At READ COMMITTED MariaDB locks nothing else;
	// at its default level it also locks the gaps between the rows of the index that it finds them by.
	lockJobs := lock.Options{SkipLocked: true, Limit: w.batch}
	options := []raceproof.TransactOption{raceproof.Isolation(sql.LevelReadCommitted)}
	for {
		taken, err := w.some(ctx, &lockJobs, options...)
		switch {
		case errors.Is(err, raceproof.ErrUnsupported) && lockJobs.SkipLocked:
			// SQLite has neither of the two, and needs neither: a transaction has the one write lock from its beginning to its
			// end, so nobody else can have taken a job meanwhile. Without them the rest is the same.
			lockJobs.SkipLocked, options = false, nil
		case err != nil || taken == 0:
			return err
		}
	}
}

// some takes a few jobs and does them in one transaction. Each is done and marked, or it is neither. If this process dies
// the database takes all of it back, and gives the jobs to others.
func (w *worker) some(ctx context.Context, lockJobs *lock.Options, options ...raceproof.TransactOption) (taken int, err error) {
	var done, failed int
	err = w.db.Transact(ctx, func(ctx context.Context) error {
		done, failed = 0, 0 // of this attempt: if the database refuses the transaction there is another one
		mine, err := lock.SelectWhere(ctx, w.db, jobs, wanted, lockJobs)
		if err != nil {
			return err
		}
		for _, job := range mine {
			switch err := w.one(ctx, job); {
			case err == nil:
				done++
			case errors.Is(err, errFailed):
				failed++
				if _, err := w.jobs.Update(ctx, job.ID, atomic.Set("failures", atomic.F("failures").Add(1))); err != nil {
					return err
				}
			default:
				return err
			}
		}
		return nil
	}, options...)
	if err != nil {
		return 0, err
	}
	w.done += done
	w.failed += failed
	return done + failed, nil
}

// errFailed is wrapped by what a job fails with that can be tried again.
var errFailed = errors.New("the job has failed")

// one does a job and marks it. This is a transaction inside the other one: if the job fails, what it has written is taken
// back, and the other jobs are not. It stays ready, and goes to whoever asks next when the outer transaction has ended.
func (w *worker) one(ctx context.Context, job Job) error {
	return w.db.Transact(ctx, func(ctx context.Context) error {
		if err := w.do(ctx, w, job); err != nil {
			return err
		}
		_, err := w.jobs.Update(ctx, job.ID, atomic.Set("state", "done"))
		return err
	})
}

// write is what a job does here: it writes a line into the logbook. Some have bad luck the first time.
func write(ctx context.Context, w *worker, job Job) error {
	ext := w.db.Ext(ctx) // the transaction
	if _, err := ext.ExecContext(ctx, ext.Rebind("INSERT INTO "+logbook+" (job, worker) VALUES (?, ?)"), job.ID, w.number); err != nil {
		return err
	}
	if job.ID%100 == 7 && job.Failures == 0 {
		return errFailed
	}
	return nil
}
