package lease

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/testdb"
)

func TestHold(t *testing.T) {
	pool, db := open(t)
	a, err := TryAcquire(t.Context(), db, "job", &Options{Holder: "ada", TTL: time.Minute})
	require.NoError(t, err)
	assert.Equal(t, "job", a.Name())
	require.NoError(t, a.Context().Err())

	_, err = TryAcquire(t.Context(), db, "job", nil)
	var e *HeldError
	require.ErrorAs(t, err, &e)
	assert.ErrorIs(t, err, raceproof.ErrLocked)
	assert.Equal(t, "job", e.Name)
	assert.Equal(t, "ada", e.Holder)
	assert.Greater(t, e.Left, 50*time.Second)
	assert.LessOrEqual(t, e.Left, time.Minute)
	assert.EqualError(t, &HeldError{"job", "ada", time.Second}, `lease: "job" is held by "ada" for another 1s`)

	require.NoError(t, a.Release(t.Context()))
	assert.ErrorIs(t, context.Cause(a.Context()), ErrReleased)
	assert.ErrorIs(t, a.Release(t.Context()), ErrReleased)
	assert.ErrorIs(t, a.Renew(t.Context()), ErrReleased)
	err = db.Transact(t.Context(), a.Fence)
	assert.ErrorIs(t, err, ErrReleased)
	assert.ErrorIs(t, err, raceproof.ErrLeaseLost)

	b, err := Acquire(t.Context(), db, "job", nil)
	require.NoError(t, err)
	assert.Greater(t, b.Token(), a.Token())
	assert.ErrorIs(t, a.Release(t.Context()), ErrReleased)
	assert.NotEqual(t, []any{nil}, column[any](t, pool, "job", "holder"), "a second Release takes nothing from others")
	shown := column[string](t, pool, "job", "shown")
	host, err := os.Hostname()
	require.NoError(t, err)
	assert.Equal(t, []string{host + "/" + strconv.Itoa(os.Getpid())}, shown)
	require.NoError(t, b.Release(t.Context()))
}

func TestNames(t *testing.T) {
	_, db := open(t)
	for _, name := range []string{"b", "B", "b ", "á", "b\x00", "\x00\xff", "'", strings.Repeat("x", 255), strings.Repeat("x", 254)} {
		try(t, semaphore(t, db, name, 1, manual))
		held(t, semaphore(t, db, name, 1, manual))
	}
}

func TestTokensRise(t *testing.T) {
	_, db := open(t)
	s := semaphore(t, db, "many", 3, manual)
	last := int64(0)
	for round := range 5 {
		var all []*Lease
		for range 3 {
			l := try(t, s)
			assert.Greater(t, l.Token(), last, round)
			last = l.Token()
			all = append(all, l)
		}
		for _, l := range all[round%3:] {
			require.NoError(t, l.Release(t.Context()))
		}
		for _, l := range all[:round%3] {
			require.NoError(t, l.Release(t.Context()))
		}
	}
	assert.Equal(t, int64(15), last)
}

func TestBadInput(t *testing.T) {
	_, db := open(t)
	long := strings.Repeat("x", 256)
	for want, f := range map[string]func() (*Semaphore, error){
		"lease: the DB is nil":                                                          func() (*Semaphore, error) { return NewSemaphore(nil, "a", 1, nil) },
		"lease: the name has 0 bytes: it must have 1 to 255":                            func() (*Semaphore, error) { return NewSemaphore(db, "", 1, nil) },
		"lease: the name has 256 bytes: it must have 1 to 255":                          func() (*Semaphore, error) { return NewSemaphore(db, long, 1, nil) },
		`lease: "a" is to have 0 places: it must be 1 to 1000`:                          func() (*Semaphore, error) { return NewSemaphore(db, "a", 0, nil) },
		`lease: "a" is to have -1 places: it must be 1 to 1000`:                         func() (*Semaphore, error) { return NewSemaphore(db, "a", -1, nil) },
		`lease: "a" is to have 1001 places: it must be 1 to 1000`:                       func() (*Semaphore, error) { return NewSemaphore(db, "a", 1001, nil) },
		"lease: the holder has 256 bytes: at most 255 are shown":                        func() (*Semaphore, error) { return NewSemaphore(db, "a", 1, &Options{Holder: long}) },
		"lease: the TTL is -1ns: it must be at least 100ms and at most 720h0m0s":        func() (*Semaphore, error) { return NewSemaphore(db, "a", 1, &Options{TTL: -1}) },
		"lease: the TTL is 99.999999ms: it must be at least 100ms and at most 720h0m0s": func() (*Semaphore, error) { return NewSemaphore(db, "a", 1, &Options{TTL: MinTTL - 1}) },
		"lease: the TTL is 720h0m0.000000001s: it must be at least 100ms and at most 720h0m0s": func() (*Semaphore, error) {
			return NewSemaphore(db, "a", 1, &Options{TTL: MaxTTL + 1})
		},
	} {
		_, err := f()
		assert.EqualError(t, err, want)
	}
	_, err := Acquire(t.Context(), nil, "a", nil)
	assert.EqualError(t, err, "lease: the DB is nil")
	_, err = TryAcquire(t.Context(), db, "", nil)
	assert.ErrorContains(t, err, "it must have 1 to 255")
	for _, ttl := range []time.Duration{0, MinTTL, MaxTTL} {
		l := try(t, semaphore(t, db, ttl.String(), MaxPlaces, &Options{TTL: ttl, Manual: true}))
		if ttl == 0 {
			ttl = 15 * time.Second
		}
		assert.Equal(t, ttl, l.options.TTL)
		if ttl > time.Minute { // else it can be over on a slow machine
			assert.Greater(t, held(t, semaphore(t, db, l.name, 1, nil)).Left, ttl-time.Minute)
		}
	}
}

