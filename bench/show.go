package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"
)

// heading writes the head of a table. The first left columns are aligned to the left.
func heading(w io.Writer, left int, head []string) {
	row(w, head)
	row(w, append(slices.Repeat([]string{"---"}, left), slices.Repeat([]string{"---:"}, len(head)-left)...))
}

func row(w io.Writer, cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

// thousands shows a number without its fraction, in groups of three digits.
func thousands(x float64) string {
	digits := fmt.Sprintf("%.0f", x)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// short shows a number with at most three digits, if it is not very large.
func short(x float64) string {
	switch {
	case x >= 1e6:
		return significant(x/1e6) + "M"
	case x >= 1e3:
		return significant(x/1e3) + "k"
	}
	return significant(x)
}

// significant shows a number with two digits at least, and no more than it takes to its point.
func significant(x float64) string {
	if x >= 10 || x == math.Trunc(x) {
		return fmt.Sprintf("%.0f", x)
	}
	if x >= 1 {
		return fmt.Sprintf("%.1f", x)
	}
	return fmt.Sprintf("%.2f", x)
}

// span shows a duration in the unit that leaves the fewest digits.
func span(d time.Duration) string {
	switch {
	case d >= time.Second:
		return significant(d.Seconds()) + " s"
	case d >= time.Millisecond:
		return significant(float64(d)/1e6) + " ms"
	}
	return significant(float64(d)/1e3) + " µs"
}

// details hides what few will want to read behind a line.
func details(w io.Writer, summary string, write func()) {
	fmt.Fprintf(w, "\n<details><summary>%s</summary>\n\n", summary)
	write()
	fmt.Fprint(w, "\n</details>\n")
}
