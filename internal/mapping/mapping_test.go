package mapping_test

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/raceproof/raceproof/internal/mapping"
)

type base struct {
	ID    int64  `db:"id"`
	Score string // hidden by the outer one
}

type Inner struct {
	Note  string `db:"note"`
	Extra string `db:"extra"`
}

type document map[string]int

func (d document) Value() (driver.Value, error) {
	b := []byte{}
	for k, v := range d {
		b = append(b, k...)
		b = append(b, byte(v))
	}
	return b, nil
}
func (d *document) Scan(any) error { return nil }

type everything struct {
	base
	*Inner
	Score   int64 `db:"score"`
	Ratio   float64
	Nick    *string
	Maybe   sql.NullInt64
	Generic sql.Null[float64]
	Bytes   []byte
	When    time.Time
	Doc     document
	Skipped string `db:"-"`
	Version int64
}

func TestColumns(t *testing.T) {
	m, err := mapping.New(reflect.TypeFor[everything](), "game.players", mapping.Options{})
	require.NoError(t, err)
	assert.Equal(t, []string{"id", "note", "extra", "score", "ratio", "nick", "maybe", "generic", "bytes", "when", "doc", "version"}, m.Names())
}

func TestKinds(t *testing.T) {
	for kind, values := range map[mapping.Kind][]any{
		mapping.Integer: {0, int8(0), uint64(0), new(int64), sql.NullInt16{}, sql.Null[int]{}, sql.NullByte{}},
		mapping.Float:   {0.0, float32(0), new(float64), sql.NullFloat64{}, sql.Null[float64]{}},
		mapping.Text:    {"", new(string), sql.NullString{}},
		mapping.Bytes:   {[]byte{}, json.RawMessage{}},
		mapping.Bool:    {true, sql.NullBool{}},
		mapping.Time:    {time.Time{}, sql.NullTime{}, new(time.Time)},
		mapping.Other:   {document{}, []int{}},
	} {
		for _, v := range values {
			assert.Equal(t, kind, mapping.KindOf(reflect.TypeOf(v)), "%T", v)
		}
	}
}

type (
	noKey      struct{ Score int64 }
	noColumns  struct{ id int64 }
	unexported struct {
		ID    int64
		score int64 `db:"score"`
	}
	duplicate struct {
		ID    int64
		A     int64 `db:"score"`
		Score int64
	}
	duplicateCase struct {
		ID int64
		A  int64 `db:"score"`
		B  int64 `db:"SCORE"`
	}
	badName struct {
		ID int64
		A  int64 `db:"a b"`
	}
	badOption struct {
		ID int64
		A  int64 `db:"a,verison"`
	}
	twoVersions struct {
		ID int64
		A  int64 `db:"a,version"`
		B  int64 `db:"b,version"`
	}
	textVersion struct {
		ID      int64
		Version string
	}
	smallVersion struct {
		ID      int64
		Version int32
	}
	nullVersion struct {
		ID      int64
		Version *int64
	}
	keyVersion struct {
		A int64 `db:"a,key,version"`
	}
	hidden    struct{ A int64 }
	embedding struct {
		ID int64
		*hidden
	}
	plain struct {
		ID   int64
		Name string
	}
	tagged struct {
		No  int64 `db:"player_no,key"`
		Rev int64 `db:"rev,version"`
	}
)

func TestErrors(t *testing.T) {
	_ = unexported{score: noColumns{}.id}
	for message, c := range map[string]struct {
		t reflect.Type
		o mapping.Options
	}{
		"no key":                              {t: reflect.TypeFor[noKey]()},
		"no field is a column":                {t: reflect.TypeFor[noColumns]()},
		"not exported":                        {t: reflect.TypeFor[unexported]()},
		`is column "score" too`:               {t: reflect.TypeFor[duplicate]()},
		`is column "SCORE" too`:               {t: reflect.TypeFor[duplicateCase]()},
		`name "a b" has ' '`:                  {t: reflect.TypeFor[badName]()},
		`unknown option "verison"`:            {t: reflect.TypeFor[badOption]()},
		"both tagged as the version":          {t: reflect.TypeFor[twoVersions]()},
		`"version" is a string`:               {t: reflect.TypeFor[textVersion]()},
		`"version" is a int32`:                {t: reflect.TypeFor[smallVersion]()},
		`"version" is a *int64`:               {t: reflect.TypeFor[nullVersion]()},
		"embedded by pointer and not export":  {t: reflect.TypeFor[embedding]()},
		"both key and version":                {t: reflect.TypeFor[keyVersion]()},
		"is not a struct":                     {t: reflect.TypeFor[int]()},
		`column "other" is asked for`:         {reflect.TypeFor[tagged](), mapping.Options{Version: "other"}},
		"no version column is asked for":      {reflect.TypeFor[tagged](), mapping.Options{NoVersion: true}},
		"both asked for":                      {reflect.TypeFor[plain](), mapping.Options{Version: "v", NoVersion: true}},
		`name "v;" has ';'`:                   {reflect.TypeFor[plain](), mapping.Options{Version: "v;"}},
		`"name" is a string: it must be an i`: {reflect.TypeFor[plain](), mapping.Options{Version: "name"}},
	} {
		_, err := mapping.New(c.t, "t", c.o)
		assert.ErrorContains(t, err, message)
	}
	for _, table := range []string{"", "a b", "a;b", "a.b.c", "a\"", "x\x00"} {
		_, err := mapping.New(reflect.TypeFor[plain](), table, mapping.Options{})
		assert.ErrorContains(t, err, "name", "%q", table)
	}
}

