package lease

import (
	"time"

	"github.com/raceproof/raceproof/internal/dialect"
)

// texts are the statements about one name. Whatever excludes others is a write of a row, because that is what the nodes of
// a Galera cluster compare; values go through Own, because such a cluster loses updates by prepared statements.
type texts struct {
	dialect *dialect.Dialect
	name    []byte
}

// counter is the number of the row of raceproof_fence that counts a name's tokens. Places are numbered from 1.
const counter = 0

func (t texts) of(q *dialect.SQL, place int64) *dialect.SQL {
	return q.Add(" WHERE name = ").Own(t.name).Add(" AND place = ").Own(place)
}

func (t texts) update(table dialect.Fragment) *dialect.SQL {
	return t.dialect.NewSQL().Add("UPDATE ").Add(table).Add(" SET ")
}

// locks ends a statement that can have to wait for a lock.
func locks(q *dialect.SQL) dialect.Statement {
	s := q.Statement()
	s.Locks = true
	return s
}

func reads(q *dialect.SQL) dialect.Statement {
	s := q.Statement()
	s.Read = true
	return s
}

// raise raises the counter, and locks it: acquisitions of one name are made one after another.
func (t texts) raise() dialect.Statement {
	return locks(t.of(t.update("raceproof_fence").Add("token = token + 1"), counter))
}

func (t texts) count() dialect.Statement {
	return reads(t.of(t.dialect.NewSQL().Add("SELECT token FROM raceproof_fence"), counter))
}

// addFence makes a row of raceproof_fence, or leaves the one that is there.
func (t texts) addFence(place, token int64) dialect.Statement {
	return locks(t.dialect.NewSQL().Add("INSERT INTO raceproof_fence (name, place, token, uses) VALUES (").Own(t.name).
		Add(", ").Own(place).Add(", ").Own(token).Add(", 0)").Add(t.dialect.OrNothing))
}

func (t texts) addPlace(place int64) dialect.Statement {
	return locks(t.dialect.NewSQL().Add("INSERT INTO raceproof_lease (name, place, shown, ttl, renewals) VALUES (").Own(t.name).
		Add(", ").Own(place).Add(", ").Own([]byte{}).Add(", 0, 0)"))
}

// places reads all places of the name: what is left of their time is computed by the database's clock.
func (t texts) places() dialect.Statement {
	d := t.dialect
	return reads(d.NewSQL().Add("SELECT place, holder, shown, ttl, renewals, COALESCE(").Add(d.Until[0]).Add("expires").Add(d.Until[1]).
		Add(", 0) FROM raceproof_lease WHERE name = ").Own(t.name).Add(" ORDER BY place"))
}

// unfenced finds the place's row of raceproof_fence, and locks it, unless a transaction has it.
func (t texts) unfenced(place int64) dialect.Statement {
	s := locks(t.of(t.dialect.NewSQL().Add("SELECT place FROM raceproof_fence"), place).Add(t.dialect.Unlocked))
	s.Read = true
	return s
}

// retire frees a place that is still as it was read.
func (t texts) retire(p *place) dialect.Statement {
	return locks(t.of(t.update("raceproof_lease").Add("holder = NULL, expires = NULL"), p.number).
		Add(" AND holder = ").Own(p.holder).Add(" AND renewals = ").Own(p.renewals))
}

// seize is the one statement that takes a place.
func (t texts) seize(place int64, holder []byte, shown string, ttl time.Duration) dialect.Statement {
	q := t.update("raceproof_lease").Add("holder = ").Own(holder).Add(", shown = ").Own([]byte(shown)).
		Add(", ttl = ").Own(ttl.Microseconds()).Add(", ")
	return locks(t.of(t.prolong(q, ttl), place).Add(" AND (holder IS NULL OR holder = ").Own(holder).Add(")"))
}

// prolong has the place's time begin now. That is counted, so that who has seen the row can tell whether it is still the
// same, and so that the row always changes: MariaDB does not count rows that are found and do not.
func (t texts) prolong(q *dialect.SQL, ttl time.Duration) *dialect.SQL {
	d := t.dialect
	return q.Add("renewals = renewals + 1, expires = ").Add(d.Ago[0]).Own(-ttl.Microseconds()).Add(d.Ago[1])
}

func (t texts) renew(place int64, holder []byte, ttl time.Duration) dialect.Statement {
	return locks(t.of(t.prolong(t.update("raceproof_lease"), ttl), place).Add(" AND holder = ").Own(holder))
}

func (t texts) release(place int64, holder []byte) dialect.Statement {
	return locks(t.of(t.update("raceproof_lease").Add("holder = NULL, expires = NULL"), place).Add(" AND holder = ").Own(holder))
}

// setToken makes every earlier token of the place worthless. It is the holder's, or nobody's if there is none.
func (t texts) setToken(place, token int64, holder []byte) dialect.Statement {
	q := t.update("raceproof_fence").Add("token = ").Own(token).Add(", uses = uses + 1, holder = ")
	if holder == nil {
		q.Add("NULL")
	} else {
		q.Own(holder)
	}
	return locks(t.of(q, place))
}

// fence writes the place's row as it is, if the token is still its last, and the holder's.
func (t texts) fence(place, token int64, holder []byte) dialect.Statement {
	return locks(t.of(t.update("raceproof_fence").Add("uses = uses + 1"), place).Add(" AND token = ").Own(token).
		Add(" AND holder = ").Own(holder))
}