func TestNested(t *testing.T) {
	_, db := open(t)
	_, other := open(t)
	l := try(t, semaphore(t, db, "a", 1, manual))
	require.NoError(t, db.Transact(t.Context(), func(ctx context.Context) error {
		_, err := TryAcquire(ctx, db, "b", nil)
		assert.ErrorIs(t, err, raceproof.ErrNested)
		_, err = Acquire(ctx, db, "b", nil)
		assert.ErrorIs(t, err, raceproof.ErrNested)
		assert.ErrorIs(t, l.Renew(ctx), raceproof.ErrNested)
		assert.ErrorIs(t, l.Release(ctx), raceproof.ErrNested)
		assert.ErrorContains(t, CreateTable(ctx, db), "it cannot be part of a transaction")
		b, err := TryAcquire(ctx, other, "b", nil)
		if assert.NoError(t, err, "another DB's transaction is none of ours") {
			assert.NoError(t, b.Release(ctx))
		}
		return nil
	}))
	require.NoError(t, l.Context().Err(), "it is held still")
	require.NoError(t, l.Renew(t.Context()))
	require.NoError(t, l.Release(t.Context()))
}

// A lease that was taken over is lost, and takes nothing from its new holder.
func TestTakenOver(t *testing.T) {
	pool, db := open(t)
	for _, find := range []func(*Lease) error{
		func(l *Lease) error { return l.Renew(t.Context()) },
		func(l *Lease) error { return l.Release(t.Context()) },
		func(l *Lease) error { return db.Transact(t.Context(), l.Fence) },
	} {
		s := semaphore(t, db, "a", 1, manual)
		a := try(t, s)
		later(pool, 14*time.Second, a)
		held(t, s)
		later(pool, time.Second, a)
		b := try(t, s)
		assert.Greater(t, b.Token(), a.Token())
		assert.ErrorIs(t, find(a), raceproof.ErrLeaseLost)
		if cause := context.Cause(a.Context()); !errors.Is(cause, ErrReleased) {
			assert.ErrorIs(t, cause, raceproof.ErrLeaseLost)
			assert.ErrorIs(t, a.Renew(t.Context()), raceproof.ErrLeaseLost)
			assert.ErrorIs(t, a.Release(t.Context()), raceproof.ErrLeaseLost)
		}
		assert.ErrorIs(t, a.Release(t.Context()), ErrReleased)
		require.NoError(t, b.Renew(t.Context()))
		require.NoError(t, db.Transact(t.Context(), b.Fence))
		require.NoError(t, b.Release(t.Context()))
	}
}

// Nobody has taken over a lease whose time is over: it can be renewed.
func TestRenewLate(t *testing.T) {
	pool, db := open(t)
	s := semaphore(t, db, "a", 1, manual)
	l := try(t, s)
	later(pool, time.Hour, l)
	require.NoError(t, l.Renew(t.Context()))
	assert.Greater(t, held(t, s).Left, 10*time.Second)
}

func TestTable(t *testing.T) {
	pool, db := testdb.SQLite(t)
	_, err := TryAcquire(t.Context(), db, "a", nil)
	assert.ErrorContains(t, err, `lease: "a": `)
	assert.ErrorContains(t, err, "raceproof_lease", "the error names the table that is missing")
	schema, err := Schema("sqlite")
	require.NoError(t, err)
	pool.MustExec(schema)
	require.NoError(t, CreateTable(t.Context(), db))
	l, err := TryAcquire(t.Context(), db, "a", nil)
	require.NoError(t, err)
	require.NoError(t, CreateTable(t.Context(), db))
	require.NoError(t, l.Release(t.Context()))
	_, err = Schema("oracle")
	assert.ErrorContains(t, err, `lease: unknown dialect "oracle": there is mysql, postgres, sqlite`)
	assert.EqualError(t, CreateTable(t.Context(), nil), "lease: CreateTable: the DB is nil")
}
