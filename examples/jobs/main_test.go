package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/examples/internal/everywhere"
)

// openQueue returns a queue with jobs 1 to n.
func openQueue(t *testing.T, driver, dsn string, n int) *queue {
	q, err := open(t.Context(), driver, dsn)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, q.close()) })
	require.NoError(t, q.fill(t.Context(), n))
	return q
}

// log returns how many lines each worker has in the logbook.
func (q *queue) log(t *testing.T) map[int]int {
	var lines []struct{ Worker, Times int }
	require.NoError(t, q.pool.SelectContext(t.Context(), &lines, "SELECT worker, COUNT(*) AS times FROM "+logbook+" GROUP BY worker"))
	log := map[int]int{}
	for _, l := range lines {
		log[l.Worker] = l.Times
	}
	return log
}

// Each job is done once, by one of the workers, which counts it, also the jobs that have failed at first.
func TestEachJobIsDoneOnce(t *testing.T) {
	everywhere.Run(t, func(t *testing.T, driver, dsn string) {
		q := openQueue(t, driver, dsn, 200)
		require.ErrorIs(t, q.check(t.Context()), errWrong, "nothing is done yet")
		workers, err := q.work(t.Context(), settings{workers: 8, batch: 3}, write)
		require.NoError(t, err)
		require.NoError(t, q.check(t.Context()))
		counted, failed := map[int]int{}, 0
		for _, w := range workers {
			if failed += w.failed; w.done > 0 {
				counted[w.number] = w.done
			}
		}
		assert.Equal(t, q.log(t), counted)
		assert.Equal(t, 2, failed)
	})
}

// While one worker is busy with the jobs that it has taken, another does all the others, and does not wait.
func TestNobodyWaitsForATakenJob(t *testing.T) {
	everywhere.OnServers(t, func(t *testing.T, driver, dsn string) {
		q := openQueue(t, driver, dsn, 6) // too few for one that fails
		var first atomic.Int64            // the worker that comes first
		taken := make(chan struct{})
		workers, err := q.work(t.Context(), settings{workers: 2, batch: 2}, func(ctx context.Context, w *worker, job Job) error {
			if first.CompareAndSwap(0, int64(w.number)) {
				close(taken)
				deadline := time.Now().Add(20 * time.Second)
				for done := 0; done < 4 && time.Now().Before(deadline); { // it sees what the other has committed
					if err := q.pool.GetContext(ctx, &done, "SELECT COUNT(*) FROM "+logbook); err != nil {
						return err
					}
				}
			}
			<-taken // so that the other does not come before it
			return write(ctx, w, job)
		})
		require.NoError(t, err)
		require.NoError(t, q.check(t.Context()))
		for _, w := range workers {
			want := 4
			if int64(w.number) == first.Load() {
				want = 2
			}
			assert.Equal(t, want, w.done)
		}
	})
}

// A worker that breaks down leaves what it has taken, and what has failed, to the next one. What it has done before stays.
func TestAnotherWorkerGoesOn(t *testing.T) {
	everywhere.Run(t, func(t *testing.T, driver, dsn string) {
		q := openQueue(t, driver, dsn, 5)
		_, err := q.work(t.Context(), settings{workers: 1, batch: 3}, func(ctx context.Context, w *worker, job Job) error {
			if err := write(ctx, w, job); err != nil {
				return err
			}
			switch {
			case job.ID == 2:
				return errFailed
			case job.ID == 4: // it is taken with 2, by the second transaction
				return io.ErrUnexpectedEOF
			}
			return nil
		})
		assert.ErrorIs(t, err, io.ErrUnexpectedEOF)
		assert.Equal(t, map[int]int{1: 2}, q.log(t), "jobs 1 and 3")
		var failures []int
		require.NoError(t, q.pool.Select(&failures, "SELECT failures FROM "+table+" ORDER BY id"))
		assert.Equal(t, []int{0, 1, 0, 0, 0}, failures)

		next, err := q.work(t.Context(), settings{workers: 1, batch: 3}, write)
		require.NoError(t, err)
		assert.Equal(t, 3, next[0].done)
		assert.NoError(t, q.check(t.Context()))
	})
}

// A job that always fails is tried three times, and is then in nobody's way.
func TestHopelessJob(t *testing.T) {
	everywhere.Run(t, func(t *testing.T, driver, dsn string) {
		q := openQueue(t, driver, dsn, 6)
		workers, err := q.work(t.Context(), settings{workers: 1, batch: 2}, func(ctx context.Context, w *worker, job Job) error {
			if job.ID == 1 {
				return errFailed
			}
			return write(ctx, w, job)
		})
		require.NoError(t, err)
		assert.Equal(t, 5, workers[0].done)
		assert.Equal(t, 3, workers[0].failed)
		assert.ErrorIs(t, q.check(t.Context()), errWrong)
	})
}

// A job that was done twice is found.
func TestCheck(t *testing.T) {
	q := openQueue(t, "sqlite3", "file:"+filepath.Join(t.TempDir(), "x.db"), 3)
	_, err := q.work(t.Context(), settings{workers: 1, batch: 2}, write)
	require.NoError(t, err)
	require.NoError(t, q.check(t.Context()))
	q.pool.MustExec("INSERT INTO " + logbook + " VALUES (2, 1)")
	assert.EqualError(t, q.check(t.Context()), "not every job was done exactly once: 1 were not")
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	args := []string{"-workers", "1", "-jobs", "10", "-dsn", "file:" + filepath.Join(t.TempDir(), "x.db")}
	for range 2 { // the second time nothing is in the way
		out.Reset()
		require.NoError(t, run(t.Context(), args, &out, io.Discard))
		assert.Regexp(t, `^10 jobs, 5 at a time, through sqlite3\n\nworker +done +failed\n +1 +10 +1\n\n\d+ jobs/s\n$`, out.String())
	}
}

func TestBadArguments(t *testing.T) {
	for message, args := range map[string][]string{
		"-jobs, -workers and -batch must":    {"-jobs", "0"},
		"-jobs, -workers and -batch must b":  {"-workers", "0"},
		"-jobs, -workers and -batch must be": {"-batch", "-1"},
		`unexpected argument "all"`:          {"all"},
		"-driver mysql needs a -dsn":         {"-driver", "mysql"},
		`unknown driver "oracle"`:            {"-driver", "oracle", "-dsn", "x"},
		"unable to open database file":       {"-dsn", "file:" + filepath.Join(t.TempDir(), "no", "such", "folder.db")},
	} {
		assert.ErrorContains(t, run(t.Context(), args, io.Discard, io.Discard), message)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	assert.ErrorIs(t, run(ctx, nil, io.Discard, io.Discard), context.Canceled)
	left, err := os.ReadDir(folder)
	require.NoError(t, err)
	assert.Empty(t, left, "the temporary folder is removed")
}
