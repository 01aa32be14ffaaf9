package hermitage_test

// What dirty reads and writes make possible: transactions that see, or overwrite, what is not committed.

var dirtyWrites = scenario{
	name: "G0", about: "write cycle: of two transactions that write the same rows, each is overwritten by the other",
	script: `
	                                           | p-rc m-ru m-rc m-rr m-si m-s | p-rr p-s
	T1 BEGIN
	T2 BEGIN
	T1 UPDATE test SET value = 11 WHERE id = 1 | wrote 1
	T2 UPDATE test SET value = 12 WHERE id = 1 | waits, wrote 1               | waits, 40001
	T1 UPDATE test SET value = 21 WHERE id = 2 | wrote 1
	T1 COMMIT
	T2 UPDATE test SET value = 22 WHERE id = 2 | wrote 1                      | -
	T2 COMMIT                                  | ok                           | -`,
	happened: func(h *history) bool {
		return h.committed("T1", "T2") && h.final.holds(11, 21) && h.final.holds(12, 22)
	},
}

var abortedRead = scenario{
	name: "G1a", about: "aborted read: a transaction sees what is then rolled back",
	script: `
	                                            | p-rc p-rr p-s m-rc m-rr m-si | m-ru       | m-s
	T1 BEGIN
	T2 BEGIN
	T1 UPDATE test SET value = 101 WHERE id = 1 | wrote 1
	T2 SELECT * FROM test                       | 1=10 2=20                    | 1=101 2=20 | waits, 1=10 2=20
	T1 ROLLBACK
	T2 SELECT * FROM test                       | 1=10 2=20
	T2 COMMIT`,
	happened: func(h *history) bool { return h.committed("T2") && anyHolds(h.saw("T2"), 101) },
}

var intermediateRead = scenario{
	name: "G1b", about: "intermediate read: a transaction sees what its writer itself then overwrites",
	script: `
	                                            | p-rc m-rc | p-rr p-s m-rr m-si | m-ru       | m-s
	T1 BEGIN
	T2 BEGIN
	T1 UPDATE test SET value = 101 WHERE id = 1 | wrote 1
	T2 SELECT * FROM test                       | 1=10 2=20 | 1=10 2=20          | 1=101 2=20 | waits, 1=11 2=20
	T1 UPDATE test SET value = 11 WHERE id = 1  | wrote 1
	T1 COMMIT
	T2 SELECT * FROM test                       | 1=11 2=20 | 1=10 2=20          | 1=11 2=20  | 1=11 2=20
	T2 COMMIT`,
	happened: func(h *history) bool { return h.committed("T2") && anyHolds(h.saw("T2"), 101) },
}

var circularFlow = scenario{
	name: "G1c", about: "circular information flow: two transactions see what the other has written",
	script: `
	                                           | p-rc p-rr m-rc m-rr m-si | p-s   | m-ru | m-s
	T1 BEGIN
	T2 BEGIN
	T1 UPDATE test SET value = 11 WHERE id = 1 | wrote 1
	T2 UPDATE test SET value = 22 WHERE id = 2 | wrote 1
	T1 SELECT * FROM test WHERE id = 2         | 2=20                     | 2=20  | 2=22 | waits, 2=20
	T2 SELECT * FROM test WHERE id = 1         | 1=10                     | 1=10  | 1=11 | 1213
	T1 COMMIT
	T2 COMMIT                                  | ok                       | 40001 | ok   | -`,
	happened: func(h *history) bool {
		return h.committed("T1", "T2") && anyHolds(h.saw("T1"), 22) && anyHolds(h.saw("T2"), 11)
	},
}

var vanishing = scenario{
	name: "OTV", about: "observed transaction vanishes: T3 sees T2's write over T1's, and then, or beside it, T1's",
	script: `
	                                           | p-rc m-rc      | p-rr p-s     | m-ru           | m-rr m-si      | m-s
	T1 BEGIN
	T2 BEGIN
	T3 BEGIN
	T1 UPDATE test SET value = 11 WHERE id = 1 | wrote 1
	T1 UPDATE test SET value = 19 WHERE id = 2 | wrote 1
	T2 UPDATE test SET value = 12 WHERE id = 1 | waits, wrote 1 | waits, 40001 | waits, wrote 1 | waits, wrote 1 | waits, wrote 1
	T1 COMMIT
	T3 SELECT * FROM test                      | 1=11 2=19      | 1=11 2=19    | 1=12 2=19      | 1=11 2=19      | waits, 1=12 2=18
	T2 UPDATE test SET value = 18 WHERE id = 2 | wrote 1        | -            | wrote 1        | wrote 1        | wrote 1
	T3 SELECT * FROM test                      | 1=11 2=19      | 1=11 2=19    | 1=12 2=18      | 1=11 2=19      | late, 1=12 2=18
	T2 COMMIT                                  | ok             | -            | ok             | ok             | ok
	T3 SELECT * FROM test                      | 1=12 2=18      | 1=11 2=19    | 1=12 2=18      | 1=11 2=19      | 1=12 2=18
	T3 COMMIT`,
	happened: func(h *history) bool {
		overwritten := false
		for _, saw := range h.saw("T3") {
			overwritten = overwritten || saw.holds(12, 18)
			if overwritten && saw.holds(11, 19) {
				return h.committed("T3")
			}
		}
		return false
	},
}

// anyHolds tells whether one of the values was ever found.
func anyHolds(found []rows, values ...int) bool {
	for _, r := range found {
		if r.holds(values...) {
			return true
		}
	}
	return false
}
