package raceproof_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof/internal/testdb"
)

// Functions are called in the order in which they were given, also if some are given to the level around the one that is
// open: by an object that has kept its context, for example.
func TestHooksOfSeveralLevels(t *testing.T) {
	mine := errors.New("the function's own error")
	for name, c := range map[string]struct {
		inner, outer error
		want         []string
	}{
		"committed":             {nil, nil, []string{"1 committed", "2 committed", "3 committed", "4 committed", "5 committed"}},
		"rolled back":           {nil, mine, []string{"1 rolled back", "2 rolled back", "3 rolled back", "4 rolled back", "5 rolled back"}},
		"the inner rolled back": {mine, nil, []string{"2 rolled back", "3 rolled back", "4 rolled back", "1 committed", "5 committed"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, db := testdb.SQLite(t, playersSchema, ada)
			var n notes
			give := func(ctx context.Context, text string) {
				assert.NoError(t, db.AfterCommit(ctx, n.add(text+" committed")))
				assert.NoError(t, db.AfterRollback(ctx, n.add(text+" rolled back")))
			}
			err := db.Transact(t.Context(), func(outer context.Context) error {
				err := db.Transact(outer, func(inner context.Context) error {
					if c.inner == nil {
						give(inner, "1")
					} else {
						give(outer, "1")
					}
					assert.NoError(t, db.Transact(inner, func(innermost context.Context) error {
						give(innermost, "2")
						give(inner, "3")
						give(innermost, "4")
						return nil
					}))
					give(outer, "5")
					return c.inner
				})
				assert.Equal(t, c.inner, err)
				return c.outer
			})
			assert.Equal(t, c.outer, err)
			assert.Equal(t, c.want, n.take())
		})
	}
}
