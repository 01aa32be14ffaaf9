package atomic_test

import (
	"database/sql"
	"database/sql/driver"
	"math"
	"reflect"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/atomic"
	"github.com/raceproof/raceproof/internal/dialect"
	"github.com/raceproof/raceproof/internal/mapping"
)

// scaled is an integer that is read as another than the database has.
type scaled int64

func (s *scaled) Scan(v any) error { *s = scaled(v.(int64) * 100); return nil }

type tally struct {
	ID     int64            `db:"id"`
	A      int64            `db:"a"`
	B      int64            `db:"b"`
	Small  int16            `db:"small"`
	Tiny   uint8            `db:"tiny"`
	Big    uint64           `db:"big"`
	Maybe  sql.Null[int64]  `db:"maybe"`
	Maybe2 sql.NullInt32    `db:"maybe_small"`
	Doubt  int64            `db:"doubt"` // not exact
	Ptr    *int64           `db:"ptr"`
	Scaled scaled           `db:"scaled"`
	Cents  cents            `db:"cents"`
	Ratio  float64          `db:"ratio"`
	Name   string           `db:"name"`
	Alias  sql.NullString   `db:"alias"`
	Done   bool             `db:"done"`
	Real   sql.NullFloat64  `db:"real_or_not"`
	Time   sql.NullTime     `db:"at"`
	Odd    sql.Null[cents]  `db:"odd"`
	Bytes  []byte           `db:"bytes"`
	Odder  sql.Null[scaled] `db:"odder"`
	Rev    int64            `db:"rev,version"`
}

var counted = tally{ID: 1, A: 7, B: -2, Small: 30000, Tiny: 250, Big: math.MaxInt64, Maybe2: sql.NullInt32{Int32: 5, Valid: true},
	Doubt: 1, Ptr: ptr(int64(3)), Name: "x", Real: sql.NullFloat64{Float64: 1.5, Valid: true}, Rev: 9}

var tallies = func() *mapping.Mapping {
	m, err := mapping.New(reflect.TypeFor[tally](), "tallies", mapping.Options{})
	if err != nil {
		panic(err)
	}
	return m
}()

func exact(column int) bool { return tallies.Columns[column].Name != "doubt" }

// outcome is what becomes of a change on SQLite, MariaDB and PostgreSQL: a applied, r refused, - only the database can tell.
type outcome string

func evaluated(t *testing.T, database int, change atomic.Change, row *tally) byte {
	t.Helper()
	d, err := dialect.ByName([]string{"sqlite", "mysql", "postgres"}[database])
	require.NoError(t, err)
	switch applied, refused := change.Evaluate(tallies, d, reflect.ValueOf(row).Elem(), exact); {
	case applied && refused:
		t.Fatal("both applied and refused")
	case applied:
		return 'a'
	case refused:
		return 'r'
	}
	return '-'
}

type evaluation struct {
	change atomic.Change
	want   outcome
	makes  func(*tally)
}

func check(t *testing.T, cases map[string]evaluation) {
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got []byte
			for i := range 3 {
				row, want := counted, counted
				b := evaluated(t, i, c.change, &row)
				got = append(got, b)
				if b == 'a' && c.makes != nil {
					c.makes(&want)
				}
				assert.Equal(t, want, row, i)
			}
			assert.Equal(t, c.want, outcome(got), "on SQLite, MariaDB and PostgreSQL")
		})
	}
}

const most, least = int64(math.MaxInt64), int64(math.MinInt64)

