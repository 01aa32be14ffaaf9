package faultproxy_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/raceproof/raceproof/internal/faultproxy"
)

// my is a packet.
func my(sequence byte, payload string) string {
	n := len(payload)
	return string([]byte{byte(n), byte(n >> 8), byte(n >> 16), sequence}) + payload
}

const (
	ok   = "\x00\x01\x00\x02\x00\x00\x00" // one row, no id, autocommit, no warnings
	more = "\x00\x01\x00\x0a\x00\x00\x00" // and there are more results
	eof  = "\xfe\x00\x00\x02\x00"
	fail = "\xff\x15\x04#28000no"
)

// greeting is what a server says that can do everything, but for the low 18 bytes that are given.
func greeting(abilities string) string {
	return my(0, "\x0a11.8.2-MariaDB\x00\x01\x00\x00\x00saltsalt\x00"+abilities+"saltsaltsalt\x00mysql_native_password\x00")
}

func beginMySQL(client, server peer) {
	server.send(greeting("\xff\xff\x2d\x02\x00\xff\xff\x15\x00\x00\x00\x00\x00\x00\xff\x00\x00\x00"))
	client.expect(greeting("\xdf\xf7\x2d\x02\x00\xff\xf0\x15\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	login := my(1, "\x03COMMIT, but not at a command's place")
	client.send(login)
	server.expect(login)
	server.send(my(2, ok))
	client.expect(my(2, ok))
}

func stmtExecute(id uint32) string {
	return my(0, "\x17"+string(binary.LittleEndian.AppendUint32(nil, id))+"\x00\x01\x00\x00\x00")
}

// A packet is as long as its three bytes say, whatever carries between them.
func TestMySQLLengths(t *testing.T) {
	_, client, server := connect(t, faultproxy.MySQL)
	beginMySQL(client, server)
	for _, n := range []int{251, 252, 255, 256, 0x1fb, 0x1fc, 0x1ff, 0x17fd, 0xffff, 0x1ffff} {
		request := my(0, "\x03"+strings.Repeat("x", n-1))
		client.send(request)
		server.expect(request)
		answer := my(1, "\xff\x15\x04#28000"+strings.Repeat("y", n-9))
		server.send(answer)
		client.expect(answer)
	}
}

func TestMySQLPrepared(t *testing.T) {
	proxy, client, server := connect(t, faultproxy.MySQL)
	beginMySQL(client, server)
	exchange := func(request string, answer ...string) {
		client.send(request)
		server.expect(request)
		server.send(answer...)
		client.expect(answer...)
	}
	define := my(2, "\x03def...")
	exchange(my(0, "\x16SELECT ?"), my(1, "\x00\x07\x00\x00\x00\x01\x00\x01\x00\x00\x00\x00"), define, my(3, eof), define, my(5, eof))
	exchange(my(0, "\x16UPDATE t"), my(1, "\x00\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
	exchange(my(0, "\x16UPDATE ("), my(1, fail))
	assert.Zero(t, proxy.Executed(all), "nothing is executed yet")

	exchange(stmtExecute(7), my(1, "\x01"), define, my(3, eof), my(4, "\x00\x00\x01"), my(5, eof))
	exchange(stmtExecute(8), my(1, ok))
	assert.Equal(t, 1, proxy.Executed(update))
	assert.Equal(t, 1, proxy.Executed(faultproxy.Contains("select ?")))

	client.send(my(0, "\x19\x07\x00\x00\x00")) // COM_STMT_CLOSE has no answer
	server.expect(my(0, "\x19\x07\x00\x00\x00"))
	proxy.On(update, 1, faultproxy.Drop())
	client.send(stmtExecute(8))
	server.expect(stmtExecute(8))
	server.send(my(1, ok))
	client.expectEnd(true)
	assert.Equal(t, 2, proxy.Executed(update))
}

// An answer is complete with its last packet: of one result, of several, or an error.
func TestMySQLAnswers(t *testing.T) {
	for name, answer := range map[string][]string{
		"ok":      {ok},
		"error":   {fail},
		"rows":    {"\x01", "\x03def...", eof, "\x01x", "\xfe\x00\x00\x01\x00\x00\x00\x00\x00a long one", eof},
		"no rows": {"\x01", "\x03def...", eof, eof},
		"failure": {"\x01", "\x03def...", eof, "\x01x", fail},
		"several": {more, "\x01", "\x03def...", eof, "\xfe\x00\x00\x0a\x00", ok},
		"many":    {"\x00\xfc\x10\x27\xfe\x00\x00\x00\x00\x00\x01\x00\x00\x02\x00\x00\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			proxy, client, server := connect(t, faultproxy.MySQL)
			beginMySQL(client, server)
			rule := proxy.On(all, 1, faultproxy.Withhold())
			client.send(my(0, "\x03SELECT"))
			server.expect(my(0, "\x03SELECT"))
			packets := ""
			for i, payload := range answer {
				select {
				case <-rule.Answered():
					t.Fatalf("complete before packet %d", i)
				default:
				}
				server.send(my(byte(i+1), payload))
				packets += my(byte(i+1), payload)
			}
			<-rule.Answered()
			rule.Release()
			client.expect(packets)
		})
	}
}
