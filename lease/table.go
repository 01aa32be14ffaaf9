package lease

import (
	"context"
	"errors"
	"fmt"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/internal/dialect"
)

// statements make the tables. They are two, so that a transaction that holds a fence does not hold up renewals.
//
// raceproof_lease has who holds a place: holder is a random number for each acquisition, NULL if the place is free, shown
// is for people, ttl in microseconds, renewals counts how often expires was set, by the database's clock.
//
// raceproof_fence has the place's last token and whose it is, and at place 0 the last of the name; uses only makes every
// UPDATE a change. The holder is there because a database that has lost commits gives a token twice.
func statements(d *dialect.Dialect) []string {
	lease := d.NewSQL().Add("CREATE TABLE IF NOT EXISTS raceproof_lease (\n\tname ").Add(d.Keys).Add(" NOT NULL,\n\tplace BIGINT NOT NULL,\n\tholder ").
		Add(d.Keys).Add(",\n\tshown ").Add(d.Keys).Add(" NOT NULL,\n\tttl BIGINT NOT NULL,\n\trenewals BIGINT NOT NULL,\n\texpires ").
		Add(d.Instant).Add(" NULL,\n\tPRIMARY KEY (name, place)\n)").Add(d.Engine)
	fence := d.NewSQL().Add("CREATE TABLE IF NOT EXISTS raceproof_fence (\n\tname ").Add(d.Keys).
		Add(" NOT NULL,\n\tplace BIGINT NOT NULL,\n\ttoken BIGINT NOT NULL,\n\tholder ").Add(d.Keys).
		Add(",\n\tuses BIGINT NOT NULL,\n\tPRIMARY KEY (name, place)\n)").Add(d.Engine)
	return []string{lease.Statement().Text, fence.Statement().Text}
}

// Schema returns the SQL that makes the tables "raceproof_lease" and "raceproof_fence", for those who manage migrations:
// two statements, each ended by a semicolon, that do nothing if they are there. The dialect is "sqlite", "postgres" or
// "mysql", which is MariaDB's too; any other is an error. The tables are looked for where names without a schema are.
//
// For each name that was ever acquired a row or two stay in the tables. Do not delete them: tokens rise because they are
// remembered.
func Schema(dialectName string) (string, error) {
	schema, err := dialect.Schema(dialectName, statements)
	if err != nil {
		return "", fmt.Errorf("lease: %w", err)
	}
	return schema, nil
}

// CreateTable makes the tables "raceproof_lease" and "raceproof_fence" if they are not there. It can be called by many
// processes at once. Inside a transaction of db it is an error, because MariaDB and MySQL commit before they make a table.
// If it fails, or its context ends, one or both of the tables can be there: call it again.
func CreateTable(ctx context.Context, db *raceproof.DB) error {
	if db == nil {
		return errors.New("lease: CreateTable: the DB is nil")
	}
	if err := db.Pool().Create(ctx, statements(db.Pool().Dialect())); err != nil {
		return fmt.Errorf("lease: CreateTable: %w", err)
	}
	return nil
}
