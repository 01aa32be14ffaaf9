package once

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/session"
)

// statements make the table: id is the key, fingerprint the SHA-256 of the payload or empty, result the JSON of the
// result, NULL while the work is being done, and created the time of the insertion by the database's clock.
func statements(d *dialect.Dialect) []string {
	table := d.NewSQL().Add("CREATE TABLE IF NOT EXISTS raceproof_once (\n\tid ").Add(d.Keys).
		Add(" NOT NULL PRIMARY KEY,\n\tfingerprint ").Add(d.Keys).Add(" NOT NULL,\n\tresult ").Add(d.Bytes).
		Add(",\n\tcreated ").Add(d.Instant).Add(" NOT NULL")
	if !d.IndexIfNotExists {
		return []string{table.Add(",\n\tINDEX raceproof_once_created (created)\n)").Add(d.Engine).Statement().Text}
	}
	return []string{
		table.Add("\n)").Add(d.Engine).Statement().Text,
		"CREATE INDEX IF NOT EXISTS raceproof_once_created ON raceproof_once (created)",
	}
}

// Schema returns the SQL that makes the table "raceproof_once", for those who manage migrations: one or two statements,
// each ended by a semicolon, that do nothing if it is there. The dialect is "sqlite", "postgres" or "mysql", which is
// MariaDB's too; any other is an error. The table is looked for where names without a schema are.
func Schema(dialectName string) (string, error) {
	schema, err := dialect.Schema(dialectName, statements)
	if err != nil {
		return "", fmt.Errorf("once: %w", err)
	}
	return schema, nil
}

// CreateTable makes the table "raceproof_once" if it is not there. It can be called by many processes at once. Inside a
// transaction of db it is an error, because MariaDB and MySQL commit before they make a table.
func CreateTable(ctx context.Context, db *raceproof.DB) error {
	if db == nil {
		return errors.New("once: CreateTable: the DB is nil")
	}
	if err := db.Pool().Create(ctx, statements(db.Pool().Dialect())); err != nil {
		return fmt.Errorf("once: CreateTable: %w", err)
	}
	return nil
}

// expireAtOnce is how many keys are deleted in one transaction: not many, because others can have to wait for its end.
const expireAtOnce = 500

// Expire deletes the keys, and their results, that were inserted more than age ago by the database's clock, and returns how
// many. A call with such a key does its work again, so age must be longer than anybody tries again: a day is usual. A key
// whose work is still being done is never deleted; one whose work took longer than age can be right after its COMMIT.
// Nothing else deletes keys: call it now and then, from as many processes as you like.
//
// Outside of a transaction the keys are deleted 500 at a time, each time in a transaction of its own. If it returns an error
// some of them can be deleted, and n tells how many are known to be.
func Expire(ctx context.Context, db *raceproof.DB, age time.Duration) (n int64, err error) {
	switch {
	case db == nil:
		return 0, errors.New("once: Expire: the DB is nil")
	case age <= 0:
		return 0, fmt.Errorf("once: Expire: the age is %v: it must be positive", age)
	}
	var opts []raceproof.TransactOption
	if level := db.Pool().Dialect().Upkeep; !db.Pool().InTransaction(ctx) {
		opts = append(opts, raceproof.Isolation(level))
	}
	for {
		var found, deleted int64
		err := db.Transact(ctx, func(ctx context.Context) (err error) {
			found, deleted, err = expireSome(ctx, db.Pool().Current(ctx), age)
			return err
		}, opts...)
		if err != nil {
			return n, fmt.Errorf("once: Expire: %w", err)
		}
		// In a transaction that still sees what others have deleted since, there can be many to find and none to delete.
		if n += deleted; found < expireAtOnce || deleted == 0 {
			return n, nil
		}
	}
}

// expireSome looks for old keys without locking them, and then deletes those: a statement that does both can, on MariaDB,
// wait for keys that are not old, and hold up others meanwhile.
func expireSome(ctx context.Context, tx *session.Tx, age time.Duration) (found, deleted int64, err error) {
	d := tx.Dialect()
	old := func(s *dialect.SQL) *dialect.SQL {
		return s.Add("created < ").Add(d.Ago[0]).Integer(age.Microseconds()).Add(d.Ago[1])
	}
	var key []byte
	deletion := d.NewSQL().Add(d.DeleteByKey[0]).Name("raceproof_once").Add(d.DeleteByKey[1]).Add(" WHERE id IN (")
	selection := old(d.NewSQL().Add("SELECT id FROM raceproof_once WHERE ")).Add(" ORDER BY created LIMIT ").Integer(int64(expireAtOnce)).Statement()
	selection.Read = true
	err = tx.Rows(ctx, selection, func() {
		if found++; found > 1 {
			deletion.Add(", ")
		}
		deletion.Value(bytes.Clone(key))
	}, &key)
	if err != nil || found == 0 {
		return found, 0, err
	}
	statement := old(deletion.Add(") AND ")).Statement()
	statement.Locks = true
	deleted, err = tx.Change(ctx, statement)
	return found, deleted, err
}
