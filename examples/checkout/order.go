package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"github.com/raceproof/raceproof"
	"github.com/raceproof/raceproof/atomic"
)

// An answer is what a client is told: the status as well as the body. It is made for JSON, because that is how package
// once stores it with the key; and everybody is answered with what comes back from there, so that the first answer and the
// later ones are the same to the byte.
type answer struct {
	Status int             `json:"status"`
	Body   json.RawMessage `json:"body"`
}

func answerOf(status int, body any) (answer, error) {
	data, err := json.Marshal(body)
	return answer{status, data}, err
}

func refusal(status int, message string) (answer, error) {
	return answerOf(status, map[string]string{"error": message})
}

// An order is the body of a request.
type order struct {
	Item  string `json:"item"`
	Price int64  `json:"price"` // in cents
}

// A receipt is the answer to an order that was made, and what is mailed.
type receipt struct {
	Number  string `json:"number"`
	Account int64  `json:"account"`
	Item    string `json:"item"`
	Price   int64  `json:"price"`
	Balance int64  `json:"balance"` // what is left
}

// place charges the account and records the order. It is the work that must be done once: ctx carries the transaction in
// which the key was inserted, and everything that is done with that context is committed or taken back with the key.
//
// A refusal that is final is an answer and no error: it is stored, and the same key is refused again when the account has
// enough later. All other errors are returned: they take back the key, so that the client can use it again. As an answer
// commits what was done before it, what can refuse the order comes first.
//
// place can be called several times for one order, if the database refuses the transaction or if its COMMIT did not
// arrive. So it does nothing that the transaction does not take back.
func (s *service) place(ctx context.Context, account int64, o order) (answer, error) {
	balance := atomic.F("balance")
	left, err := s.accounts.Update(ctx, account, atomic.Set("balance", balance.Sub(o.Price)).If(balance.Ge(o.Price)))
	switch {
	case errors.Is(err, raceproof.ErrConditionFailed):
		return refusal(http.StatusPaymentRequired, "there is not enough money in the account")
	case errors.Is(err, raceproof.ErrNotFound):
		return refusal(http.StatusNotFound, "there is no such account")
	case err != nil:
		return answer{}, err
	}
	r := receipt{rand.Text(), account, o.Item, o.Price, left.Balance}
	const insert = "INSERT INTO checkout_orders (number, account, item, price) VALUES (?, ?, ?, ?)"
	if _, err := s.db.Ext(ctx).ExecContext(ctx, s.pool.Rebind(insert), r.Number, r.Account, r.Item, r.Price); err != nil {
		return answer{}, err
	}
	// A mail cannot be taken back, so it waits until the order is known to be committed. If the answer to COMMIT is lost,
	// no mail is sent: what must not be missing is written into a table, in this transaction, and sent from there.
	if err := s.db.AfterCommit(ctx, func(context.Context) { s.mail(r) }); err != nil {
		return answer{}, err
	}
	return answerOf(http.StatusCreated, r)
}

// parseOrder reads an order from a body.
func parseOrder(body []byte) (o order, err error) {
	err = decode(body, &o)
	if err == nil && (o.Item == "" || len(o.Item) > 100 || o.Price <= 0) {
		err = problem{http.StatusBadRequest, "an order has an item of 1 to 100 bytes and a positive price in cents"}
	}
	return o, err
}

// parseDeposit reads the amount of a deposit from a body.
func parseDeposit(body []byte) (amount int64, err error) {
	var d struct {
		Amount int64 `json:"amount"`
	}
	err = decode(body, &d)
	if err == nil && d.Amount <= 0 {
		err = problem{http.StatusBadRequest, "a deposit has a positive amount in cents"}
	}
	return d.Amount, err
}

// decode reads exactly one JSON value that has no fields that into does not have.
func decode(body []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		if _, more := decoder.Token(); more != io.EOF {
			err = errors.New("there is something behind it")
		}
	}
	if err != nil {
		return problem{http.StatusBadRequest, "the body is not what was expected: " + err.Error()}
	}
	return nil
}
