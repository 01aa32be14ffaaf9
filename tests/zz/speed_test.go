package zz

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jmoiron/sqlx"
	_ "github.com/mattn/go-sqlite3"

	"github.com/raceproof/raceproof"
	dbatomic "github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
	"github.com/raceproof/raceproof/serial"
	"github.com/raceproof/raceproof/tests/databases"
)

func TestMain(m *testing.M) { os.Exit(databases.Main(m)) }

type player struct {
	ID      int64  `db:"id"`
	Name    string `db:"name"`
	Score   int64  `db:"score"`
	Version int64  `db:"version"`
}

func TestSpeed(t *testing.T) {
	callers, _ := strconv.Atoi(os.Getenv("CALLERS"))
	rows, _ := strconv.Atoi(os.Getenv("ROWS"))
	for _, d := range []databases.Database{databases.Named("sqlite/mattn"), databases.Named("postgres/pgx"), databases.Named("mariadb/mysql")} {
		t.Run(d.Name, func(t *testing.T) {
			pool := d.Open(t, databases.Options{})
			_ = sqlx.Named
			pool.MustExec(`CREATE TABLE players (id BIGINT PRIMARY KEY, name VARCHAR(100) NOT NULL, score BIGINT NOT NULL, version BIGINT NOT NULL)`)
			for i := range rows {
				pool.MustExec(fmt.Sprintf(`INSERT INTO players VALUES (%d, 'x', 0, 0)`, i))
			}
			db, err := raceproof.New(pool)
			if err != nil {
				t.Fatal(err)
			}
			players := raceproof.MustTable[player]("players")
			type updaters = map[string]func(ctx context.Context, key int64) error
			fn := func(_ context.Context, p *player) error { p.Score++; return nil }
			l, o, a := serial.Wrap(lock.New(db, players, nil)), serial.Wrap(optimistic.New(db, players, nil)), serial.Wrap(dbatomic.New(db, players, nil))
			stats := map[string]func() serial.Stats{"lock": l.Stats, "optimistic": o.Stats, "atomic": a.Stats}
			for name, u := range (updaters{
				"lock":       func(ctx context.Context, key int64) error { _, err := l.Update(ctx, key, fn); return err },
				"optimistic": func(ctx context.Context, key int64) error { _, err := o.Update(ctx, key, fn); return err },
				"atomic": func(ctx context.Context, key int64) error {
					_, err := a.Update(ctx, key, dbatomic.Set("score", dbatomic.F("score").Add(1)))
					return err
				},
			}) {
				if f := os.Getenv("PROF"); f != "" && os.Getenv("ONLY") == d.Name+"/"+name {
					w, _ := os.Create(f)
					pprof.StartCPUProfile(w)
				}
				if only := os.Getenv("ONLY"); only != "" && only != d.Name+"/"+name {
					continue
				}
				var n atomic.Int64
				var wg sync.WaitGroup
				start := time.Now()
				for w := range callers {
					wg.Go(func() {
						for i := 0; time.Since(start) < time.Second; i++ {
							if err := u(context.Background(), int64((w*7919+i*104729)%rows)); err != nil {
								t.Error(err)
								return
							}
							n.Add(1)
						}
					})
				}
				wg.Wait()
				pprof.StopCPUProfile()
				t.Logf("%s %s: %.0f/s %+v", d.Name, name, float64(n.Load())/time.Since(start).Seconds(), stats[name]())
			}
			var sum, versions int64
			pool.QueryRow(`SELECT sum(score), sum(version) FROM players`).Scan(&sum, &versions)
			if sum != versions {
				t.Error(sum, versions)
			}
		})
	}
}
