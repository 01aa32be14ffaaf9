package waits

import (
	"context"
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// mysql asks for InnoDB's list of transactions as SHOW ENGINE INNODB STATUS prints it. The tables of the information
// schema that say the same are refreshed only when nobody has read them for 100 ms, which would be the time that a step
// takes. Waits that are not InnoDB's, for the lock on a table's definition or for GET_LOCK, are in the list of processes.
// Neither says for whom: that is unknown here.
func mysql(ctx context.Context, db *sql.DB, ids []int64) (map[int64][]int64, error) {
	waiting := map[int64][]int64{}
	var engine, name, status string
	if err := db.QueryRowContext(ctx, "SHOW ENGINE INNODB STATUS").Scan(&engine, &name, &status); err != nil {
		return nil, fmt.Errorf("SHOW ENGINE INNODB STATUS, which needs the privilege PROCESS: %w", err)
	}
	for _, id := range lockWaits(status) {
		if slices.Contains(ids, id) {
			waiting[id] = nil
		}
	}
	rows, err := db.QueryContext(ctx, `SELECT id FROM information_schema.processlist WHERE id IN (`+list(ids)+`)
		AND (state = 'User lock' OR state LIKE 'Waiting for%lock')`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		waiting[id] = nil
	}
	return waiting, rows.Err()
}

var thread = regexp.MustCompile(`^(?:MariaDB|MySQL) thread id (\d+),`)

// lockWaits returns the connections whose transactions wait. Each transaction has a line that says LOCK WAIT if it does,
// then one with its connection, then its statement, which can be any text and is not read.
func lockWaits(status string) (ids []int64) {
	_, transactions, _ := strings.Cut(status, "\nLIST OF TRANSACTIONS FOR EACH SESSION:\n")
	waits, named := false, true
	for line := range strings.Lines(transactions) {
		switch {
		case strings.HasPrefix(line, "---TRANSACTION "):
			waits, named = false, false
		case named:
		case strings.HasPrefix(line, "LOCK WAIT "):
			waits = true
		default:
			found := thread.FindStringSubmatch(line)
			if found == nil {
				continue
			}
			named = true
			if id, err := strconv.ParseInt(found[1], 10, 64); err == nil && waits {
				ids = append(ids, id)
			}
		}
	}
	return ids
}
