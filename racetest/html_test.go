package racetest

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A pageNode is an element of a page, or a piece of text (without a name).
type pageNode struct {
	name, text string
	attrs      map[string]string
	children   []*pageNode
}

// all returns the elements that have all the classes, in the order of the document.
func (n *pageNode) all(classes ...string) []*pageNode {
	var found []*pageNode
	for _, c := range n.children {
		has := " " + c.attrs["class"] + " "
		ok := c.name != ""
		for _, class := range classes {
			ok = ok && strings.Contains(has, " "+class+" ")
		}
		if ok {
			found = append(found, c)
		}
		found = append(found, c.all(classes...)...)
	}
	return found
}

func (n *pageNode) named(name string) []*pageNode {
	var found []*pageNode
	for _, c := range n.all() {
		if c.name == name {
			found = append(found, c)
		}
	}
	return found
}

func (n *pageNode) String() string {
	text := n.text
	for _, c := range n.children {
		text += c.String()
	}
	return text
}

// style returns the number of a custom property.
func (n *pageNode) style(t *testing.T, property string) int {
	t.Helper()
	for declaration := range strings.SplitSeq(n.attrs["style"], ";") {
		if name, value, _ := strings.Cut(declaration, ":"); strings.TrimSpace(name) == property {
			number, err := strconv.Atoi(strings.TrimSpace(value))
			require.NoError(t, err)
			return number
		}
	}
	t.Fatalf("no %s in %q", property, n.attrs["style"])
	return 0
}

func pageWritten(t *testing.T, p page) string {
	t.Helper()
	var b strings.Builder
	require.NoError(t, p.write(&b))
	return b.String()
}

// pageParse fails the test if the page is not well-formed.
func pageParse(t *testing.T, p page) *pageNode {
	t.Helper()
	root := &pageNode{}
	stack := []*pageNode{root}
	d := xml.NewDecoder(strings.NewReader(pageWritten(t, p)))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return root
		}
		require.NoError(t, err)
		top := stack[len(stack)-1]
		switch token := token.(type) {
		case xml.StartElement:
			n := &pageNode{name: token.Name.Local, attrs: map[string]string{}}
			for _, a := range token.Attr {
				n.attrs[a.Name.Local] = a.Value
			}
			top.children = append(top.children, n)
			stack = append(stack, n)
		case xml.EndElement:
			stack = stack[:len(stack)-1]
		case xml.CharData:
			top.children = append(top.children, &pageNode{text: string(token)})
		}
	}
}

func pageSpans(t *testing.T, p page, class string) [][3]int {
	t.Helper()
	var spans [][3]int
	for _, n := range pageParse(t, p).all("chart")[0].all(class) {
		spans = append(spans, [3]int{n.style(t, "--c"), n.style(t, "--from"), n.style(t, "--to")})
	}
	return spans
}

func pageSteps(statements ...string) []Step {
	var steps []Step
	for _, s := range statements {
		actor, statement, _ := strings.Cut(s, ": ")
		steps = append(steps, Step{Actor: actor, Statement: statement, Result: "1 row"})
	}
	return steps
}

func pageLostUpdate() page {
	return page{
		Actors: []string{"alice", "bob"}, Kind: Invariant, Verdict: "stock is 9, want 8", Token: "a b b a",
		Summary: "after 3 schedules; 4 left",
		Steps: []Step{
			{Actor: "alice", Statement: "SELECT stock FROM items WHERE id < 2", Result: "10", Took: 1512 * time.Microsecond},
			{Actor: "bob", Statement: "SELECT stock FROM items WHERE id < 2", Result: "10"},
			{Actor: "bob", Statement: `UPDATE "items" SET stock = 9`, Result: "1 row"},
			{Actor: "alice", Statement: "UPDATE shop.items SET stock = 9", Result: "it's <too> late & gone", Failed: true},
		},
	}
}

