package racetest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/raceproof/raceproof/racetest/internal/search"
	"github.com/raceproof/raceproof/racetest/internal/waits"
)

// Run is Explore without a test. Its error is a [*Failure] if a schedule breaks the scenario; any other says that the
// scenario is not complete, that the search was ended by Limit or by the context, or that the database cannot be used.
func Run(ctx context.Context, s Scenario, opts ...Option) (result Result, err error) {
	var o options
	for _, option := range opts {
		option(&o)
	}
	if err := s.complete(o); err != nil {
		return Result{}, err
	}
	start := time.Now()
	e, err := s.environment(ctx, o)
	if err != nil {
		return Result{}, err
	}
	defer func() {
		err = errors.Join(err, e.admin.Close())
		result.Elapsed = time.Since(start)
	}()
	err = e.explore(o)
	e.result.Elapsed = time.Since(start)
	var f *Failure
	if errors.As(err, &f) {
		f.Schedules, f.about = e.result.Schedules, e.about
	}
	if err == nil && e.replayed {
		e.result.timeline = (&Failure{Actors: e.names, Steps: e.last.timeline()}).timeline()
	}
	if report := e.report(f, err); report != nil {
		err = errors.Join(err, report)
	}
	return e.result, err
}

// complete returns what is missing in a scenario, or cannot be, and puts in what is left to it.
func (s *Scenario) complete(o options) error {
	var wrong []string
	demand := func(ok bool, what string) {
		if !ok {
			wrong = append(wrong, what)
		}
	}
	demand(s.Open != nil, "Open is missing")
	demand(s.Setup != nil, "Setup is missing")
	demand(s.Check != nil, "Check is missing")
	demand(len(s.Actors) >= 2, "Actors must be two or more")
	for _, name := range slices.Sorted(maps.Keys(s.Actors)) {
		demand(s.Actors[name] != nil, fmt.Sprintf("Actors[%q] is nil", name))
		demand(name != "" && !strings.ContainsFunc(name, unfit), fmt.Sprintf("%q is no name for an actor: it must have letters, digits, - and _ only", name))
	}
	demand(s.Limit >= 0, "Limit is negative")
	demand(s.Steps >= 0, "Steps is negative")
	demand(s.Patience >= 0, "Patience is negative")
	demand(s.Random.Schedules >= 0, "Random.Schedules is negative")
	demand(s.Random.Depth >= 0, "Random.Depth is negative")
	demand(s.Random.Schedules == 0 || s.Partial, "Random is for partial searches, and Partial is not set")
	if wrong != nil {
		return errors.New("the scenario is not complete: " + strings.Join(wrong, "; "))
	}
	set(&s.Limit, 10_000)
	set(&s.Steps, 1_000)
	set(&s.Patience, 10*time.Second)
	set(&s.Random.Depth, 3)
	return nil
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// An environment is what all schedules of a search have in common.
type environment struct {
	Scenario
	ctx       context.Context
	connector driver.Connector
	admin     *sql.DB // for Setup and Check, and to ask who waits
	database  *waits.Database
	names     []string // of the actors, in order
	tokens    []string // and in tokens
	last      *schedule
	decisions []search.Decision // of the last
	replayed  bool
	result    Result
	about     float64 // how many orders there are, as far as the last schedule tells
	gone      func(*Failure)
}

func (s Scenario) environment(ctx context.Context, o options) (*environment, error) {
	connector, err := s.Open()
	if err == nil && connector == nil {
		err = errors.New("it returned none")
	}
	if err != nil {
		return nil, fmt.Errorf("the scenario's Open: %w", err)
	}
	e := &environment{Scenario: s, ctx: ctx, connector: connector, names: slices.Sorted(maps.Keys(s.Actors)), gone: o.gone}
	e.tokens = shortest(e.names)
	e.admin = sql.OpenDB(shared{connector})
	if e.database, err = waits.Of(ctx, e.admin); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot ask what database this is: %w", err), e.admin.Close())
	}
	return e, nil
}

// shared hides the Close of a connector that is used for more than one handle.
type shared struct{ driver.Connector }

