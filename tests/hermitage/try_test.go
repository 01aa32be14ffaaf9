package hermitage_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
)

// The verdicts, as in the grid.
const (
	prevented = "✓"
	possible  = "—"
)

// try runs the scenario at a level. It returns the verdict, with the errors that led to it, and an error if that is not
// the one that is wanted, or anything else was not as the scenario says.
func (s scenario) try(ctx context.Context, pool *sql.DB, w *watch, l level, want string) (string, error) {
	steps, err := s.steps()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for _, statement := range []string{`DROP TABLE IF EXISTS test`, create, fill} {
		if _, err := pool.ExecContext(ctx, statement); err != nil {
			return "", err
		}
	}
	h, err := play(ctx, pool, w, l, steps)
	if err != nil {
		return "", h.failed(err)
	}
	verdict := prevented
	if s.happened(h) {
		verdict = possible
	}
	var wrong []error
	if verdict != want {
		wrong = append(wrong, fmt.Errorf("%s: the grid says %s, and it is %s", s.about, want, verdict))
	}
	for _, e := range h.events {
		if e.String() != e.wants[l.short] {
			wrong = append(wrong, fmt.Errorf("step %d, %v: %v; the script says %v", e.at, e.step, e, e.wants[l.short]))
		}
	}
	// Neither the verdict nor the grid can be right if they contradict this.
	order, err := serial(ctx, pool, h)
	switch {
	case err != nil:
		wrong = append(wrong, err)
	case order != nil && verdict == possible:
		wrong = append(wrong, fmt.Errorf("it is no anomaly: the same comes of %v one after the other", order))
	case order == nil && l.name == "serializable":
		wrong = append(wrong, errors.New("it is not serializable: no order of the transactions comes to the same"))
	}
	return strings.TrimSpace(verdict + " " + h.codes()), h.failed(wrong...)
}

// failed is an error with the timeline, if there is any.
func (h *history) failed(wrong ...error) error {
	if err := errors.Join(wrong...); err != nil {
		return fmt.Errorf("%w\nwhat happened:\n%s", err, strings.Join(h.timeline, "\n"))
	}
	return nil
}