func TestPageShowsEveryStepInOrder(t *testing.T) {
	p := pageLostUpdate()
	p.Steps = append(p.Steps, Step{Actor: "bob", Statement: "SET a = 1", With: true}, Step{Actor: "bob", Failed: true},
		Step{Actor: "bob", Statement: "COMMIT", Result: "ok", Blocked: true, Until: 8}, Step{Actor: "alice", Statement: "SELECT 1", Result: "ERROR: once", Failed: true})
	root := pageParse(t, p)
	steps := root.all("step")
	require.Len(t, steps, len(p.Steps))
	for i, s := range p.Steps {
		column := map[string]int{"alice": 2, "bob": 3}[s.Actor]
		assert.Equal(t, i+2, steps[i].style(t, "--r"))
		assert.Equal(t, column, steps[i].style(t, "--c"))
		assert.Equal(t, "li", steps[i].name)
		box := steps[i].all("box")[0]
		assert.Equal(t, "Step "+strconv.Itoa(i+1)+", "+s.Actor, box.attrs["aria-label"])
		assert.Contains(t, box.attrs["title"], "step "+strconv.Itoa(i+1))
		assert.Equal(t, s.Actor, box.all("who")[0].String())
		if s.Statement != "" {
			assert.Equal(t, s.Statement, box.all("sql")[0].String())
		}
	}
	assert.Equal(t, "step 1, 1.5ms", steps[0].all("box")[0].attrs["title"])
	assert.Equal(t, "→ result: 10", steps[0].all("got")[0].String())
	assert.Equal(t, "✗ error: it's <too> late & gone", steps[3].all("got")[0].String())
	assert.Contains(t, steps[3].attrs["class"], "failed")
	assert.NotContains(t, steps[2].attrs["class"], "failed")
	assert.Contains(t, steps[4].attrs["class"], "with")
	assert.Empty(t, steps[4].all("got"), "it was told nothing")
	assert.Equal(t, "(empty)", steps[5].all("sql")[0].String())
	assert.Equal(t, "✗ error", steps[5].all("got")[0].String())
	assert.Equal(t, "goes on", root.all("after")[0].String())
	assert.Equal(t, "✗ ERROR: once", steps[7].all("got")[0].String())
	assert.Empty(t, steps[6].all("got"), "ok goes without saying")
	var keywords []string
	for _, b := range steps[0].named("b") {
		keywords = append(keywords, b.String())
	}
	assert.Equal(t, []string{"SELECT", "FROM", "WHERE"}, keywords)
}

func TestPageSaysWhatIsWrong(t *testing.T) {
	p := pageLostUpdate()
	p.Verdict = "stock is 9, want 8\nand more"
	root := pageParse(t, p)
	assert.Equal(t, "✗ stock is 9, want 8", root.named("h1")[0].String())
	assert.Equal(t, "and more", root.all("more")[0].String())
	assert.Equal(t, "invariant", root.all("kind")[0].String())
	assert.Equal(t, "after 3 schedules; 4 left", root.all("summary")[0].String())
	assert.Equal(t, `racetest.Replay("a b b a")`, root.named("pre")[0].String())
	assert.Contains(t, root.named("main")[0].attrs["class"], "broken")
	assert.Equal(t, "racetest: stock is 9, want 8", root.named("title")[0].String())

	root = pageParse(t, page{Kind: Leak})
	assert.Equal(t, "✗ This schedule fails", root.named("h1")[0].String())
	root = pageParse(t, page{Verdict: strings.Repeat("long ", 100)})
	assert.Contains(t, root.named("main")[0].attrs["class"], "wordy")
	assert.Len(t, []rune(root.named("title")[0].String()), len("racetest: ")+80)
}

func TestPageOfAScheduleThatPasses(t *testing.T) {
	p := pageLostUpdate()
	p.Kind, p.Verdict = "", ""
	root := pageParse(t, p)
	assert.Equal(t, "✓ This schedule keeps the invariant", root.named("h1")[0].String())
	assert.NotContains(t, root.named("main")[0].attrs["class"], "broken")
	assert.Empty(t, root.all("kind"))
	assert.Empty(t, root.all("note"))
	assert.Len(t, root.all("step"), 4)
}

func TestPageWithoutSteps(t *testing.T) {
	for _, p := range []page{{}, {Actors: []string{"alice", "bob"}}} {
		root := pageParse(t, p)
		assert.Equal(t, "No statement was sent.", root.all("empty")[0].String())
		assert.Empty(t, root.all("chart"))
		assert.Empty(t, root.all("replay"), "there is nothing to replay")
		assert.Empty(t, root.all("summary"))
	}
}

