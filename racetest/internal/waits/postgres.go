package waits

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
)

// postgres asks pg_blocking_pids, which knows of locks that are held, and of places before one in the queue, and
// pg_safe_snapshot_blocking_pids, which knows for whom SERIALIZABLE READ ONLY DEFERRABLE waits (PostgreSQL 15, 9.26 "System
// Information Functions").
func postgres(ctx context.Context, db *sql.DB, ids []int64) (map[int64][]int64, error) {
	rows, err := db.QueryContext(ctx, `SELECT pid, array_to_string(pg_blocking_pids(pid) || pg_safe_snapshot_blocking_pids(pid), ' ')
		FROM unnest(ARRAY[`+list(ids)+`]::int[]) AS asked (pid)`)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	waiting := map[int64][]int64{}
	for rows.Next() {
		var id int64
		var others string
		if err := rows.Scan(&id, &others); err != nil {
			return nil, err
		}
		for _, other := range strings.Fields(others) {
			n, err := strconv.ParseInt(other, 10, 64)
			if err != nil {
				return nil, err
			}
			waiting[id] = append(waiting[id], n)
		}
	}
	return waiting, rows.Err()
}