func TestEvaluateArithmetic(t *testing.T) {
	small, tiny, big, maybe2 := atomic.F("small"), atomic.F("tiny"), atomic.F("big"), atomic.F("maybe_small")
	setA := func(n int64) func(*tally) { return func(x *tally) { x.A = n } }
	check(t, map[string]evaluation{
		"a literal":                       {atomic.Set("a", 3), "aaa", setA(3)},
		"another column":                  {atomic.Set("a", b), "aaa", setA(-2)},
		"a sum":                           {atomic.Set("a", a.Add(10)), "aaa", setA(17)},
		"a difference":                    {atomic.Set("a", a.Sub(2)), "aaa", setA(5)},
		"a product":                       {atomic.Set("a", a.Mul(6)), "aaa", setA(42)},
		"a quotient":                      {atomic.Set("a", a.Div(2)), "aaa", setA(3)},
		"a negative quotient":             {atomic.Set("a", atomic.Value(-7).Div(2)), "aaa", setA(-3)},
		"a remainder":                     {atomic.Set("a", a.Mod(4)), "aaa", setA(3)},
		"a negative remainder":            {atomic.Set("a", atomic.Value(-7).Mod(4)), "aaa", setA(-3)},
		"of a negative column":            {atomic.Set("a", b.Sub(5)), "aaa", setA(-7)},
		"a default":                       {atomic.Set("a", maybe.Coalesce(4)), "aaa", setA(4)},
		"no default":                      {atomic.Set("a", maybe2.Coalesce(4)), "aaa", setA(5)},
		"every value from the row before": {atomic.Set("a", a.Add(1)).Set("b", a), "aaa", func(x *tally) { x.A, x.B = 8, 7 }},
		"a swap":                          {atomic.Set("a", b).Set("b", a), "a-a", func(x *tally) { x.A, x.B = -2, 7 }},
		"the key is read":                 {atomic.Set("a", atomic.F("id").Add(atomic.F("REV"))), "aaa", setA(10)},

		"the greatest":           {atomic.Set("a", a.Add(most-7)), "aaa", setA(most)},
		"more than that":         {atomic.Set("a", a.Add(most-6)), "---", nil},
		"less than the least":    {atomic.Set("a", b.Sub(most)), "---", nil},
		"the least":              {atomic.Set("a", b.Add(least+2)), "aaa", setA(least)},
		"an overflow comes back": {atomic.Set("a", a.Add(most).Sub(most)), "---", nil},
		"of a product":           {atomic.Set("a", a.Mul(most/2)), "---", nil},
		"the least by minus one": {atomic.Set("a", atomic.Value(least).Div(-1)), "---", nil},
		"times minus one":        {atomic.Set("a", atomic.Value(least).Mul(-1)), "---", nil},
		"minus one times it":     {atomic.Set("a", atomic.Value(-1).Mul(least)), "---", nil},
		"modulo minus one":       {atomic.Set("a", atomic.Value(least).Mod(-1)), "aaa", setA(0)},
		"negated":                {atomic.Set("a", atomic.Value(least).Neg()), "---", nil},
		"a division by zero":     {atomic.Set("a", a.Div(b.Add(2))), "---", nil},
		"a remainder by zero":    {atomic.Set("a", a.Mod(b.Add(2))), "---", nil},
		"NULL by zero":           {atomic.Set("maybe", maybe.Div(b.Add(2))), "---", nil},
		"a factor of zero":       {atomic.Set("a", a.Mul(0)), "aaa", setA(0)},
		"a factor that is zero":  {atomic.Set("a", atomic.Value(0).Mul(a)), "aaa", setA(0)},

		// A column that is not negative can be unsigned on MariaDB.
		"below zero":              {atomic.Set("a", a.Sub(8)), "a-a", setA(-1)},
		"negated, a column":       {atomic.Set("a", a.Neg()), "a-a", setA(-7)},
		"below zero with another": {atomic.Set("a", b.Mul(a)), "a-a", setA(-14)},
		"beside a default":        {atomic.Set("a", maybe.Coalesce(a).Sub(8)), "a-a", setA(-1)},
		"two negatives":           {atomic.Set("a", b.Mul(b).Mul(-1)), "aaa", setA(-4)},

		// A smallint and another overflow as a smallint on PostgreSQL.
		"two of a width":               {atomic.Set("a", small.Add(small)), "aa-", setA(60000)},
		"one of them wider":            {atomic.Set("a", small.Add(small.Mul(1))), "aaa", setA(60000)},
		"within the width":             {atomic.Set("a", small.Add(a)), "aaa", setA(30007)},
		"a quotient is of 64 bits":     {atomic.Set("a", small.Div(a).Mul(small)), "aaa", setA(4285 * 30000)},
		"a remainder is not":           {atomic.Set("a", small.Mod(small.Sub(1)).Add(small).Mul(small)), "aaa", setA(30001 * 30000)},
		"a remainder of two":           {atomic.Set("a", small.Mod(a).Add(small).Mul(small)), "aa-", setA(30005 * 30000)},
		"the width of what is in it":   {atomic.Set("a", big.Mod(small).Add(small).Mul(small)), "aaa", setA((most%30000 + 30000) * 30000)},
		"one that would not be enough": {atomic.Set("a", small.Coalesce(a).Mul(small)), "aa-", setA(30000 * 30000)},
		"a wide default":               {atomic.Set("a", small.Coalesce(1).Mul(small)), "aaa", setA(30000 * 30000)},

		"the greatest of a small field":  {atomic.Set("small", 32767), "aaa", func(x *tally) { x.Small = 32767 }},
		"too much for a small field":     {atomic.Set("small", small.Add(2768)), "---", nil},
		"too much for a tiny field":      {atomic.Set("tiny", tiny.Add(6)), "---", nil},
		"the greatest of a tiny field":   {atomic.Set("tiny", tiny.Add(5)), "aaa", func(x *tally) { x.Tiny = 255 }},
		"below zero of one without sign": {atomic.Set("tiny", -1), "---", nil},
		"below zero of a large one":      {atomic.Set("big", -1), "---", nil},
		"a large one without sign":       {atomic.Set("big", big.Sub(1)), "aaa", func(x *tally) { x.Big = math.MaxInt64 - 1 }},
		"too much for one that is NULL":  {atomic.Set("maybe_small", int64(math.MaxInt32)+1), "---", nil},

		"NULL":                     {atomic.Set("maybe_small", nil), "aaa", func(x *tally) { x.Maybe2 = sql.NullInt32{} }},
		"NULL and a number":        {atomic.Set("maybe_small", maybe.Add(1)), "aaa", func(x *tally) { x.Maybe2 = sql.NullInt32{} }},
		"a default that is NULL":   {atomic.Set("maybe_small", maybe.Coalesce(maybe)), "aaa", func(x *tally) { x.Maybe2 = sql.NullInt32{} }},
		"NULL no more":             {atomic.Set("maybe", 6), "aaa", func(x *tally) { x.Maybe = sql.Null[int64]{V: 6, Valid: true} }},
		"NULL that cannot be held": {atomic.Set("a", maybe.Add(1)), "---", nil},
	})
}