// explore runs the schedules. What it finds out is in the result, whatever the error.
func (e *environment) explore(o options) error {
	if strings.TrimSpace(o.replay) != "" {
		choose, rest, err := e.replay(o.replay)
		if err != nil {
			return err
		}
		if _, err = e.run(choose); errors.Is(err, search.ErrMissed) {
			return fmt.Errorf("the token of Replay(%q) could not be followed in %d tries: the database refuses other actors than before", o.replay, victims)
		} else if err != nil {
			return err
		}
		e.replayed = true
		return rest()
	}
	s := search.New(len(e.names))
	s.Quiet = e.database.Quiet
	err := s.Explore(e.Limit, e.run)
	e.result.Orders = s.Orders
	var diverged *search.Diverged
	if errors.As(err, &diverged) { // seen when the schedule was over
		return e.located(e.notDeterministic(diverged, e.last.instead(diverged)), e.last, e.decisions)
	}
	if err != nil {
		return err
	}
	if e.result.Left = s.Left(); e.result.Left == 0 {
		return nil
	}
	if !e.Partial {
		return fmt.Errorf("the search has come to its limit of %d schedules, and at least %d are left (of about %.0f orders); set Limit, or Partial", e.Limit, e.result.Left, e.about)
	}
	for i := range e.Random.Schedules {
		r := rand.New(rand.NewPCG(e.Random.Seed, uint64(i)))
		e.result.Random++
		if _, err := e.run(search.Random(r, len(e.names), e.result.Longest, e.Random.Depth)); err != nil {
			return err
		}
	}
	return nil
}

// victims is how often a schedule is tried again in which the database has refused somebody else than before.
const victims = 20

// run runs one schedule. One that the database has ended a deadlock in may go another way the next time, because the
// database chooses whom it refuses: it is tried again then.
func (e *environment) run(choose search.Chooser) ([]search.Decision, error) {
	e.result.Schedules++
	s, decisions, err := e.once(choose)
	for try := 0; elsewhere(err) && (e.last.chance || e.moody()); try++ {
		if try == victims {
			e.result.Missed++
			return nil, search.ErrMissed
		}
		s, decisions, err = e.once(choose)
	}
	e.decisions = decisions
	var f *Failure
	switch {
	case !errors.As(err, &f):
	case e.ctx.Err() != nil && f.Kind != NoEnd:
		return decisions, context.Cause(e.ctx) // what actors and Check make of that is not their fault
	default:
		return decisions, e.located(f, s, decisions)
	}
	return decisions, err
}

// moody tells whether the database has been seen to decide by what was there before who waits.
func (e *environment) moody() bool {
	return e.database.Fickle && e.result.Blocked+e.result.Deadlocks > 0
}

// elsewhere tells whether a schedule has gone another way than it was to.
func elsewhere(err error) bool {
	var f *Failure
	var unfit *misfit
	return errors.As(err, &f) && f.Kind == NotDeterministic || errors.As(err, &unfit)
}

// once runs one schedule from Setup to Check.
func (e *environment) once(choose search.Chooser) (*schedule, []search.Decision, error) {
	if e.ctx.Err() != nil {
		return nil, nil, context.Cause(e.ctx)
	}
	if err := errors.Join(e.Setup(e.ctx, e.admin), e.comesBack()); err != nil {
		return nil, nil, fmt.Errorf("the scenario's Setup: %w", err)
	}
	s := e.schedule(e.ctx)
	e.last = s
	decisions, err := s.play(choose)
	if n := len(decisions); n > 0 && s.chance {
		decisions[n-1].Chance = true // what comes of it may come otherwise
	}
	if err != nil {
		err = s.givenUp(err)
	}
	keeper := s.close()
	e.count(s, decisions)
	if err != nil {
		return s, decisions, err
	}
	if keeper != nil {
		return s, decisions, keeper
	}
	returned, err := s.returned()
	if err != nil {
		return s, decisions, err
	}
	if err := e.check(s, decisions, returned); err != nil && e.unreachable(err) {
		return s, decisions, fmt.Errorf("the scenario's Check could not ask the database: %w", err)
	} else if err != nil {
		return s, decisions, &Failure{Kind: Invariant, Err: err}
	}
	if err := e.comesBack(); err != nil {
		return s, decisions, fmt.Errorf("the scenario's Check: %w", err)
	}
	return s, decisions, nil
}

// comesBack waits for the connections that Setup and Check have used: one that is kept would be in the way of what follows.
func (e *environment) comesBack() error {
	for deadline := time.Now().Add(comesBack); e.admin.Stats().InUse > 0; time.Sleep(time.Millisecond) {
		if !time.Now().Before(deadline) {
			return errors.New("it keeps a connection (a *sql.Conn, a *sql.Tx or *sql.Rows that was not closed)")
		}
	}
	return nil
}

// count adds a schedule to the result.
func (e *environment) count(s *schedule, decisions []search.Decision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &e.result
	perActor := make([]int, len(e.names))
	for _, d := range decisions {
		perActor[d.Chosen]++
	}
	e.about = search.Interleavings(perActor)
	r.Statements += len(s.steps)
	r.Longest = max(r.Longest, len(decisions))
	if s.knots > 0 {
		r.Deadlocks++
	}
	if slices.ContainsFunc(s.steps, func(st *step) bool { return st.blocked }) {
		r.Blocked++
	}
}
