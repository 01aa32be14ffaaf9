package racetest

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

//go:embed report.html.tmpl
var pageText string

// pageTemplate is parsed when the first report is written: most runs write none.
var pageTemplate = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("report").Parse(pageText))
})

// A page is what the report shows of one schedule.
type page struct {
	Actors  []string // the columns
	Steps   []Step
	Verdict string // what is wrong; "" if nothing is
	Kind    Kind   // "" if nothing is wrong
	Token   string
	Summary string // one line about the search: how many schedules, how many left
}

// write writes the page as one HTML file that needs nothing else. It is well-formed XML too. Nothing is written if it
// cannot be made.
func (p page) write(w io.Writer) error {
	var b bytes.Buffer
	if err := pageTemplate().Execute(&b, p.view()); err != nil {
		return fmt.Errorf("making the report: %w", err)
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// A pageView is what the template draws. Its numbers are those of a CSS grid: row 1 has the names, step n is in row n+1,
// and after the last comes an empty row in which runs out what never ended. Column 1 has the numbers of the steps.
type pageView struct {
	Title, Headline, More string
	Kind, Summary, Replay string
	Broken                bool
	Width                 int // in columns
	Narrow                int // in pixels: below it, the columns become lanes
	End                   int // the line after the last row
	Columns               []pageColumn
	Bands, Waits          []pageSpan
	Rows                  []pageRow
}

type pageColumn struct {
	C, Hue int
	Name   string
}

// A pageSpan is drawn on a lifeline from the line From to the line To: a transaction, or a wait.
type pageSpan struct {
	C, From, To int
	Class       string
	Label       string // what it waits for; "" if there is no row between to say it in
	After       string // what it was told when it went on; "" if the last row has the statement itself
	Failed      bool
}

// A pageRow is a step.
type pageRow struct {
	N, R, C, Hue  int
	Actor, Class  string
	About         string // the number and the duration
	Failed        bool
	SQL, Result   pageFold
	Waits, WentOn string
	Arrows        []pageArrow
	Notes         []string
}

// A pageArrow goes from a statement that waits to the lifeline of whom it waits for.
type pageArrow struct {
	Class  string // "left" or "right", and "short" if a longer one is drawn over it
	Length int    // in columns
	Rest   int    // the columns to the right of it
}

// A pageFold is text of which only the beginning is shown, if it is long, until it is opened.
type pageFold struct {
	Begin string // "" if it is not long
	Full  []pagePiece
}

type pagePiece struct {
	Text    string
	Keyword bool
}

func (p page) view() pageView {
	p.Actors = p.columns()
	headline, more, _ := strings.Cut(pageClean(strings.TrimSpace(p.Verdict)), "\n")
	v := pageView{
		Headline: headline, More: strings.TrimSpace(more),
		Kind: pageClean(string(p.Kind)), Summary: pageClean(p.Summary),
		Broken: p.Verdict != "" || p.Kind != "",
		Width:  max(2, len(p.Actors)),
		Narrow: 60 + 210*max(2, len(p.Actors)),
		End:    len(p.Steps) + 3,
	}
	if !v.Broken {
		v.Headline = "This schedule keeps the invariant"
	} else if v.Headline == "" {
		v.Headline = "This schedule fails"
	}
	v.Title = "racetest: " + pageBegin(v.Headline, 80)
	if p.Token != "" {
		v.Replay = "racetest.Replay(" + strconv.Quote(p.Token) + ")"
	}
	for i, actor := range p.Actors {
		v.Columns = append(v.Columns, pageColumn{C: i + 2, Hue: i % 6, Name: pageName(actor)})
		v.Bands = append(v.Bands, p.bands(actor)...)
	}
	notes := p.overtaken()
	for i := range p.Steps {
		if p.Steps[i].Blocked {
			v.Waits = append(v.Waits, p.wait(i))
		}
		v.Rows = append(v.Rows, p.row(i, notes[i]))
	}
	return v
}

// columns returns the actors, and after them those that are only in the steps: a step is never left out.
func (p page) columns() []string {
	var columns []string
	for _, actor := range p.Actors {
		if !slices.Contains(columns, actor) {
			columns = append(columns, actor)
		}
	}
	for _, s := range p.Steps {
		if !slices.Contains(columns, s.Actor) {
			columns = append(columns, s.Actor)
		}
	}
	return columns
}

func (p page) column(actor string) int { return slices.Index(p.Actors, actor) + 2 }

// done returns the number of the step after which step i+1 was over: its own, if it did not wait. It is 0 if it never was.
func (p page) done(i int) int {
	s := p.Steps[i]
	switch {
	case !s.Blocked:
		return i + 1
	case s.Until <= 0:
		return 0
	}
	return min(max(s.Until, i+1), len(p.Steps))
}

// after returns the line after the row of step n, or the last line if n is 0.
func (p page) after(n int) int {
	if n == 0 {
		return len(p.Steps) + 3
	}
	return n + 2
}

// wait returns what is drawn on the lifeline while step i+1 waits.
func (p page) wait(i int) pageSpan {
	s, done := p.Steps[i], p.done(i)
	w := pageSpan{C: p.column(s.Actor), From: i + 2, To: p.after(done), Failed: s.Failed}
	if w.To-w.From > 2 {
		w.Label = pageWaits(s)
	}
	switch {
	case done == 0:
		w.Class, w.After = "never", "never goes on"
	case done > i+1 && pageTold(s):
		w.After = "→ " + pageBegin(pageClean(s.Result), 60)
	case done > i+1:
		w.After = "goes on"
	}
	return w
}

// pageTold tells whether a step's result says anything. That all went well goes without saying.
func pageTold(s Step) bool { return s.Result != "" && (s.Result != "ok" || s.Failed) }

// pageWaits says what a step that is blocked waits for.
func pageWaits(s Step) string {
	if len(s.WaitsFor) == 0 {
		return "waits for a lock"
	}
	names := make([]string, len(s.WaitsFor))
	for i, name := range s.WaitsFor {
		names[i] = pageName(name)
	}
	return "waits for " + strings.Join(names, " and ")
}

func (p page) row(i int, notes []string) pageRow {
	s, c := p.Steps[i], p.column(p.Steps[i].Actor)
	r := pageRow{
		N: i + 1, R: i + 2, C: c, Hue: (c - 2) % 6,
		Actor: pageName(s.Actor), About: "step " + strconv.Itoa(i+1), Failed: s.Failed,
		Class: pageTx(s.Statement), SQL: pageFoldSQL(s.Statement), Notes: notes,
	}
	if s.Took > 0 {
		r.About += ", " + pageDuration(s.Took)
	}
	if pageTold(s) {
		result := s.Result
		if s.Failed && !strings.HasPrefix(strings.ToLower(result), "error") {
			result = "error: " + result // in words too: the colour and the cross are not heard
		}
		r.Result = pageFoldText(result)
	}
	if r.Class != "" && !s.Blocked && !s.Failed {
		r.Class += " tx" // there is little to say
	}
	if s.With {
		r.Class += " with"
	}
	if s.Failed {
		r.Class += " failed"
	}
	if !s.Blocked {
		return r
	}
	r.Waits, r.Arrows = pageWaits(s), p.arrows(s)
	switch done := p.done(i); {
	case done == 0:
		r.WentOn = "and never goes on"
	case done > i+1:
		r.WentOn = "until step " + strconv.Itoa(done)
	}
	if s.Took > 0 {
		r.Waits += ", " + pageDuration(s.Took)
	}
	return r
}

func (p page) arrows(s Step) []pageArrow {
	var arrows []pageArrow
	from := p.column(s.Actor)
	longest := map[string]int{}
	for _, name := range s.WaitsFor {
		to := p.column(name)
		if to < 2 || to == from {
			continue // nobody of the scenario
		}
		a := pageArrow{Class: "right", Length: to - from, Rest: len(p.Actors) + 1 - to}
		if to < from {
			a = pageArrow{Class: "left", Length: from - to, Rest: len(p.Actors) + 1 - from}
		}
		longest[a.Class] = max(longest[a.Class], a.Length)
		arrows = append(arrows, a)
	}
	for i, a := range arrows {
		if a.Length < longest[a.Class] {
			arrows[i].Class += " short" // only its head: two dashed lines on each other look like another line
		}
	}
	return arrows
}

// bands returns the transactions of an actor. One begins where its BEGIN is over, so that one that had to wait to begin
// does not seem to overlap. A COMMIT that fails may have ended it or not, so it ends there only if no other end follows.
func (p page) bands(actor string) []pageSpan {
	var bands []pageSpan
	open := -1 // the band that the next COMMIT or ROLLBACK ends
	for i, s := range p.Steps {
		if s.Actor != actor {
			continue
		}
		done, word := p.done(i), pageTx(s.Statement)
		switch {
		case word == "begin" && !s.Failed && done > 0 && (open < 0 || bands[open].Class == "unsure"):
			open = len(bands)
			bands = append(bands, pageSpan{C: p.column(actor), From: done + 1, To: p.after(0), Class: "open"})
		case word == "" || word == "begin" || open < 0 || done == 0:
		case s.Failed:
			bands[open].To, bands[open].Class = p.after(done), "unsure"
		default:
			bands[open].To, bands[open].Class = p.after(done), word
			open = -1
		}
	}
	return bands
}

// pageTx returns "begin", "commit" or "rollback" if that is what the statement does to the transaction.
func pageTx(statement string) string {
	words := strings.FieldsFunc(strings.ToUpper(pageBegin(statement, 60)), func(r rune) bool { return !unicode.IsLetter(r) })
	words = append(words, "", "", "")
	rest := words[1:3]
	switch words[0] {
	case "BEGIN":
		return "begin"
	case "START":
		if words[1] == "TRANSACTION" {
			return "begin"
		}
	case "COMMIT", "END":
		if !slices.Contains(rest, "PREPARED") {
			return "commit"
		}
	case "ROLLBACK":
		if !slices.Contains(rest, "PREPARED") && !slices.Contains(rest, "TO") { // to a savepoint
			return "rollback"
		}
	}
	return ""
}

const pageTable = "((?:(?:\"[^\"]+\"|`[^`]+`|\\[[^\\]]+\\]|[\\pL\\pN_$]+)\\.?)+)"

var (
	pageWrites = regexp.MustCompile(`(?is)^\s*(?:update(?:\s+or\s+\w+)?(?:\s+only)?|delete\s+from(?:\s+only)?|` +
		`(?:insert|replace)(?:\s+or\s+\w+|\s+ignore)?\s+into)\s+` + pageTable)
	pageSelect  = regexp.MustCompile(`(?is)^\s*(?:select|with)\b`)
	pageReads   = regexp.MustCompile(`(?is)\b(?:from|join)\s+(?:only\s+)?` + pageTable)
	pageLiteral = regexp.MustCompile(`'(?:[^']|'')*'`)
)
