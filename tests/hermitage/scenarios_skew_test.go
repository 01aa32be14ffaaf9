package hermitage_test

// What reading from more than one state makes possible, with nothing dirty about it: each transaction sees, and writes
// over, what is committed.

var predicateRead = scenario{
	name: "PMP", about: "predicate-many-preceders: two queries find the rows of different states",
	script: `
	                                          | p-rc m-ru m-rc | p-rr p-s m-rr m-si | m-s
	T1 BEGIN
	T2 BEGIN
	T1 SELECT * FROM test WHERE value = 30    | none
	T2 INSERT INTO test VALUES (3, 30)        | wrote 1        | wrote 1            | waits, wrote 1
	T2 COMMIT                                 | ok             | ok                 | late, ok
	T1 SELECT * FROM test WHERE value % 3 = 0 | 3=30           | none               | none
	T1 COMMIT`,
	happened: func(h *history) bool {
		saw := h.saw("T1")
		return h.committed("T1") && !saw[0].holds(30) && saw[1].holds(30)
	},
}

var predicateWrite = scenario{
	name: "PMP-w", about: "PMP of a write: after a DELETE there still is, or again, what it should have deleted",
	script: `
	                                       | p-rc           | p-rr p-s     | m-ru m-rc m-rr m-si m-s
	T1 BEGIN
	T2 BEGIN
	T1 UPDATE test SET value = value + 10  | wrote 2
	T2 DELETE FROM test WHERE value = 20   | waits, wrote 0 | waits, 40001 | waits, wrote 1
	T1 COMMIT
	T2 SELECT * FROM test WHERE value = 20 | 1=20           | -            | none
	T2 COMMIT                              | ok             | -            | ok`,
	happened: func(h *history) bool { return h.committed("T2") && anyHolds(h.saw("T2"), 20) },
}

var predicateReadWrite = scenario{
	name: "PMP-rw", about: "PMP of a query and a write: T2's DELETE spares the row that T2 has seen it would delete",
	script: `
	                                       | p-rc           | p-rr p-s     | m-ru m-rc      | m-rr           | m-si        | m-s
	T1 BEGIN
	T2 BEGIN
	T2 SELECT * FROM test WHERE value = 20 | 2=20
	T1 UPDATE test SET value = value + 10  | wrote 2        | wrote 2      | wrote 2        | wrote 2        | wrote 2     | waits, 1213
	T2 DELETE FROM test WHERE value = 20   | waits, wrote 0 | waits, 40001 | waits, wrote 1 | waits, wrote 1 | waits, 1020 | wrote 1
	T1 COMMIT                              | ok             | ok           | ok             | ok             | ok          | -
	T2 SELECT * FROM test                  | 1=20 2=30      | -            | 2=30           | 2=20           | -           | 1=10
	T2 COMMIT                              | ok             | -            | ok             | ok             | -           | ok`,
	happened: func(h *history) bool {
		_, spared := h.final[2]
		return h.committed("T2") && h.saw("T2")[0][2] == 20 && spared
	},
}

var lostUpdate = scenario{
	name: "P4", about: "lost update: of two who add to what they have read, one is overwritten",
	script: `
	                                           | p-rc m-ru m-rc m-rr | p-rr p-s     | m-si        | m-s
	T1 BEGIN
	T2 BEGIN
	T1 SELECT * FROM test WHERE id = 1         | 1=10
	T2 SELECT * FROM test WHERE id = 1         | 1=10
	T1 UPDATE test SET value = 11 WHERE id = 1 | wrote 1             | wrote 1      | wrote 1     | waits, wrote 1
	T2 UPDATE test SET value = 12 WHERE id = 1 | waits, wrote 1      | waits, 40001 | waits, 1020 | 1213
	T1 COMMIT
	T2 COMMIT                                  | ok                  | -            | -           | -`,
	// 10 and 1 and 2 would be 13.
	happened: func(h *history) bool {
		return h.committed("T1", "T2") && h.saw("T1")[0][1] == 10 && h.saw("T2")[0][1] == 10 && h.final[1] != 13
	},
}

var readSkew = scenario{
	name: "G-single", about: "read skew: T1 sees one row as it was before T2, and another as it was after",
	script: `
	                                           | p-rc m-ru m-rc | p-rr p-s m-rr m-si | m-s
	T1 BEGIN
	T2 BEGIN
	T1 SELECT * FROM test WHERE id = 1         | 1=10
	T2 SELECT * FROM test                      | 1=10 2=20
	T2 UPDATE test SET value = 12 WHERE id = 1 | wrote 1        | wrote 1            | waits, wrote 1
	T2 UPDATE test SET value = 18 WHERE id = 2 | wrote 1        | wrote 1            | late, wrote 1
	T2 COMMIT                                  | ok             | ok                 | late, ok
	T1 SELECT * FROM test WHERE id = 2         | 2=18           | 2=20               | 2=20
	T1 COMMIT`,
	happened: func(h *history) bool {
		return h.committed("T1", "T2") && h.saw("T1")[0][1] == 10 && h.saw("T1")[1][2] == 18
	},
}

