package hermitage_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
)

// A session runs one transaction of a scenario, on a connection of its own.
type session struct {
	name    string
	conn    *sql.Conn
	id      int64 // the server's name for the connection
	level   level
	queue   []*event // whose turn has come, but which are not sent yet
	running *event
	refused bool // its transaction was
}

// A run takes the steps of a scenario in their order.
type run struct {
	*history
	watch    *watch
	sessions []*session
	done     chan *session // whose running step has returned
	latest   *session      // that has sent a step
	freed    []string      // notes on what returned before that did, because of it
}

// play runs the steps at a level. The history tells how far it got, even with an error.
func play(ctx context.Context, pool *sql.DB, w *watch, l level, steps []step) (*history, error) {
	r := &run{history: &history{}, watch: w, done: make(chan *session, len(steps))}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel() // what still waits when a run has failed
		for _, s := range r.sessions {
			if s.running != nil {
				<-r.done
			}
		}
		for _, s := range r.sessions {
			s.close()
		}
		r.timeline = append(r.timeline, r.freed...)
	}()
	for _, name := range []string{"T1", "T2", "T3"} {
		conn, err := pool.Conn(ctx)
		if err != nil {
			return r.history, err
		}
		s := &session{name: name, conn: conn, level: l}
		r.sessions = append(r.sessions, s)
		if err := conn.QueryRowContext(ctx, w.idSQL()).Scan(&s.id); err != nil {
			return r.history, err
		}
	}
	for _, st := range steps {
		e := &event{step: st}
		r.events = append(r.events, e)
		i := slices.IndexFunc(r.sessions, func(s *session) bool { return s.name == st.session })
		if i < 0 {
			return r.history, fmt.Errorf("step %d: there is no session %q", st.at, st.session)
		}
		s := r.sessions[i]
		if s.running != nil {
			e.late = true
			r.note("%2d %v: its session still waits", st.at, st)
		}
		s.queue = append(s.queue, e)
		if err := r.settle(ctx); err != nil {
			return r.history, err
		}
	}
	for _, s := range r.sessions {
		if s.running != nil {
			return r.history, fmt.Errorf("the script is over, and %v still waits", s.running.step)
		}
	}
	var err error
	r.final, err = find(ctx, pool, `SELECT * FROM test`)
	r.note("   the table is %v", r.final)
	return r.history, err
}

// settle sends what can be sent, until nothing can, and everything that was sent has returned or waits for a lock. It
// sends one step at a time, the earliest, so that a run goes the same way every time.
func (r *run) settle(ctx context.Context) error {
	for {
		var next *session
		for _, s := range r.sessions {
			if s.refused {
				s.queue = nil
			}
			if s.running == nil && len(s.queue) > 0 && (next == nil || s.queue[0].at < next.queue[0].at) {
				next = s
			}
		}
		if next == nil {
			return nil
		}
		next.running, next.queue, r.latest = next.queue[0], next.queue[1:], next
		go func(s *session) {
			s.do(ctx, s.running)
			r.done <- s
		}(next)
		if err := r.quiet(ctx); err != nil {
			return err
		}
	}
}

// pace is how long a step may take before the server is asked what it waits for. Nothing depends on it but the number
// of questions.
const pace = 5 * time.Millisecond

// quiet returns when everything that was sent has returned, or waits for a lock that somebody holds who does not wait.
func (r *run) quiet(ctx context.Context) error {
	for {
		var running, ours []int64
		for _, s := range r.sessions {
			ours = append(ours, s.id)
			if s.running != nil {
				running = append(running, s.id)
			}
		}
		if len(running) == 0 {
			return nil
		}
		var seen *look
		returned, err := await(r, time.After(pace))
		if !returned {
			seen = r.watch.look(ctx)
			returned, err = await(r, seen.done)
		}
		if err != nil {
			return err
		}
		if returned {
			continue
		}
		if seen.err != nil {
			return seen.err
		}
		if !seen.stuck(running, ours) {
			continue
		}
		for _, s := range r.sessions {
			if s.running != nil && !s.running.waited {
				s.running.waited = true
				r.tell(s, "%2d %v: waits", s.running.at, s.running.step)
			}
		}
		return nil
	}
}

// await waits for a session's step to return, or for something else.
func await[T any](r *run, other <-chan T) (returned bool, err error) {
	select {
	case s := <-r.done:
		return true, r.returned(s)
	case <-other:
		return false, nil
	}
}

// returned takes what came of a session's step.
func (r *run) returned(s *session) error {
	e := s.running
	s.running, s.refused = nil, e.code != ""
	switch {
	case e.err != nil:
		r.tell(s, "%2d %v: %v", e.at, e.step, e.err)
	case e.what == "BEGIN":
		r.tell(s, "%2d %v at %s: %v", e.at, e.step, s.level.name, e)
	default:
		r.tell(s, "%2d %v: %v", e.at, e.step, e)
	}
	return e.err
}

// tell notes what came of a step: first of the one that was sent, then of those that it has set free.
func (r *run) tell(s *session, format string, args ...any) {
	if s != r.latest && r.latest.running != nil && !r.latest.running.waited {
		r.freed = append(r.freed, fmt.Sprintf(format, args...))
		return
	}
	r.note(format, args...)
	r.timeline, r.freed = append(r.timeline, r.freed...), nil
}

// do sends a step, and rolls the transaction back if it is refused: PostgreSQL wants that, and holds its locks until
// then; MariaDB would take what follows as statements without a transaction.
func (s *session) do(ctx context.Context, e *event) {
	var err error
	switch {
	case e.what == "BEGIN":
		for _, statement := range s.level.begin {
			if _, err = s.conn.ExecContext(ctx, statement); err != nil {
				break
			}
		}
	case e.query():
		e.found, err = find(ctx, s.conn, e.what)
	default:
		var result sql.Result
		if result, err = s.conn.ExecContext(ctx, e.what); err == nil {
			e.wrote, err = result.RowsAffected()
		}
	}
	e.done = true
	if err == nil {
		return
	}
	if e.code = code(err); e.code == "" {
		e.err = err
		return
	}
	_, e.err = s.conn.ExecContext(ctx, `ROLLBACK`)
}

// close closes the connection, and does not give it back: it has the settings of the level, and a transaction if the
// run has failed.
func (s *session) close() {
	_ = s.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = s.conn.Close()
}

// code is the server's name for an error, or empty if it is not the server's.
func code(err error) string {
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		return pg.Code
	}
	if my := (*mysql.MySQLError)(nil); errors.As(err, &my) {
		return strconv.Itoa(int(my.Number))
	}
	return ""
}

// find sends a query for rows of the table.
func find(ctx context.Context, on interface {
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
}, query string) (rows, error) {
	found := rows{}
	result, err := on.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = result.Close() }()
	for result.Next() {
		var id, value int
		if err := result.Scan(&id, &value); err != nil {
			return nil, err
		}
		found[id] = value
	}
	return found, result.Err()
}