func TestPageNeverLeavesOutAnActor(t *testing.T) {
	root := pageParse(t, page{Actors: []string{"alice", "", "alice"}, Steps: pageSteps("zoe: SELECT 1", "alice: SELECT 2")})
	var names []string
	for _, h := range root.all("head") {
		names = append(names, h.String())
	}
	assert.Equal(t, []string{"alice", "(no name)", "zoe"}, names)
	assert.Equal(t, 4, root.all("step")[0].style(t, "--c"))
	assert.Len(t, root.all("life"), 3)
}

const pageHostile = `</script></style></title>--></textarea><script>alert(1)</script><img src=x onerror=alert(1)>"'` +
	"` onload=x {{.}} &amp; ]]> javascript:alert(1); } * { display: none"

func pageOfHostile() page {
	h := pageHostile
	return page{
		Actors: []string{h, "x"}, Verdict: h + "\n" + h, Kind: Kind(h), Token: h, Summary: h,
		Steps: []Step{
			{Actor: h, Statement: h, Result: h, Blocked: true, WaitsFor: []string{h, "x"}, Until: 3},
			{Actor: "x", Statement: "BEGIN " + h, Result: h, Failed: true},
			{Actor: "x", Statement: strings.Repeat(h, 9), Result: strings.Repeat(h, 9)},
		},
	}
}

func TestPageIsInert(t *testing.T) {
	root := pageParse(t, pageOfHostile())
	elements := " html head meta title style body main header p span h1 h2 bdi section div i ol li code b details summary pre "
	attributes := " lang charset name content http-equiv class style aria-label aria-hidden role title dir "
	for _, n := range root.all() {
		assert.Contains(t, elements, " "+n.name+" ")
		for name := range n.attrs {
			assert.Contains(t, attributes, " "+name+" ")
		}
		assert.Regexp(t, `^(--[a-z]+:\d+;?)*$`, n.attrs["style"])
		assert.Regexp(t, `^[a-z0-9 ]*$`, n.attrs["class"])
	}
	assert.Len(t, root.named("style"), 1)
	assert.NotContains(t, root.named("style")[0].String(), "alert")
	first := root.all("step")[0]
	assert.Equal(t, pageHostile, first.all("sql")[0].String())
	assert.Equal(t, "→ result: "+pageHostile, first.all("got")[0].String())
	assert.Equal(t, "Step 1, "+pageHostile, first.all("box")[0].attrs["aria-label"])
	assert.Equal(t, "waits for "+pageHostile+" and x, until step 3", first.all("waits")[0].String())
	assert.Equal(t, pageHostile, root.all("head")[0].String())
	assert.Equal(t, "racetest.Replay("+strconv.Quote(pageHostile)+")", root.named("pre")[0].String())
	assert.NotRegexp(t, `(?i)<(script|img)|</textarea|]]>|-->`, pageWritten(t, pageOfHostile()))
}

func TestPageNeedsNothingElse(t *testing.T) {
	p := pageLostUpdate()
	p.Steps[3].Blocked, p.Steps[3].WaitsFor = true, []string{"bob"}
	assert.NotRegexp(t, `(?i)https?://|\bsrc\s*=|href|<link|@import|url\(|<script|<iframe|\son[a-z]+\s*=`, pageWritten(t, p))
	assert.Contains(t, pageWritten(t, p), `content="default-src 'none'; style-src 'unsafe-inline'"`)
}

