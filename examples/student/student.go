package main

import (
	"context"
	"fmt"

	"github.com/jmoiron/sqlx"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/lock"
	"github.com/raceproof/raceproof/optimistic"
)

// A Student is a row of the table students. The fields id and version are the key and the version by their names.
type Student struct {
	ID      int64  `db:"id" json:"id"`
	Name    string `db:"name" json:"name"`
	Address string `db:"address" json:"address"`
	GPA     int64  `db:"gpa" json:"gpa"`
	Version int64  `db:"version" json:"version"`
}

var students = raceproof.MustTable[Student]("students")

// A patch is what a request wants changed. What is nil stays as it is.
type patch struct {
	Name    *string
	Address *string
	GPA     *int64
}

// apply changes the student. It sets nothing that the request did not name and only computes, so that the optimistic
// pattern can run it again, on the student as somebody else has left it.
func (p patch) apply(_ context.Context, s *Student) error {
	if p.Name != nil {
		s.Name = *p.Name
	}
	if p.Address != nil {
		s.Address = *p.Address
	}
	if p.GPA != nil {
		s.GPA = *p.GPA
	}
	return nil
}

// change is a patch as the updaters that compute in Go take it.
func change(p patch) raceproof.Func[Student] { return p.apply }

// An updater patches a student, by whichever pattern.
type updater = raceproof.Updater[Student, patch]

const patterns = "lock or optimistic"

// newUpdater returns the updater of a pattern. Either compares the row that apply leaves with the one it was given, and
// writes the columns that differ. The row cannot have changed in between: with lock nobody else can write, and with
// optimistic the write goes through only if the version is still the same, and else it all starts again.
func newUpdater(db *raceproof.DB, pattern string) (updater, error) {
	switch pattern {
	case "lock":
		u := lock.New(db, students, nil)
		return raceproof.Bind(u, change), u.Err()
	case "optimistic":
		u := optimistic.New(db, students, nil)
		return raceproof.Bind(u, change), u.Err()
	}
	return nil, fmt.Errorf("unknown pattern %q: it must be %s", pattern, patterns)
}

// naive is WRONG, on purpose: it is the code that this library is there to replace, in the library's own interface.
//
// It reads the record and writes all of it back, as a form handler or an ORM's save method does. Whatever somebody else
// changed between its SELECT and its UPDATE is overwritten with the old value, also in fields that the request did not
// name, and both requests are told that they have succeeded. As it leaves the version alone, not even the optimistic
// pattern can notice it.
type naive struct {
	pool      *sqlx.DB
	afterRead func() // called between the read and the write if a test wants to be there
}

var _ updater = (*naive)(nil)

func (u *naive) Update(ctx context.Context, key any, p patch) (Student, error) {
	s, err := find(ctx, u.pool, key)
	if err != nil {
		return Student{}, err
	}
	if u.afterRead != nil {
		u.afterRead()
	}
	if err := p.apply(ctx, &s); err != nil {
		return Student{}, err
	}
	const write = "UPDATE students SET name = ?, address = ?, gpa = ? WHERE id = ?"
	if _, err := u.pool.ExecContext(ctx, write, s.Name, s.Address, s.GPA, s.ID); err != nil {
		return Student{}, err
	}
	return s, nil
}