var readSkewPredicate = scenario{
	name: "G-single-d", about: "read skew with predicate dependencies: T1 finds a row before T2 and after",
	script: `
	                                               | p-rc m-ru m-rc | p-rr p-s m-rr m-si | m-s
	T1 BEGIN
	T2 BEGIN
	T1 SELECT * FROM test WHERE value % 5 = 0      | 1=10 2=20
	T2 UPDATE test SET value = 12 WHERE value = 10 | wrote 1        | wrote 1            | waits, wrote 1
	T2 COMMIT                                      | ok             | ok                 | late, ok
	T1 SELECT * FROM test WHERE value % 3 = 0      | 1=12           | none               | none
	T1 COMMIT`,
	happened: func(h *history) bool {
		return h.committed("T1", "T2") && h.saw("T1")[0][1] == 10 && h.saw("T1")[1][1] == 12
	},
}

var readSkewWrite = scenario{
	name: "G-single-w", about: "read skew on a write predicate: T1 sees the state before T2, its DELETE the one after",
	script: `
	                                           | p-rc m-ru m-rc | p-rr p-s | m-rr    | m-si    | m-s
	T1 BEGIN
	T2 BEGIN
	T1 SELECT * FROM test WHERE id = 1         | 1=10
	T2 SELECT * FROM test                      | 1=10 2=20
	T2 UPDATE test SET value = 12 WHERE id = 1 | wrote 1        | wrote 1  | wrote 1 | wrote 1 | waits, wrote 1
	T2 UPDATE test SET value = 18 WHERE id = 2 | wrote 1        | wrote 1  | wrote 1 | wrote 1 | late, wrote 1
	T2 COMMIT                                  | ok             | ok       | ok      | ok      | late, ok
	T1 DELETE FROM test WHERE value = 20       | wrote 0        | 40001    | wrote 0 | 1020    | 1213
	T1 SELECT * FROM test WHERE id = 2         | 2=18           | -        | 2=20    | -       | -
	T1 COMMIT                                  | ok             | -        | ok      | -       | -`,
	happened: func(h *history) bool {
		_, spared := h.final[2]
		return h.committed("T1", "T2") && h.saw("T1")[0][1] == 10 && spared
	},
}

var writeSkew = scenario{
	name: "G2-item", about: "write skew: two transactions read the same rows, and each writes another of them",
	script: `
	                                           | p-rc p-rr m-ru m-rc m-rr m-si | p-s     | m-s
	T1 BEGIN
	T2 BEGIN
	T1 SELECT * FROM test WHERE id IN (1, 2)   | 1=10 2=20
	T2 SELECT * FROM test WHERE id IN (1, 2)   | 1=10 2=20
	T1 UPDATE test SET value = 11 WHERE id = 1 | wrote 1                       | wrote 1 | waits, wrote 1
	T2 UPDATE test SET value = 21 WHERE id = 2 | wrote 1                       | wrote 1 | 1213
	T1 COMMIT
	T2 COMMIT                                  | ok                            | 40001   | -`,
	happened: func(h *history) bool {
		return h.committed("T1", "T2") && h.saw("T1")[0][2] == 20 && h.saw("T2")[0][1] == 10
	},
}

var phantomSkew = scenario{
	name: "G2", about: "write skew on a predicate: two transactions find no row, and each inserts one",
	script: `
	                                          | p-rc p-rr m-ru m-rc m-rr m-si | p-s     | m-s
	T1 BEGIN
	T2 BEGIN
	T1 SELECT * FROM test WHERE value % 3 = 0 | none
	T2 SELECT * FROM test WHERE value % 3 = 0 | none
	T1 INSERT INTO test VALUES (3, 30)        | wrote 1                       | wrote 1 | waits, wrote 1
	T2 INSERT INTO test VALUES (4, 42)        | wrote 1                       | wrote 1 | 1213
	T1 COMMIT
	T2 COMMIT                                 | ok                            | 40001   | -`,
	happened: func(h *history) bool {
		return h.committed("T1", "T2") && !h.saw("T1")[0].holds(42) && !h.saw("T2")[0].holds(30)
	},
}

// T3 only reads, and yet without it T1 and T2 could have run one after the other.
var readOnlySkew = scenario{
	name: "G2-2", about: "two anti-dependencies: T3 sees T2 and not yet T1, T1 has not seen T2",
	script: `
	                                                  | p-rc p-rr m-ru m-rc m-rr m-si | p-s       | m-s
	T1 BEGIN
	T1 SELECT * FROM test                             | 1=10 2=20
	T2 BEGIN
	T2 UPDATE test SET value = value + 5 WHERE id = 2 | wrote 1                       | wrote 1   | waits, 1213
	T2 COMMIT                                         | ok                            | ok        | -
	T3 BEGIN
	T3 SELECT * FROM test                             | 1=10 2=25                     | 1=10 2=25 | waits, 1=10 2=20
	T3 COMMIT                                         | ok                            | ok        | late, ok
	T1 UPDATE test SET value = 0 WHERE id = 1         | wrote 1                       | 40001     | waits, wrote 1
	T1 COMMIT                                         | ok                            | -         | ok`,
	happened: func(h *history) bool {
		return h.committed("T1", "T2", "T3") && h.saw("T1")[0][2] == 20 &&
			h.saw("T3")[0][1] == 10 && h.saw("T3")[0][2] == 25
	},
}