func TestEvaluateTypes(t *testing.T) {
	name, alias := atomic.F("name"), atomic.F("alias")
	holds := atomic.Value(1).Eq(1)
	check(t, map[string]evaluation{
		"a text":                   {atomic.Set("name", "y"), "aaa", func(x *tally) { x.Name = "y" }},
		"a text that can be NULL":  {atomic.Set("alias", "y"), "aaa", func(x *tally) { x.Alias = sql.NullString{String: "y", Valid: true} }},
		"a bool":                   {atomic.Set("done", true), "aaa", func(x *tally) { x.Done = true }},
		"a fraction that is NULL":  {atomic.Set("real_or_not", nil), "aaa", func(x *tally) { x.Real = sql.NullFloat64{} }},
		"a text that is NULL":      {atomic.Set("alias", nil), "a-a", nil},
		"a time that is NULL":      {atomic.Set("at", nil), "---", nil},
		"a value of their own":     {atomic.Set("name", odd("y")), "---", nil},
		"a number of their own":    {atomic.Set("a", cents(5)), "---", nil},
		"one of database/sql":      {atomic.Set("a", sql.NullInt64{Int64: 5, Valid: true}), "aaa", func(x *tally) { x.A = 5 }},
		"a column that is not":     {atomic.Set("doubt", 1), "---", nil},
		"a value of such a column": {atomic.Set("a", atomic.F("doubt")), "---", nil},
		"a pointer":                {atomic.Set("ptr", 1), "---", nil},
		"what is pointed to":       {atomic.Set("a", atomic.F("ptr").Coalesce(1)), "---", nil},
		"a type's own reading":     {atomic.Set("scaled", 1), "---", nil},
		"read by a type":           {atomic.Set("a", atomic.F("scaled")), "---", nil},
		"in sql.Null":              {atomic.Set("odder", 1), "---", nil},
		"a type's own conversion":  {atomic.Set("cents", 1), "---", nil},
		"a text for such a type":   {atomic.Set("cents", "1"), "---", nil},
		"a bool for such a type":   {atomic.Set("cents", true), "---", nil},
		"in sql.Null, NULL":        {atomic.Set("odd", nil), "---", nil},
		"bytes":                    {atomic.Set("bytes", []byte("x")), "---", nil},
		"a fraction":               {atomic.Set("ratio", 1.5), "---", nil},
		"a fraction of integers":   {atomic.Set("ratio", a), "---", nil},
		"an integer of fractions":  {atomic.Set("ratio", atomic.F("ratio").Add(1)), "---", nil},
		"an integer as a fraction": {atomic.Set("ratio", 1), "---", nil},
		"a default for a text":     {atomic.Set("name", alias.Coalesce("y")), "---", nil},
		"a text of another column": {atomic.Set("name", alias), "---", nil},
		"not even one of two":      {atomic.Set("a", 1).Set("ratio", 1.5), "---", nil},
		"what is not allowed":      {atomic.Set("a", "x"), "---", nil},
		"nor in a condition":       {atomic.Set("a", 1).If(a.Eq(nil)), "---", nil},

		"texts are compared":      {atomic.Set("a", 1).If(name.Eq("x")), "---", nil},
		"bools are compared":      {atomic.Set("a", 1).If(atomic.F("done").Eq(false)), "---", nil},
		"fractions are compared":  {atomic.Set("a", 1).If(a.Lt(1.5)), "---", nil},
		"a text is NULL":          {atomic.Set("a", 1).If(alias.IsNull()), "a-a", func(x *tally) { x.A = 1 }},
		"a text cannot be":        {atomic.Set("a", 1).If(name.IsNull()), "r-r", nil},
		"a bool cannot be":        {atomic.Set("a", 1).If(atomic.F("done").IsNotNull()), "aaa", func(x *tally) { x.A = 1 }},
		"a fraction is not NULL":  {atomic.Set("a", 1).If(atomic.F("real_or_not").IsNull()), "rrr", nil},
		"a time is NULL":          {atomic.Set("a", 1).If(atomic.F("at").IsNull()), "---", nil},
		"bytes are NULL":          {atomic.Set("a", 1).If(atomic.F("bytes").IsNull()), "---", nil},
		"a pointer is NULL":       {atomic.Set("a", 1).If(atomic.F("ptr").IsNull()), "---", nil},
		"a type's own can be":     {atomic.Set("a", 1).If(atomic.F("odd").IsNull()), "---", nil},
		"a doubtful one is":       {atomic.Set("a", 1).If(atomic.F("doubt").IsNull()), "---", nil},
		"two texts, and a fine 1": {atomic.Set("a", 1).If(holds.Or(name.Eq("x"))), "---", nil},
	})
}

// odd has a conversion of its own.
type odd string

func (o odd) Value() (driver.Value, error) { return string(o), nil }
