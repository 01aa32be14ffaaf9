package hermitage_test

import (
	"context"
	"database/sql"
	"maps"
	"slices"
)

// serial tells in which order the committed transactions could have run one after the other and seen and left behind
// the same, or nil if there is none. It tries them all, with the server itself.
func serial(ctx context.Context, pool *sql.DB, h *history) ([]string, error) {
	var committed []string
	for _, name := range []string{"T1", "T2", "T3"} {
		if h.committed(name) {
			committed = append(committed, name)
		}
	}
	for _, order := range orders(committed) {
		same, err := replay(ctx, pool, h, order)
		if err != nil || same {
			return order, err
		}
	}
	return nil, nil
}

// orders are all orders of the names.
func orders(names []string) [][]string {
	if len(names) == 0 {
		return [][]string{{}}
	}
	var all [][]string
	for i, first := range names {
		for _, rest := range orders(slices.Delete(slices.Clone(names), i, i+1)) {
			all = append(all, append([]string{first}, rest...))
		}
	}
	return all
}

// replay runs the transactions one after the other, within one that is undone, and compares.
func replay(ctx context.Context, pool *sql.DB, h *history, order []string) (same bool, err error) {
	tx, err := pool.BeginTx(ctx, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, `DELETE FROM test`); err != nil {
		return false, err
	}
	if _, err := tx.ExecContext(ctx, fill); err != nil {
		return false, err
	}
	for _, name := range order {
		for _, e := range h.events {
			switch {
			case e.session != name || e.what == "BEGIN" || e.what == "COMMIT":
			case !e.query():
				if _, err := tx.ExecContext(ctx, e.what); err != nil {
					return false, err
				}
			default:
				found, err := find(ctx, tx, e.what)
				if err != nil || !maps.Equal(found, e.found) {
					return false, err
				}
			}
		}
	}
	left, err := find(ctx, tx, `SELECT * FROM test`)
	return err == nil && maps.Equal(left, h.final), err
}
