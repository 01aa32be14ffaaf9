//go:build unix

package servers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// postgresGreets says who it is and returns an error unless the server lets it in.
func postgresGreets(conn net.Conn) error {
	startup := []byte("\x00\x00\x00\x00\x00\x03\x00\x00user\x00postgres\x00database\x00postgres\x00\x00")
	binary.BigEndian.PutUint32(startup, uint32(len(startup)))
	if _, err := conn.Write(startup); err != nil {
		return err
	}
	var header [5]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return err
	}
	if header[0] == 'R' { // it asks for authentication, or for none: it is past the start and past recovery
		_, err := conn.Write([]byte("X\x00\x00\x00\x04"))
		return err
	}
	text, err := io.ReadAll(io.LimitReader(conn, int64(binary.BigEndian.Uint32(header[1:]))-4))
	if err != nil {
		return err
	}
	return fmt.Errorf("the server refuses: %q", text) // 57P03 while it starts
}

// mariadbGreets waits for the server's greeting, which an error can stand in place of.
func mariadbGreets(conn net.Conn) error {
	var header [5]byte // length, sequence number, and the version of the protocol
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return err
	}
	length := int64(header[0]) | int64(header[1])<<8 | int64(header[2])<<16
	text, err := io.ReadAll(io.LimitReader(conn, length-1))
	if err != nil {
		return err
	}
	if header[4] != 10 {
		return fmt.Errorf("the server refuses: %q", bytes.ToValidUTF8(text, nil))
	}
	return nil
}