func TestVersion(t *testing.T) {
	for _, c := range []struct {
		t         reflect.Type
		o         mapping.Options
		counter   string
		mapped    bool
		undecided bool
	}{
		{reflect.TypeFor[tagged](), mapping.Options{}, "rev", true, false},
		{reflect.TypeFor[tagged](), mapping.Options{Version: "rev"}, "rev", true, false},
		{reflect.TypeFor[everything](), mapping.Options{}, "version", true, false},
		{reflect.TypeFor[textVersion](), mapping.Options{NoVersion: true}, "", false, false},
		{reflect.TypeFor[plain](), mapping.Options{}, "", false, true},
		{reflect.TypeFor[plain](), mapping.Options{Version: "rev"}, "rev", false, false},
		{reflect.TypeFor[plain](), mapping.Options{NoVersion: true}, "", false, false},
	} {
		m, err := mapping.New(c.t, "t", c.o)
		require.NoError(t, err)
		assert.Equal(t, c.counter, m.Counter, "%v %+v", c.t, c.o)
		assert.Equal(t, c.mapped, m.Version >= 0, "%v %+v", c.t, c.o)
		assert.Equal(t, c.undecided, m.Undecided, "%v %+v", c.t, c.o)
	}
}

// Everything that a function can do to a row is seen, done in place or by a new value.
func TestChanged(t *testing.T) {
	m, err := mapping.New(reflect.TypeFor[everything](), "t", mapping.Options{})
	require.NoError(t, err)
	nick := func(s string) *string { return &s }
	fresh := func() everything {
		return everything{Inner: &Inner{Extra: "e"}, Nick: nick("n"), Bytes: []byte("bytes"), Doc: document{"a": 1}}
	}
	for _, c := range []struct {
		change func(*everything)
		column string
	}{
		{func(*everything) {}, ""},
		{func(e *everything) { e.Skipped = "x" }, ""},
		{func(e *everything) { e.Nick = nick("n") }, ""},
		{func(e *everything) { e.ID++ }, "id"},
		{func(e *everything) { e.Score++ }, "score"},
		{func(e *everything) { e.Extra = "x" }, "extra"},
		{func(e *everything) { e.Inner = &Inner{Note: e.Note} }, "extra"},
		{func(e *everything) { *e.Nick = "x" }, "nick"},
		{func(e *everything) { e.Nick = nil }, "nick"},
		{func(e *everything) { e.Maybe = sql.NullInt64{Valid: true} }, "maybe"},
		{func(e *everything) { e.Generic.V, e.Generic.Valid = 1, true }, "generic"},
		{func(e *everything) { e.Bytes[0] = 'x' }, "bytes"},
		{func(e *everything) { e.Bytes = nil }, "bytes"},
		{func(e *everything) { e.When = time.Unix(1, 0) }, "when"},
		{func(e *everything) { e.Doc["a"] = 2 }, "doc"},
	} {
		row := fresh()
		v := reflect.ValueOf(&row).Elem()
		before, err := m.Snapshot(v)
		require.NoError(t, err)
		c.change(&row)
		changed, err := before.Changed(v)
		require.NoError(t, err)
		var names []string
		for _, i := range changed {
			names = append(names, m.Columns[i].Name)
		}
		if c.column == "" {
			assert.Empty(t, names)
		} else {
			assert.Equal(t, []string{c.column}, names)
		}
	}
}

// Whether a copy of the whole struct shares anything with it does not depend on columns alone.
func TestFlat(t *testing.T) {
	type (
		deep struct {
			ID   int64
			Rest any `db:"-"`
		}
		nested struct {
			ID    int64
			Inner struct{ List [2][]int } `db:"-"`
		}
	)
	for want, types := range map[bool][]reflect.Type{
		true: {reflect.TypeFor[plain](), reflect.TypeFor[base](), reflect.TypeFor[struct {
			ID    int64
			When  time.Time
			Maybe sql.NullTime
			Null  sql.Null[time.Time]
			Text  sql.NullString
			Bytes [16]byte
			All   [2]struct{ When time.Time } `db:"-"`
			small int8
		}]()},
		false: {reflect.TypeFor[everything](), reflect.TypeFor[nullVersion](), reflect.TypeFor[deep](), reflect.TypeFor[nested](),
			reflect.TypeFor[struct {
				ID int64
				b  []byte
			}](),
			reflect.TypeFor[struct {
				ID int64
				M  map[string]int `db:"-"`
			}](),
			reflect.TypeFor[struct {
				ID int64
				F  func() `db:"-"`
			}](),
			reflect.TypeFor[struct {
				ID int64
				C  chan int `db:"-"`
			}](),
			reflect.TypeFor[struct {
				ID int64
				At sql.Null[*time.Time]
			}](),
		},
	} {
		for _, of := range types {
			m, err := mapping.New(of, "t", mapping.Options{NoVersion: true})
			require.NoError(t, err, of)
			assert.Equal(t, want, m.Flat(), of)
		}
	}

	m, err := mapping.New(reflect.TypeFor[everything](), "t", mapping.Options{})
	require.NoError(t, err)
	for column, want := range map[string]bool{"id": true, "score": true, "maybe": true, "note": false, "nick": false, "bytes": false, "when": false} {
		assert.Equal(t, want, m.Columns[m.Index(column)].Flat(), column)
	}
}
