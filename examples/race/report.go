package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// progress is the line that is written again and again while a pattern runs.
type progress struct {
	w       io.Writer
	pattern string
	done    atomic.Int64
	quit    chan struct{}
	ended   sync.WaitGroup
}

func newProgress(w io.Writer, pattern string) *progress {
	return &progress{w: w, pattern: pattern, quit: make(chan struct{})}
}

// interval is how often the line is written: to be watched in a terminal, to be read in a file.
func (p *progress) interval() time.Duration {
	if p.live() {
		return 100 * time.Millisecond
	}
	return 5 * time.Second
}

// live tells whether somebody watches.
func (p *progress) live() bool {
	f, ok := p.w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (p *progress) start(total int64) {
	begin := time.Now()
	p.ended.Go(func() {
		tick := time.NewTicker(p.interval())
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.line(total, time.Since(begin), false)
			case <-p.quit:
				p.line(total, time.Since(begin), true)
				return
			}
		}
	})
}

func (p *progress) line(total int64, took time.Duration, last bool) {
	done := p.done.Load()
	line := fmt.Sprintf("%-10s %d of %d updates, %.0f/s", p.pattern, done, total, float64(done)/took.Seconds())
	switch {
	case !p.live():
		fmt.Fprintln(p.w, line)
	case last:
		fmt.Fprintf(p.w, "\r%s\r", strings.Repeat(" ", 70))
	default:
		fmt.Fprintf(p.w, "\r%-70s", line)
	}
}

func (p *progress) stop() {
	close(p.quit)
	p.ended.Wait()
}

func report(w io.Writer, s settings, results []result) error {
	if s.json {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(results)
	}
	fmt.Fprintf(w, "%d goroutines x %d updates on %s through %s\n\n", s.workers, s.updates, rows(s.keys), s.driver)
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "pattern\texpected\tactual\tlost\tupdates/s\tp50\tp99\tretries\terrors\t")
	for _, r := range results {
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%.0f\t%v\t%v\t%d\t%d\t\n",
			r.Pattern, r.Expected, r.Actual, r.Lost, r.Rate, short(r.P50), short(r.P99), r.Retries, r.Errors)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, r := range results {
		if r.Error != "" {
			fmt.Fprintf(w, "\n%s: the first error: %s\n", r.Pattern, r.Error)
		}
	}
	return nil
}

func rows(n int) string {
	if n == 1 {
		return "one row"
	}
	return fmt.Sprintf("%d rows", n)
}

func short(d time.Duration) time.Duration {
	if d < time.Millisecond {
		return d.Round(time.Microsecond)
	}
	return d.Round(10 * time.Microsecond)
}
