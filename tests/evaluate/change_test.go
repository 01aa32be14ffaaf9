package evaluate

import (
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/tests/databases"
)

// numbers is a row. It has columns that are smaller than their fields, and such that are unsigned on MariaDB alone.
type numbers struct {
	ID     int64           `db:"id"`
	Big    int64           `db:"big"`
	Num    int32           `db:"num"`
	Small  int16           `db:"small"`
	Wide   int64           `db:"wide"` // in the table a SMALLINT
	Other  int64           `db:"other"`
	Maybe  sql.Null[int64] `db:"maybe"`
	Little sql.NullInt32   `db:"little"`
	U      uint32          `db:"u"`    // there an INT UNSIGNED
	UBig   uint64          `db:"ubig"` // a BIGINT UNSIGNED
	Loose  int64           `db:"loose"`
	ULoose int64           `db:"uloose"` // an INT UNSIGNED
	Ratio  float64         `db:"ratio"`
	Flag   bool            `db:"flag"`
	Name   string          `db:"name"`
	Alias  sql.NullString  `db:"alias"`
}

// counted has a version too.
type counted struct {
	numbers
	Version int64 `db:"version"`
}

const insert = `INSERT INTO numbers VALUES (:id, :big, :num, :small, :wide, :other, :maybe, :little, :u, :ubig, :loose, :uloose,
	:ratio, :flag, :name, :alias)`

func schema(d databases.Database) []string {
	uint, ubig := "BIGINT", "BIGINT"
	if d.Dialect == "mariadb" {
		uint, ubig = "INT UNSIGNED", "BIGINT UNSIGNED"
	}
	// What a server stores can be read: after an error of the driver's the connection is asked whether it still answers, and
	// not for long.
	columns := fmt.Sprintf(`id BIGINT PRIMARY KEY, big BIGINT NOT NULL, num INTEGER NOT NULL, small SMALLINT NOT NULL, wide SMALLINT NOT NULL,
		other SMALLINT NOT NULL, maybe BIGINT, little INTEGER, u %[1]s NOT NULL CHECK (u BETWEEN 0 AND 4294967295),
		ubig %[2]s NOT NULL CHECK (ubig >= 0), loose %[2]s NOT NULL, uloose %[1]s NOT NULL, ratio DOUBLE PRECISION NOT NULL,
		flag BOOLEAN NOT NULL, name VARCHAR(8) NOT NULL, alias VARCHAR(8)`, uint, ubig)
	return []string{
		`CREATE TABLE numbers (` + columns + `)`,
		`CREATE TABLE counted (` + columns + `, version BIGINT NOT NULL)`,
	}
}

// fit tells whether the columns can hold what the fields do.
func (n *numbers) fit(d databases.Database) bool {
	for _, small := range []int64{n.Wide, n.Other} {
		if d.Dialect != "sqlite" && small != int64(int16(small)) {
			return false
		}
	}
	if d.Dialect == "mariadb" && (n.Loose < 0 || n.ULoose < 0 || n.ULoose > math.MaxUint32) {
		return false
	}
	return d.Dialect == "sqlite" || len(n.Name) <= 8 && len(n.Alias.String) <= 8
}

var limits = []int64{math.MinInt64, math.MinInt32, math.MinInt16, 0, math.MaxInt16, math.MaxUint16, math.MaxInt32, math.MaxUint32, math.MaxInt64}

// around is an integer that is small, or near a limit, from least to most.
func around(r *rand.Rand, least, most int64) int64 {
	for {
		n := r.Int64N(24) - 8
		if r.IntN(3) == 0 {
			n = pick(r, limits...) + r.Int64N(5) - 2 // which can come round, and is near the other limit then
		}
		if least <= n && n <= most {
			return n
		}
	}
}

func randomRow(r *rand.Rand, d databases.Database, id int64) numbers {
	n := numbers{
		ID:     id,
		Big:    around(r, math.MinInt64, math.MaxInt64),
		Num:    int32(around(r, math.MinInt32, math.MaxInt32)),
		Small:  int16(around(r, math.MinInt16, math.MaxInt16)),
		Wide:   around(r, math.MinInt16, math.MaxInt16),
		Other:  around(r, math.MinInt16, math.MaxInt16),
		Maybe:  sql.Null[int64]{V: around(r, math.MinInt64, math.MaxInt64), Valid: true},
		Little: sql.NullInt32{Int32: int32(around(r, math.MinInt32, math.MaxInt32)), Valid: true},
		U:      uint32(around(r, 0, math.MaxUint32)),
		UBig:   uint64(around(r, 0, math.MaxInt64)),
		Loose:  around(r, 0, math.MaxInt64),
		ULoose: around(r, 0, math.MaxUint32),
		Ratio:  0.5,
		Name:   "x",
	}
	if r.IntN(2) == 0 {
		n.Maybe = sql.Null[int64]{}
	}
	if r.IntN(2) == 0 {
		n.Little = sql.NullInt32{}
	}
	if r.IntN(4) == 0 && d.Dialect == "mariadb" {
		n.UBig += math.MaxInt64 // NamedExec cannot say it everywhere
	}
	return n
}

