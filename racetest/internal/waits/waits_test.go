package waits

import (
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mattn/go-sqlite3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestBusy is of errors that SQLite really has.
func TestBusy(t *testing.T) {
	ctx := t.Context()
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(t.TempDir(), "test.db")+"?_journal_mode=WAL&_busy_timeout=0")
	require.NoError(t, err)
	defer func() { assert.NoError(t, db.Close()) }()
	_, err = db.ExecContext(ctx, "CREATE TABLE t (v UNIQUE); INSERT INTO t VALUES (1)")
	require.NoError(t, err)
	one, err := db.Conn(ctx)
	require.NoError(t, err)
	other, err := db.Conn(ctx)
	require.NoError(t, err)
	do := func(c *sql.Conn, texts ...string) (err error) {
		for _, text := range texts {
			_, err = c.ExecContext(ctx, text)
		}
		return err
	}
	require.NoError(t, do(one, "BEGIN IMMEDIATE"))
	busy := do(other, "UPDATE t SET v = 2")
	require.NoError(t, do(one, "ROLLBACK"))
	var count int
	require.NoError(t, do(one, "BEGIN"))
	require.NoError(t, one.QueryRowContext(ctx, "SELECT count(*) FROM t").Scan(&count))
	require.NoError(t, do(other, "UPDATE t SET v = 2"))
	stale := do(one, "UPDATE t SET v = 3")
	require.NoError(t, do(one, "ROLLBACK"))
	unique := do(one, "INSERT INTO t VALUES (2)")
	syntax := do(one, "SELEC")
	require.NoError(t, errors.Join(one.Close(), other.Close()))

	var e sqlite3.Error
	require.ErrorAs(t, busy, &e)
	for _, c := range []struct {
		err         error
		busy, stale bool
	}{
		{nil, false, false}, {busy, true, false}, {stale, true, true}, {unique, false, false}, {syntax, false, false},
		{errors.New("database is locked"), false, false}, {sql.ErrNoRows, false, false},
		{fmt.Errorf("wrapped: %w", busy), true, false}, {fmt.Errorf("wrapped: %w", stale), true, true},
		{errors.Join(unique, busy), true, false}, {fmt.Errorf("%w, %w", syntax, fmt.Errorf("in: %w", stale)), true, true},
		{errors.Join(unique, syntax), false, false}, {&e, true, false}, {(*sqlite3.Error)(nil), false, false},
		{fmt.Errorf("not wrapped: %v", busy), false, false},
		{sqlite3.Error{Code: sqlite3.ErrLocked}, false, false}, // of a shared cache: a deadlock with oneself
		{&named{Number: 1213}, false, false},
	} {
		is, old := Busy(c.err)
		assert.Equal(t, [2]bool{c.busy, c.stale}, [2]bool{is, old}, "%v", c.err)
		assert.False(t, Deadlock(c.err), "%v", c.err)
	}
	assert.True(t, Deadlock(fmt.Errorf("wrapped: %w", state("40P01"))))
	assert.False(t, Deadlock(state("40001")))
}

// named has a number, and is nobody's that is known.
type named struct{ Number uint16 }

func (*named) Error() string { return "Error 1213: Deadlock" }

// state is an error as PostgreSQL's drivers have it.
type state string

func (s state) Error() string    { return string(s) }
func (s state) SQLState() string { return string(s) }

// TestOf asks a real database what it is.
func TestOf(t *testing.T) {
	db, err := sql.Open("sqlite3", "file:"+filepath.Join(t.TempDir(), "test.db"))
	require.NoError(t, err)
	d, err := Of(t.Context(), db)
	require.NoError(t, err)
	assert.Equal(t, &Database{Name: "SQLite", Immediate: true}, d)
	waiting, err := d.Ask(t.Context(), db, []int64{1})
	assert.NoError(t, err)
	assert.Empty(t, waiting)
	d.End(t.Context(), db, 0)
	require.NoError(t, db.Close())
	_, err = Of(t.Context(), db)
	assert.ErrorContains(t, err, "database is closed")
}

// status is of MariaDB 10.11: 61096 waits for 61095, and both it and 61097 have sent texts that look like the list.
const status = `
TRANSACTIONS
------------
Trx id counter 228443
LOCK WAIT 2 lock struct(s), heap size 1128, 1 row lock(s)
MariaDB thread id 9, OS thread handle 1, query id 1 127.0.0.1 root Updating
LIST OF TRANSACTIONS FOR EACH SESSION:
---TRANSACTION 228442, ACTIVE 2 sec
2 lock struct(s), heap size 1128, 1 row lock(s)
MariaDB thread id 61097, OS thread handle 139975267370688, query id 1627462 127.0.0.1 root User sleep
SELECT /* 
LOCK WAIT 9 lock struct(s)
MariaDB thread id 11, x */ v, SLEEP(5) FROM t WHERE id = 2 FOR UPDATE
---TRANSACTION 228441, ACTIVE 2 sec starting index read
mysql tables in use 1, locked 1
LOCK WAIT 2 lock struct(s), heap size 1128, 1 row lock(s)
MariaDB thread id 61096, OS thread handle 131179080574656, query id 1627458 127.0.0.1 root Updating
UPDATE t SET v='a
LOCK WAIT 2 lock struct(s)
MariaDB thread id 9, OS thread handle 1, query id 1 localhost root
' WHERE id=1
------- TRX HAS BEEN WAITING 1502975 us FOR THIS LOCK TO BE GRANTED:
RECORD LOCKS space id 634 page no 3 n bits 320 index PRIMARY of table ` + "`w`.`t`" + ` trx id 228441 lock_mode X locks rec but not gap waiting
Record lock, heap no 4 PHYSICAL RECORD: n_fields 4; compact format; info bits 0
 0: len 4; hex 80000001; asc     ;;

------------------
---TRANSACTION 228440, ACTIVE 3 sec
2 lock struct(s), heap size 1128, 1 row lock(s), undo log entries 1
MariaDB thread id 61095, OS thread handle 139975190374080, query id 1627454 127.0.0.1 root User sleep
SELECT SLEEP(6)
--------
FILE I/O
--------
LOCK WAIT 3 lock struct(s)
MariaDB thread id 12, OS thread handle 1
`

// TestLockWaits wants those who wait found, and nothing in their statements taken for it.
func TestLockWaits(t *testing.T) {
	assert.Equal(t, []int64{61096}, lockWaits(status))
	assert.Equal(t, []int64{61096}, lockWaits(strings.ReplaceAll(status, "MariaDB thread", "MySQL thread")))
	assert.Empty(t, lockWaits(strings.ReplaceAll(status, "LOCK WAIT 2 lock struct(s), heap", "2 lock struct(s), heap")))
	assert.Empty(t, lockWaits(""))
	assert.Empty(t, lockWaits("\nLIST OF TRANSACTIONS FOR EACH SESSION:\n"))
	assert.Empty(t, lockWaits("\nLIST OF TRANSACTIONS FOR EACH SESSION:\n---TRANSACTION 1, ACTIVE 0 sec\nLOCK WAIT 1 lock"))
}
