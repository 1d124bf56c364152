package main

import (
	"bytes"
	"encoding/binary"
)

// A message is its kind, the length of its payload (4 bytes, big-endian) and the payload. In the
// stream the byte 0xFF is written as 0xFF 0x00, so that 0xFF 0x01 always means: here begins
// a session, forget what came before. A session that was cut off leaves half a message, in
// both directions. 0xFF 0x02 of the guest: this program was started; what it ran is lost.
const (
	escape   = 0xff
	literal  = 0x00
	newBegin = 0x01
	newStart = 0x02

	headerSize = 5
	longest    = 1 << 20
)

const (
	// Of the host.
	kindHello  = 'H' // 16 bytes that the answer repeats, and the request in JSON
	kindInput  = 'I'
	kindEOF    = 'E' // no more input
	kindSignal = 'S' // 1 byte
	kindSize   = 'W' // rows and columns, 2 bytes each
	// Of the guest; it answers with kindHello, too.
	kindOutput = 'O'
	kindErrors = 'R'
	kindTaken  = 'A' // 4 bytes: so much more input may come
	kindExit   = 'X' // 1 byte
	kindFailed = 'F' // 1 byte of errno, and a text: the program did not start
)

// decoder turns the bytes of the host into messages.
type decoder struct {
	escaped bool
	begun   bool // nothing counts before a session begins
	pending []byte
}

func (d *decoder) feed(data []byte, begins func(), message func(kind byte, payload []byte)) {
	for len(data) > 0 {
		if d.escaped {
			// An escape behind another one: that one was cut off.
			d.escaped = data[0] == escape
			switch {
			case data[0] == newBegin:
				begins()
				d.begun, d.pending = true, d.pending[:0]
			case data[0] == literal && d.begun:
				d.pending = append(d.pending, escape)
			}
			data = data[1:]
			continue
		}
		plain, rest, found := bytes.Cut(data, []byte{escape})
		d.escaped = found
		if d.begun {
			d.pending = append(d.pending, plain...)
		}
		data = rest
	}
	d.split(message)
}

// split takes whole messages out; their payloads are valid for the length of the call.
func (d *decoder) split(message func(kind byte, payload []byte)) {
	rest := d.pending
	for len(rest) >= headerSize {
		size := int(binary.BigEndian.Uint32(rest[1:headerSize]))
		if size > longest {
			d.begun, rest = false, nil
			break
		}
		if len(rest) < headerSize+size {
			break
		}
		message(rest[0], rest[headerSize:headerSize+size])
		rest = rest[headerSize+size:]
	}
	d.pending = d.pending[:copy(d.pending, rest)]
}

// encode appends a message to a buffer.
func encode(buffer []byte, kind byte, payload []byte) []byte {
	var header [headerSize]byte
	header[0] = kind
	binary.BigEndian.PutUint32(header[1:], uint32(len(payload)))
	return escaped(escaped(buffer, header[:]), payload)
}

func escaped(buffer, data []byte) []byte {
	for {
		plain, rest, found := bytes.Cut(data, []byte{escape})
		buffer = append(buffer, plain...)
		if !found {
			return buffer
		}
		buffer = append(buffer, escape, literal)
		data = rest
	}
}