var columns = []string{"big", "num", "small", "wide", "other", "maybe", "little", "u", "ubig", "loose", "uloose"}

func pick[V any](r *rand.Rand, of ...V) V { return of[r.IntN(len(of))] }

// literal is mostly small, so that most of what is computed is an integer.
func literal(r *rand.Rand) any {
	switch r.IntN(60) {
	case 0:
		return 1.5
	case 1:
		return int8(-1)
	}
	if r.IntN(4) > 0 {
		return r.Int64N(14) - 3
	}
	return around(r, math.MinInt64, math.MaxInt64)
}

func leaf(r *rand.Rand) atomic.Expr {
	switch r.IntN(12) {
	case 0, 1:
		return atomic.Value(literal(r))
	case 2:
		return atomic.F(pick(r, "id", "ratio", "ID"))
	}
	return atomic.F(pick(r, columns...))
}

func operand(r *rand.Rand, depth int) any {
	if r.IntN(3) > 0 {
		return literal(r)
	}
	return expression(r, depth)
}

func expression(r *rand.Rand, depth int) atomic.Expr {
	if depth == 0 || r.IntN(3) == 0 {
		return leaf(r)
	}
	e := expression(r, depth-1)
	if r.IntN(3) == 0 {
		e = e.Coalesce(r.Int64N(20) - 5)
	}
	switch other := operand(r, depth-1); r.IntN(10) {
	case 0, 1, 2:
		return e.Add(other)
	case 3, 4:
		return e.Sub(other)
	case 5:
		return e.Mul(other)
	case 6:
		return e.Div(other)
	case 7:
		return e.Mod(other)
	case 8:
		return e.Neg()
	default:
		return e.Coalesce(other)
	}
}

func condition(r *rand.Rand, depth int) atomic.Condition {
	if depth > 0 && r.IntN(2) == 0 {
		c := condition(r, depth-1)
		switch r.IntN(3) {
		case 0:
			return c.And(condition(r, depth-1))
		case 1:
			return c.Or(condition(r, depth-1))
		default:
			return atomic.Not(c)
		}
	}
	e, other := expression(r, 1), operand(r, 1)
	if r.IntN(2) == 0 {
		e = leaf(r)
	}
	switch r.IntN(14) {
	case 0:
		return e.IsNull()
	case 1:
		return e.IsNotNull()
	case 2:
		return atomic.F(pick(r, "name", "alias", "flag", "ratio")).IsNull()
	case 3:
		return pick(r, atomic.F("name").Eq("X"), atomic.F("flag").Eq(true))
	case 4: // what a column is equal to can stand in its place, and is too large for what is computed
		column := atomic.F(pick(r, columns...))
		return column.Eq(around(r, math.MinInt64, math.MaxInt64)).And(column.Add(4).Gt(operand(r, 0)))
	case 5:
		return e.Eq(other)
	case 6:
		return e.Ne(other)
	}
	return pick(r, e.Lt, e.Le, e.Gt, e.Ge)(other)
}

func randomChange(r *rand.Rand) (c atomic.Change) {
	if r.IntN(40) == 0 {
		c = c.Set("big", atomic.F("maybe").Coalesce(1)).Set("maybe", atomic.F("big"))
	}
	for range 1 + r.IntN(5)/3 {
		c = assign(r, c)
	}
	if r.IntN(2) == 0 {
		c = c.If(condition(r, 2))
	}
	return c
}

func assign(r *rand.Rand, c atomic.Change) atomic.Change {
	column := pick(r, columns...)
	switch r.IntN(28) {
	case 0:
		return c.Set("name", pick(r, "", "x", "Größe", strings.Repeat("long", 3)))
	case 1:
		return c.Set("alias", pick[any](r, "y", nil, "z "))
	case 2:
		return c.Set("flag", r.IntN(2) == 0)
	case 3:
		return c.Set(pick(r, "maybe", "little"), nil)
	case 4, 5:
		return c.Set(column, literal(r))
	case 6:
		return c.Set(column, around(r, math.MinInt16, math.MaxInt16))
	case 7:
		return c.Set(column, atomic.Value(around(r, math.MinInt32*2, math.MaxInt32*2)).Coalesce(atomic.F(pick(r, columns...))))
	case 8: // columns of a width are computed in that width
		narrow := func() atomic.Expr { return atomic.F(pick(r, "small", "wide", "other", "little", "num")) }
		return c.Set(pick(r, "big", "maybe", "loose"), pick(r, narrow().Add, narrow().Mul, narrow().Sub)(narrow()))
	case 9:
		return c.Set(pick(r, "small", "wide", "other"), around(r, math.MinInt16, math.MaxInt16))
	case 10:
		return c.Set("ratio", pick(r, 0.25, 1, 2.5))
	case 11, 12, 13, 14, 15, 16, 17, 18, 19, 20:
		return c.Set(column, atomic.F(column).Coalesce(0).Add(r.Int64N(20)-5))
	}
	return c.Set(column, expression(r, 2))
}
