package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
)

// A bank is a database with the accounts.
type bank struct {
	pool *sqlx.DB
	db   *raceproof.DB
}

func open(ctx context.Context, driver, dsn string) (*bank, error) {
	pool, err := sqlx.ConnectContext(ctx, driver, dsn)
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(16)
	pool.SetMaxIdleConns(16)
	b := &bank{pool: pool}
	if b.db, err = raceproof.New(pool); err == nil {
		_, err = pool.ExecContext(ctx, "CREATE TABLE "+table+" (id BIGINT PRIMARY KEY, balance BIGINT NOT NULL, version BIGINT NOT NULL)")
	}
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return b, nil
}

func (b *bank) close() error {
	b.db.Close() // before the pool
	_, err := b.pool.Exec("DROP TABLE " + table)
	return errors.Join(err, b.pool.Close())
}

// opening is what each account begins with: so little that some transfers are refused.
const opening = 100

// fill makes accounts 0 to n-1.
func (b *bank) fill(ctx context.Context, n int) error {
	return b.db.Transact(ctx, func(ctx context.Context) error {
		_, err := b.db.Ext(ctx).ExecContext(ctx, "DELETE FROM "+table)
		for id := 0; id < n && err == nil; id++ {
			_, err = b.db.Ext(ctx).ExecContext(ctx, b.pool.Rebind("INSERT INTO "+table+" VALUES (?, ?, 0)"), id, opening)
		}
		return err
	})
}

// A result is what became of the transfers, or of those that one worker made.
type result struct {
	made, refused, attempts int64
	before, after, lowest   int64 // the sum of all balances, and the lowest that was seen
	took                    time.Duration
}

// audit returns the sum of all balances and the lowest of them. One statement sees each transfer entirely or not at all, so
// that it can be sent at any time.
func (b *bank) audit(ctx context.Context) (sum, lowest int64, err error) {
	err = b.pool.QueryRowContext(ctx, "SELECT SUM(balance), MIN(balance) FROM "+table).Scan(&sum, &lowest)
	return sum, lowest, err
}

// load has all workers make their transfers at the same time.
func (b *bank) load(ctx context.Context, s settings, w way) (r result, err error) {
	if err := b.fill(ctx, s.accounts); err != nil {
		return r, err
	}
	if r.before, r.lowest, err = b.audit(ctx); err != nil {
		return r, err
	}
	results, errs := make([]result, s.workers), make([]error, s.workers)
	updater := lock.New(b.db, accounts, nil)
	start := time.Now()
	var workers sync.WaitGroup
	for i := range s.workers {
		workers.Go(func() { results[i], errs[i] = b.work(ctx, s, updater, w, i) })
	}
	workers.Wait()
	r.took = time.Since(start)
	for _, one := range results {
		r.made += one.made
		r.refused += one.refused
		r.attempts += one.attempts
		r.lowest = min(r.lowest, one.lowest)
	}
	if err := errors.Join(errs...); err != nil {
		return r, err
	}
	var lowest int64
	r.after, lowest, err = b.audit(ctx)
	r.lowest = min(r.lowest, lowest)
	return r, err
}

// work makes one worker's transfers, and looks at the accounts now and then, while the others work.
func (b *bank) work(ctx context.Context, s settings, updater *lock.Updater[Account], w way, number int) (r result, err error) {
	random := rand.New(rand.NewPCG(uint64(number), 0))
	start := time.Now()
	for i := 0; i < s.transfers && time.Since(start) < s.limit; i++ {
		from := random.IntN(s.accounts)
		to := (from + 1 + random.IntN(s.accounts-1)) % s.accounts // another one
		attempts, err := w(ctx, updater, transfer{int64(from), int64(to), 1 + random.Int64N(opening)})
		r.attempts += attempts
		switch {
		case errors.Is(err, errTooLittle):
			r.refused++
		case err != nil:
			return r, fmt.Errorf("transfer %d of worker %d: %w", i, number, err)
		default:
			r.made++
		}
		if i%10 != 0 {
			continue
		}
		sum, lowest, err := b.audit(ctx)
		if err != nil {
			return r, err
		}
		if r.lowest = min(r.lowest, lowest); sum != int64(s.accounts)*opening {
			return r, fmt.Errorf("%w: after transfer %d of worker %d the sum is %d", errWrong, i, number, sum)
		}
	}
	return r, nil
}
