package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// crowd is the number of callers who come to one row at once, with one update each.
const crowd = 10_000

// keys say which rows callers update.
type keys int

const (
	inTurn  keys = iota // one caller goes round all rows
	hotRow              // all callers update the same row
	uniform             // each row is as likely as any other
	zipf                // few rows are updated often: the n-th most wanted is so in proportion to 1/n^1.1
)

// A workload is what is done in each setting.
type workload struct {
	keys    keys
	callers int
}

var oneCaller = workload{inTurn, 1}

// busiest is the one with most callers for one row.
var busiest = workload{hotRow, 256}

// workloads are those in which callers get in each other's way.
var workloads = []workload{
	{hotRow, 1}, {hotRow, 4}, {hotRow, 16}, {hotRow, 64}, {hotRow, 256}, {uniform, 64}, {zipf, 64},
}

// String is the head of a column.
func (w workload) String() string {
	switch w.keys {
	case uniform:
		return fmt.Sprintf("uniform, %d", w.callers)
	case zipf:
		return fmt.Sprintf("Zipf, %d", w.callers)
	}
	return fmt.Sprint(w.callers)
}

// length is how long a turn is. The more callers there are the longer each waits for his turn.
func (w workload) length(d time.Duration) time.Duration {
	switch {
	case w.callers <= 16:
		return d / 3
	case w.callers <= 64:
		return d
	}
	return d * 3 / 2
}

// choice returns what chooses the rows of a caller. It is the same for all contenders.
func (w workload) choice(caller, rows int) func() int64 {
	r := rand.New(rand.NewPCG(uint64(caller), 1))
	switch w.keys {
	case uniform:
		return func() int64 { return r.Int64N(int64(rows)) + 1 }
	case zipf:
		z := rand.NewZipf(r, 1.1, 1, uint64(rows-1))
		return func() int64 { return int64(z.Uint64()) + 1 }
	}
	return func() int64 { return 1 }
}
