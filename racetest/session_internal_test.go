package racetest

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof/racetest/internal/search"
	"github.com/raceproof/raceproof/racetest/internal/statement"
	"github.com/raceproof/raceproof/racetest/internal/tap"
	"github.com/raceproof/raceproof/racetest/internal/waits"
)

// The end of a transaction is what has been done in it, whether it is a call or a text.
func TestClassOfTheEnd(t *testing.T) {
	e := &environment{database: &waits.Database{Catalog: true}}
	for _, c := range []struct {
		texts []string
		want  search.Class
	}{
		{nil, search.Local},
		{[]string{"SAVEPOINT a"}, search.Local},
		{[]string{"SELECT v FROM t"}, search.Read},
		{[]string{"UPDATE t SET v = 1", "SELECT v FROM t"}, search.Write},
		{[]string{"SELECT 1"}, search.Read}, // it decides what is seen from then on
		{[]string{"CREATE TABLE u (v INT)"}, search.Define},
	} {
		s := &session{}
		do := func(call *tap.Call) statement.Info {
			info := e.info(s, call)
			s.done(t.Context(), info, nil, true)
			return info
		}
		do(&tap.Call{Kind: tap.Begin})
		for _, text := range c.texts {
			do(&tap.Call{SQL: text})
		}
		for _, end := range []*tap.Call{{Kind: tap.Commit}, {Kind: tap.Rollback}, {SQL: "COMMIT"}, {SQL: "ROLLBACK"}} {
			assert.Equal(t, c.want, e.info(s, end).Class, "%v", c.texts)
		}
		assert.True(t, s.inTx)
		do(&tap.Call{Kind: tap.Commit})
		assert.False(t, s.inTx)
		assert.Equal(t, search.Look, e.info(s, &tap.Call{SQL: "SELECT 1"}).Class)
	}
}
