package session

import (
	"context"
	"errors"

	"github.com/raceproof/raceproof/internal/dialect"
)

// togetherAtMost bounds how often who makes a table is in the way of another one.
const togetherAtMost = 10

// Create makes this module's own tables and indexes, by statements that do nothing if those are there. Many processes can do
// it at once. Inside a transaction it is an error, because MariaDB and MySQL commit before they make a table.
func (p *Pool) Create(ctx context.Context, statements []string) error {
	if p.InTransaction(ctx) {
		return errors.New("it cannot be part of a transaction")
	}
	for _, statement := range statements {
		var err error
		for range togetherAtMost {
			err = p.Write(ctx, true, func(q Querier) error {
				_, err := q.One(ctx, dialect.Statement{Text: statement})
				return err
			})
			// PostgreSQL can find out only when it writes its catalogue that somebody else makes a table of the name.
			if !p.dialect.Exists(err) {
				break
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}
