package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Clients that send one request at the same time all get one answer, and are charged once.
func TestTogether(t *testing.T) {
	for _, n := range []int{2, 16} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			each(t, everywhere, func(t *testing.T, s *shop) {
				replies := together(s, n, s.service().routes())
				_, orders := s.books()
				require.Len(t, orders, 1)
				want := fmt.Sprintf(`{"number":%q,"account":1,"item":"teapot","price":1200,"balance":3800}`+"\n", orders[0])
				for _, r := range replies {
					assert.Equal(t, reply{status: http.StatusCreated, body: want}, r)
				}
				s.charged(1, 1)
			})
		})
	}
}

// The same without package once.
func TestNaiveTogether(t *testing.T) {
	each(t, everywhere, func(t *testing.T, s *shop) {
		var looked sync.WaitGroup
		looked.Add(2)
		wrong := newNaive(s.service(), func() { looked.Done(); looked.Wait() })
		replies := together(s, 2, wrong.routes())
		assert.Equal(t, http.StatusCreated, replies[0].status)
		assert.Equal(t, http.StatusCreated, replies[1].status)
		assert.NotEqual(t, replies[0].body, replies[1].body)
		s.charged(2, 2)
	})
}

// Another key is another order, also with the same body; and so is the same key on another account.
func TestKeysAreTheirOwn(t *testing.T) {
	each(t, everywhere, func(t *testing.T, s *shop) {
		base := serving(t, s.service().routes())
		for _, key := range []string{"a", "A", "a b", strings.Repeat("x", maxKey)} {
			assert.Equal(t, http.StatusCreated, buy(t, base, key).status, "%q", key)
		}
		s.charged(4, 4)
		other := send(t, http.MethodPost, base+"/accounts/2/orders", teapot, "a")
		assert.Equal(t, http.StatusCreated, other.status)
		assert.Contains(t, other.body, `"account":2,`, "it is not the answer to somebody else")
		assert.Equal(t, http.StatusOK, deposit(t, base, "a", `{"amount": 4800}`).status)
	})
}

// A key that was used for another body is refused, and the first answer stays what it was.
func TestKeyReused(t *testing.T) {
	each(t, everywhere, func(t *testing.T, s *shop) {
		base := serving(t, s.service().routes())
		first := buy(t, base, "a")
		require.Equal(t, http.StatusCreated, first.status)
		for _, body := range []string{
			`{"item": "teapot", "price": 1201}`, `{"item": "kettle", "price": 1200}`, `{"item":"teapot","price":1200}`,
		} {
			r := send(t, http.MethodPost, base+"/accounts/1/orders", body, "a")
			assert.Equal(t, http.StatusUnprocessableEntity, r.status)
			assert.Equal(t, "the key was used for another request: choose a new one", r.error())
		}
		assert.Equal(t, first, buy(t, base, "a"))
		s.charged(1, 1)
	})
}

// A refusal is stored as well: it is not charged later because somebody asks again.
func TestTooLittleMoneyIsStored(t *testing.T) {
	each(t, everywhere, func(t *testing.T, s *shop) {
		base := serving(t, s.service().routes())
		const house = `{"item": "house", "price": 5001}`
		url := base + "/accounts/1/orders"
		first := send(t, http.MethodPost, url, house, "a")
		assert.Equal(t, http.StatusPaymentRequired, first.status)
		assert.Equal(t, "there is not enough money in the account", first.error())
		s.charged(0, 0)

		assert.Equal(t, reply{200, `{"id":1,"balance":5001}` + "\n", ""}, deposit(t, base, "b", `{"amount": 1}`))
		assert.Equal(t, first, send(t, http.MethodPost, url, house, "a"))
		balance, orders := s.books()
		assert.EqualValues(t, 5001, balance)
		assert.Empty(t, orders)

		assert.Equal(t, http.StatusCreated, send(t, http.MethodPost, url, house, "c").status, "with a key of its own it is new")
		balance, orders = s.books()
		assert.Zero(t, balance)
		assert.Len(t, orders, 1)
	})
}

func TestUnknownAccountIsStored(t *testing.T) {
	each(t, everywhere, func(t *testing.T, s *shop) {
		url := serving(t, s.service().routes()) + "/accounts/3/orders"
		first := send(t, http.MethodPost, url, teapot, "a")
		assert.Equal(t, http.StatusNotFound, first.status)
		_, err := s.pool.Exec("INSERT INTO checkout_accounts (id, balance) VALUES (3, 1200)")
		require.NoError(t, err)
		assert.Equal(t, first, send(t, http.MethodPost, url, teapot, "a"))
		assert.Equal(t, http.StatusCreated, send(t, http.MethodPost, url, teapot, "b").status)
	})
}

func TestDeposits(t *testing.T) {
	each(t, everywhere, func(t *testing.T, s *shop) {
		base := serving(t, s.service().routes())
		for range 2 {
			assert.Equal(t, reply{200, `{"id":1,"balance":5100}` + "\n", ""}, deposit(t, base, "a", `{"amount": 100}`))
		}
		assert.Equal(t, http.StatusUnprocessableEntity, deposit(t, base, "a", `{"amount": 101}`).status)
		assert.Equal(t, http.StatusUnprocessableEntity, deposit(t, base, "b", `{"amount": 9223372036854775807}`).status)
		balance, _ := s.books()
		assert.EqualValues(t, 5100, balance)
	})
}

// Of sixteen different orders at the same time there is money for four.
func TestNeverNegative(t *testing.T) {
	each(t, everywhere, func(t *testing.T, s *shop) {
		base := serving(t, gathered(s, 16, s.service().routes()))
		var mu sync.Mutex
		statuses := map[int]int{}
		var clients sync.WaitGroup
		for i := range 16 {
			clients.Go(func() {
				status := buy(t, base, fmt.Sprint("key ", i)).status
				mu.Lock()
				defer mu.Unlock()
				statuses[status]++
			})
		}
		clients.Wait()
		assert.Equal(t, map[int]int{http.StatusCreated: 4, http.StatusPaymentRequired: 12}, statuses)
		s.charged(4, 4)
	})
}

// Whoever gets the receipt can look up the order: when it is mailed, others see it.
func TestReceiptIsMailedAfterCommit(t *testing.T) {
	each(t, everywhere, func(t *testing.T, s *shop) {
		service := s.service()
		var mailed []receipt
		var seen []string
		service.mail = func(r receipt) {
			mailed = append(mailed, r)
			ctx := context.WithoutCancel(t.Context())
			assert.NoError(t, s.pool.SelectContext(ctx, &seen, "SELECT number FROM checkout_orders"))
		}
		base := serving(t, service.routes())
		for range 2 {
			require.Equal(t, http.StatusCreated, buy(t, base, "a").status)
		}
		require.Len(t, mailed, 1)
		assert.Equal(t, []string{mailed[0].Number}, seen)
	})
}
