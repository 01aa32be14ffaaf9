package hermitage_test

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// A watch asks a server who waits for whom. Whoever asks while it is busy shares the next look.
type watch struct {
	server string
	pool   *sql.DB

	mu   sync.Mutex
	next *look      // the one that has not begun
	busy sync.Mutex // held by the one that has

	questions int       // so far
	last      time.Time // when the last was answered
}

// A look is what the server has told.
type look struct {
	done chan struct{}
	err  error
	// Who waits, and for whom; 0 is somebody whom the server does not name.
	waits map[int64][]int64
}

// idSQL asks for the server's name for the connection.
func (w *watch) idSQL() string {
	if w.server == postgres {
		return `SELECT pg_backend_pid()`
	}
	return `SELECT CONNECTION_ID()`
}

// look looks, not earlier than now.
func (w *watch) look(ctx context.Context) *look {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.next == nil {
		w.next = &look{done: make(chan struct{})}
		go w.run(context.WithoutCancel(ctx), w.next) // others share it, so it must not end with this one's context
	}
	return w.next
}

func (w *watch) run(ctx context.Context, l *look) {
	defer close(l.done)
	w.busy.Lock()
	defer w.busy.Unlock()
	w.mu.Lock()
	w.next = nil
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if w.server == postgres {
		l.waits, l.err = w.askPostgres(ctx)
	} else {
		l.waits, l.err = w.askMariaDB(ctx)
	}
}

func (w *watch) askPostgres(ctx context.Context) (map[int64][]int64, error) {
	result, err := w.pool.QueryContext(ctx, `SELECT waits.pid, held.pid
		FROM pg_stat_activity waits, unnest(pg_blocking_pids(waits.pid)) AS held(pid) WHERE waits.datname IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = result.Close() }()
	waits := map[int64][]int64{}
	for result.Next() {
		var id, holder int64
		if err := result.Scan(&id, &holder); err != nil {
			return nil, err
		}
		waits[id] = append(waits[id], holder)
	}
	return waits, result.Err()
}

// kept is how long InnoDB goes on answering from what it knew when it was last asked; each question begins that anew.
const kept = 100 * time.Millisecond

// askMariaDB asks again until the answer is new: it is when it shows the question itself, which is asked in a
// transaction for that.
func (w *watch) askMariaDB(ctx context.Context) (map[int64][]int64, error) {
	for pause := kept; ; pause *= 2 {
		select {
		// Two who ask at the same pace would keep each other's answers old.
		case <-time.After(time.Until(w.last.Add(pause + rand.N(pause/10)))):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		waits, fresh, err := w.askInnoDB(ctx)
		w.last = time.Now()
		if err != nil || fresh {
			return waits, err
		}
	}
}

// askInnoDB asks once. A transaction that has not tried to write has the id 0, like all others of its kind, so that the
// server does not tell which of them is waited for. It need not: in the circles of our scenarios everybody has tried.
func (w *watch) askInnoDB(ctx context.Context) (waits map[int64][]int64, fresh bool, err error) {
	conn, err := w.pool.Conn(ctx)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(ctx, `START TRANSACTION WITH CONSISTENT SNAPSHOT`); err != nil {
		return nil, false, err
	}
	defer func() {
		if _, end := conn.ExecContext(ctx, `ROLLBACK`); err == nil {
			err = end
		}
	}()
	w.questions++
	mark := fmt.Sprintf("/* question %d of %p */", w.questions, w)
	result, err := conn.QueryContext(ctx, `SELECT `+mark+` t.trx_mysql_thread_id,
			t.trx_state = 'LOCK WAIT' AND w.blocking_trx_id IS NOT NULL,
			COALESCE(t.trx_query, ''), COALESCE(held.trx_mysql_thread_id, 0)
		FROM information_schema.innodb_trx t
		LEFT JOIN information_schema.innodb_lock_waits w ON w.requesting_trx_id = t.trx_id
		LEFT JOIN information_schema.innodb_trx held ON held.trx_id = w.blocking_trx_id AND held.trx_id <> 0`)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = result.Close() }()
	waits = map[int64][]int64{}
	for result.Next() {
		var id, holder int64
		var waiting bool
		var query string
		if err := result.Scan(&id, &waiting, &query, &holder); err != nil {
			return nil, false, err
		}
		fresh = fresh || strings.Contains(query, mark)
		if waiting {
			waits[id] = append(waits[id], holder)
		}
	}
	return waits, fresh, result.Err()
}

// stuck tells whether all of these connections wait for one of the script's, and not for each other in a circle: that is a
// deadlock, which the server is about to break. Whoever else is waited for, such as a test beside this one or the server's
// own upkeep, will be done by itself.
func (l *look) stuck(ids, ours []int64) bool {
	one := func(id int64) bool { return id == 0 || slices.Contains(ours, id) }
	for _, id := range ids {
		if !slices.ContainsFunc(l.waits[id], one) || l.circle(id, map[int64]bool{}) {
			return false
		}
	}
	return true
}

// circle tells whether a connection waits, through others, for one that is on the path to it.
func (l *look) circle(id int64, path map[int64]bool) bool {
	if path[id] {
		return true
	}
	path[id] = true
	for _, holder := range l.waits[id] {
		if l.circle(holder, path) {
			return true
		}
	}
	delete(path, id)
	return false
}