func TestPageShowsWhatCannotBeSeen(t *testing.T) {
	for in, want := range map[string]string{
		"a\x00b\x1b[31m\x7f":        "a␀b␛[31m␡",
		"a\xff\xfeb":                "a\uFFFDb",
		"\u202egnp.exe\u2066\u200b": "[U+202E]gnp.exe[U+2066][U+200B]",
		"\u0085\ufffe\U0010ffff":    "[U+0085][U+FFFE][U+10FFFF]",
		"a\r\nb\tc\rd\u2028e":       "a\nb\tc␍d[U+2028]e",
		"ن\u200cم \u200d שלום 🙂":    "ن\u200cم \u200d שלום 🙂",
	} {
		assert.Equal(t, want, pageClean(in))
		root := pageParse(t, page{
			Actors: []string{in}, Verdict: in, Kind: Kind(in), Summary: in, Token: in,
			Steps: []Step{{Actor: in, Statement: in, Result: in, Blocked: true, WaitsFor: []string{in}}},
		})
		assert.Equal(t, want, root.all("sql")[0].String())
		assert.Equal(t, "→ result: "+want, root.all("got")[0].String())
		assert.Equal(t, want, root.all("summary")[0].String())
		assert.Equal(t, "racetest.Replay("+strconv.Quote(in)+")", root.named("pre")[0].String(), "Go reads it back")
	}
	assert.Equal(t, "\u2068שלום\u2069", pageName("שלום"), "it must not turn a sentence around")
	assert.Equal(t, "(no name)", pageName(" "))
}

func TestPageWaits(t *testing.T) {
	steps := func(blocked, until int) []Step {
		s := pageSteps("a: SELECT 1", "b: SELECT 2", "a: SELECT 3", "a: COMMIT", "b: SELECT 4")
		s[blocked-1].Blocked, s[blocked-1].Until, s[blocked-1].WaitsFor = true, until, []string{"a", "(other)"}
		return s
	}
	for _, test := range []struct {
		name              string
		blocked, until    int
		want              [3]int // column, from, to
		says, label, pill string
	}{
		{"until a later step", 2, 4, [3]int{3, 3, 6}, "waits for a and (other), until step 4", "waits for a and (other)", "→ 1 row"},
		{"until the next step", 2, 3, [3]int{3, 3, 5}, "waits for a and (other), until step 3", "", "→ 1 row"},
		{"until its own step", 2, 2, [3]int{3, 3, 4}, "waits for a and (other)", "", ""},
		{"until a step before", 2, 1, [3]int{3, 3, 4}, "waits for a and (other)", "", ""},
		{"for ever", 2, 0, [3]int{3, 3, 8}, "waits for a and (other), and never goes on", "waits for a and (other)", "never goes on"},
		{"for ever, in the last step", 5, 0, [3]int{3, 6, 8}, "waits for a and (other), and never goes on", "", "never goes on"},
		{"until after the last step", 2, 99, [3]int{3, 3, 7}, "waits for a and (other), until step 5", "waits for a and (other)", "→ 1 row"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := page{Actors: []string{"a", "b"}, Steps: steps(test.blocked, test.until)}
			assert.Equal(t, [][3]int{test.want}, pageSpans(t, p, "wait"))
			root := pageParse(t, p)
			says := root.all("waits")
			require.Len(t, says, 1)
			assert.Equal(t, test.says, says[0].String())
			text := func(class string) (text string) {
				for _, n := range root.all("pill", class) {
					text += n.String()
				}
				return text
			}
			assert.Equal(t, test.label, text("label"))
			assert.Equal(t, test.pill, text("after"))
			assert.Len(t, root.all("wait", "never"), map[bool]int{true: 1}[test.until == 0])
		})
	}
	assert.Equal(t, "waits for a lock", pageWaits(Step{}), "the database does not say for whom")
	assert.Empty(t, pageSpans(t, pageLostUpdate(), "wait"))
}

func TestPageArrows(t *testing.T) {
	p := page{Actors: []string{"a", "b", "c", "d"}}
	arrows := func(actor string, names ...string) []pageArrow {
		return p.arrows(Step{Actor: actor, WaitsFor: names})
	}
	assert.Equal(t, []pageArrow{{"right", 1, 2}}, arrows("a", "b"))
	assert.Equal(t, []pageArrow{{"left", 3, 0}}, arrows("d", "a"))
	assert.Equal(t, []pageArrow{{"left", 1, 2}, {"right", 1, 1}}, arrows("b", "a", "c"))
	assert.Equal(t, []pageArrow{{"right short", 1, 1}, {"right", 2, 0}}, arrows("b", "c", "d"))
	assert.Empty(t, arrows("b", "(other)", "b"))

	p.Steps = []Step{{Actor: "c", Blocked: true, WaitsFor: []string{"a"}}}
	root := pageParse(t, p)
	require.Len(t, root.all("arrow"), 1)
	arrow := root.all("arrow", "left")[0]
	assert.Equal(t, 2, arrow.style(t, "--k"))
	assert.Equal(t, 1, arrow.style(t, "--rest"))
}

