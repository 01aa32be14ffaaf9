package faultproxy_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof/internal/faultproxy"
)

// pg is a message with a type; the type 0 stands for none.
func pg(kind byte, body string) string {
	m := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
	if kind != 0 {
		m = append([]byte{kind}, m...)
	}
	return string(m) + body
}

var (
	ready    = pg('Z', "I")
	sync     = pg('S', "")
	execute  = pg('E', "\x00\x00\x00\x00\x00") // of the portal without a name
	complete = pg('C', "UPDATE 1\x00")
)

// bind binds the portal without a name.
func bind(statement string) string { return pg('B', "\x00"+statement+"\x00\x00\x00\x00\x00\x00\x00") }

func beginPostgres(client, server peer) {
	client.send(pg(0, "\x04\xd2\x16\x2f")) // SSLRequest
	client.expect("N")
	start := pg(0, "\x00\x03\x00\x00user\x00me\x00\x00")
	client.send(start)
	server.expect(start)
	welcome := pg('R', "\x00\x00\x00\x00") + ready
	server.send(welcome)
	client.expect(welcome)
}

func TestPostgresPrepared(t *testing.T) {
	proxy, client, server := connect(t, faultproxy.PostgreSQL)
	beginPostgres(client, server)
	rule := proxy.On(update, 1, faultproxy.Withhold())

	parse := pg('P', "one\x00UPDATE t\x00\x00\x00") + pg('P', "two\x00SELECT 1\x00\x00\x00") + sync
	client.send(parse)
	server.expect(parse)
	server.send(pg('1', ""), pg('1', ""), ready)
	client.expect(pg('1', ""), pg('1', ""), ready)
	assert.Zero(t, proxy.Executed(all), "nothing is executed yet")

	// Two groups are under way: only the answer to the second is withheld, and until it is complete.
	client.send(bind("two"), execute, sync, bind("one"), execute, sync)
	server.expect(bind("two"), execute, sync, bind("one"), execute, sync)
	server.send(complete, ready, pg('2', ""), complete)
	client.expect(complete, ready)
	select {
	case <-rule.Answered():
		t.Error("it is not committed before ReadyForQuery")
	default:
	}
	server.send(ready)
	<-rule.Answered()
	rule.Release()
	client.expect(pg('2', ""), complete, ready)
	assert.Equal(t, 1, proxy.Executed(update))
	assert.Equal(t, 2, proxy.Executed(all))

	// The statement without a name is the one that was parsed last.
	client.send(pg('P', "\x00UPDATE u\x00\x00\x00"), bind(""), execute, execute, sync)
	server.expect(pg('P', "\x00UPDATE u\x00\x00\x00"), bind(""), execute, execute, sync)
	assert.Equal(t, 2, proxy.Executed(faultproxy.Contains("UPDATE U")))
}

func TestPostgresCancel(t *testing.T) {
	_, client, server := connect(t, faultproxy.PostgreSQL)
	cancel := pg(0, "\x04\xd2\x16\x2e\x00\x00\x00\x01\x00\x00\x00\x02")
	client.send(cancel)
	server.expect(cancel)
	assert.NoError(t, server.Close())
	client.expectEnd(false)
}