func pageFailed(steps []Step, n int) []Step {
	steps[n-1].Failed = true
	return steps
}

func pageBlocked(steps []Step, n, until int) []Step {
	steps[n-1].Blocked, steps[n-1].Until = true, until
	return steps
}

func TestPageBands(t *testing.T) {
	failed, blocked := pageFailed, pageBlocked
	for name, test := range map[string]struct {
		steps []Step
		want  []pageSpan
	}{
		"commit and rollback overlap": {
			pageSteps("a: BEGIN", "b: begin isolation level serializable", "a: SELECT 1", "a: COMMIT", "b: ROLLBACK"),
			[]pageSpan{{C: 2, From: 2, To: 6, Class: "commit"}, {C: 3, From: 3, To: 7, Class: "rollback"}},
		},
		"two of one actor": {
			pageSteps("a: START TRANSACTION", "a: COMMIT", "a: SELECT 1", "a: BEGIN", "a: COMMIT"),
			[]pageSpan{{C: 2, From: 2, To: 4, Class: "commit"}, {C: 2, From: 5, To: 7, Class: "commit"}},
		},
		"not ended":       {pageSteps("a: BEGIN", "a: SELECT 1"), []pageSpan{{C: 2, From: 2, To: 5, Class: "open"}}},
		"to a savepoint":  {pageSteps("a: BEGIN", "a: ROLLBACK TO x", "a: COMMIT"), []pageSpan{{C: 2, From: 2, To: 5, Class: "commit"}}},
		"ended only":      {pageSteps("a: SELECT 1", "a: COMMIT"), nil},
		"BEGIN fails":     {failed(pageSteps("a: BEGIN", "a: SELECT 1"), 1), nil},
		"BEGIN waits":     {blocked(pageSteps("a: BEGIN", "b: SELECT 1", "a: COMMIT"), 1, 2), []pageSpan{{C: 2, From: 3, To: 5, Class: "commit"}}},
		"BEGIN never on":  {blocked(pageSteps("a: BEGIN", "b: SELECT 1"), 1, 0), nil},
		"COMMIT waits":    {blocked(pageSteps("a: BEGIN", "a: COMMIT", "b: COMMIT"), 2, 3), []pageSpan{{C: 2, From: 2, To: 5, Class: "commit"}}},
		"COMMIT never on": {blocked(pageSteps("a: BEGIN", "a: COMMIT", "b: COMMIT"), 2, 0), []pageSpan{{C: 2, From: 2, To: 6, Class: "open"}}},
		"COMMIT fails":    {failed(pageSteps("a: BEGIN", "a: COMMIT", "a: SELECT 1"), 2), []pageSpan{{C: 2, From: 2, To: 4, Class: "unsure"}}},
		"COMMIT fails, BEGIN": {
			failed(pageSteps("a: BEGIN", "a: COMMIT", "a: BEGIN", "a: COMMIT"), 2),
			[]pageSpan{{C: 2, From: 2, To: 4, Class: "unsure"}, {C: 2, From: 4, To: 6, Class: "commit"}},
		},
		"COMMIT fails, and again": {
			failed(pageSteps("a: BEGIN", "a: COMMIT", "b: SELECT 1", "a: COMMIT"), 2), []pageSpan{{C: 2, From: 2, To: 6, Class: "commit"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := page{Actors: []string{"a", "b"}, Steps: test.steps}
			assert.Equal(t, test.want, p.view().Bands)
			var drawn [][3]int
			for _, b := range test.want {
				drawn = append(drawn, [3]int{b.C, b.From, b.To})
			}
			assert.Equal(t, drawn, pageSpans(t, p, "band"))
		})
	}
}

func TestPageTx(t *testing.T) {
	for statement, want := range map[string]string{
		"BEGIN": "begin", " begin;": "begin", "BEGIN IMMEDIATE": "begin", "start transaction read only": "begin",
		"COMMIT": "commit", "END": "commit", "commit work;": "commit", "ROLLBACK": "rollback", "ROLLBACK WORK": "rollback",
		"ROLLBACK TO x": "", "rollback work to savepoint x": "", "COMMIT PREPARED 'x'": "", "START SLAVE": "", "BEGINNING": "",
		"SELECT 'COMMIT'": "", "": "", "committed": "",
	} {
		assert.Equal(t, want, pageTx(statement), statement)
	}
}

func TestPageMarksReadsThatWereOvertaken(t *testing.T) {
	marked := func(kind Kind, change func([]Step), statements ...string) map[int][]string {
		p := page{Actors: []string{"a", "b"}, Kind: kind, Steps: pageSteps(statements...)}
		if change != nil {
			change(p.Steps)
		}
		return p.overtaken()
	}
	lost := []string{"a: SELECT n FROM t", "b: SELECT n FROM t", "b: UPDATE t SET n = 1", "a: UPDATE t SET n = 1"}
	want := map[int][]string{
		0: {"Overtaken: after this read, b's write of t (step 3) took effect; then a wrote it too (step 4)"},
		3: {"Last read t in step 1, before b's write (step 3) took effect"},
	}
	assert.Equal(t, want, marked(Invariant, nil, lost...))
	assert.Empty(t, marked(Deadlock, nil, lost...), "only an invariant is broken by it")
	assert.Empty(t, marked(Invariant, func(s []Step) { s[2].Failed = true }, lost...), "b wrote nothing")
	assert.Empty(t, marked(Invariant, nil, lost[0], lost[3], lost[1], lost[2]), "one after the other")
	assert.Empty(t, marked(Invariant, nil, lost[0], lost[1], "b: UPDATE u SET n = 1", lost[3]), "another table")
	assert.Empty(t, marked(Invariant, nil, lost[1], lost[2], lost[0], lost[3]), "the read came after")
	assert.Empty(t, marked(Invariant, nil, lost[0], lost[3], lost[3]), "nobody else wrote")
	tx := []string{"b: BEGIN", "b: UPDATE t SET n = 1", "a: SELECT n FROM t", "b: COMMIT", "a: UPDATE t SET n = 1"}
	assert.Len(t, marked(Invariant, nil, tx...), 2, "the write took effect with the COMMIT")
	tx[3] = "b: ROLLBACK"
	assert.Empty(t, marked(Invariant, nil, tx...), "the write was rolled back")
	assert.Empty(t, marked(Invariant, nil, "a: BEGIN", lost[0], lost[2], lost[3], "a: ROLLBACK"), "a's was rolled back")
	assert.Empty(t, marked(Invariant, func(s []Step) { s[0].Failed = true }, lost...), "a read nothing")
	wait := func(n, until int) func([]Step) {
		return func(s []Step) { s[n-1].Blocked, s[n-1].Until = true, until }
	}
	tx = []string{"b: BEGIN", "b: UPDATE t SET n = 1", "a: SELECT n FROM t FOR UPDATE", "b: COMMIT", "a: UPDATE t SET n = 1"}
	assert.Empty(t, marked(Invariant, wait(3, 4), tx...), "the read waited for the COMMIT")
	held := []string{"a: SELECT n FROM t FOR UPDATE", "b: UPDATE t SET n = 1", "a: UPDATE t SET n = 1", "a: COMMIT"}
	assert.Empty(t, marked(Invariant, wait(2, 4), held...), "the write waited for the one who had read")
	assert.Empty(t, marked(Invariant, wait(2, 0), held...), "it never wrote")

	root := pageParse(t, pageLostUpdate())
	assert.Empty(t, root.all("note"), "alice's write failed")
	p := pageLostUpdate()
	p.Steps[3].Failed = false
	root = pageParse(t, p)
	assert.Len(t, root.all("note"), 2)
	assert.Contains(t, root.all("step")[0].all("note")[0].String(), "bob's write of items (step 3)")
}

func TestPageTables(t *testing.T) {
	for statement, want := range map[string]string{
		"UPDATE Accounts SET x": "accounts", "update or ignore only t set": "t", `INSERT INTO "my schema"."my table" (a)`: "my table",
		"insert or replace into t values": "t", "REPLACE INTO `t`": "t", "DELETE FROM ONLY t": "t", "\n DELETE\nFROM [t] WHERE": "t",
		"SELECT 1 FROM t FOR UPDATE": "", "UPDATED t": "", "": "",
	} {
		_, writes := pageTables(statement)
		assert.Equal(t, want, writes, statement)
	}
	reads, _ := pageTables("select 'from x' from A.b join \"c\" on true where n in (select 1 from d)")
	assert.Equal(t, []string{"b", "c", "d"}, reads)
	reads, _ = pageTables("WITH x AS (SELECT 1 FROM t) SELECT 2")
	assert.Equal(t, []string{"t"}, reads)
}

func TestPageFoldsWhatIsLong(t *testing.T) {
	long := "SELECT " + strings.Repeat("column_of_a_table, ", 100) + "1"
	tall := strings.Repeat("SELECT 1\n", 12)
	p := page{Actors: []string{"a"}, Steps: []Step{
		{Actor: "a", Statement: long, Result: long}, {Actor: "a", Statement: tall}, {Actor: "a", Statement: "SELECT 1"},
	}}
	steps := pageParse(t, p).all("step")
	require.Len(t, steps[0].named("details"), 2, "the statement, and the result")
	details := steps[0].named("details")[0]
	summary := details.named("summary")[0]
	assert.Equal(t, summary.String()+long, details.String(), "nothing is lost")
	assert.Less(t, len(summary.String()), 170)
	require.Len(t, steps[1].named("details"), 1)
	assert.Equal(t, 3, strings.Count(steps[1].named("summary")[0].String(), "\n"), "four lines")
	assert.Empty(t, steps[2].named("details"))
}

func TestPageDuration(t *testing.T) {
	assert.Equal(t, "1.01s", pageDuration(1012345*time.Microsecond))
	assert.Equal(t, "12.3ms", pageDuration(12345*time.Microsecond))
	assert.Equal(t, "12µs", pageDuration(12345*time.Nanosecond))
}

type pageBroken struct{ error }

func (w pageBroken) Write([]byte) (int, error) { return 0, w.error }

func TestPageWriteFails(t *testing.T) {
	assert.ErrorIs(t, pageLostUpdate().write(pageBroken{io.ErrShortWrite}), io.ErrShortWrite)
}

// What is read must stand out from what is behind it (WCAG AA: 4.5 to 1), in the light and in the dark.
func TestPageContrast(t *testing.T) {
	light, dark, ok := strings.Cut(pageText, "@media (prefers-color-scheme: dark)")
	require.True(t, ok)
	for name, css := range map[string]string{"light": light, "dark": dark} {
		colors := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z0-9-]+): #([0-9a-f]{3,6});`).FindAllStringSubmatch(css, -1) {
			colors[m[1]] = m[2]
		}
		for _, pair := range strings.Fields(`ink/page ink/paper dim/page dim/paper red/page red/paper red/red-back green/page
			green/paper amber/amber-back keyword/paper hue0/page hue1/page hue2/page hue3/page hue4/page hue5/page
			hue0/paper hue1/paper hue2/paper hue3/paper hue4/paper hue5/paper`) {
			front, back, _ := strings.Cut(pair, "/")
			a, b := pageLuminance(t, colors[front]), pageLuminance(t, colors[back])
			assert.GreaterOrEqual(t, (max(a, b)+0.05)/(min(a, b)+0.05), 4.5, "%s: %s", name, pair)
		}
	}
}

func pageLuminance(t *testing.T, hex string) float64 {
	t.Helper()
	if len(hex) == 3 {
		hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
	}
	rgb, err := strconv.ParseUint(hex, 16, 32)
	require.NoError(t, err)
	linear := func(c uint64) float64 {
		v := float64(c&0xff) / 255
		if v <= 0.04045 {
			return v / 12.92
		}
		return math.Pow((v+0.055)/1.055, 2.4)
	}
	return 0.2126*linear(rgb>>16) + 0.7152*linear(rgb>>8) + 0.0722*linear(rgb)
}
