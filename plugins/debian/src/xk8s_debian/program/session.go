package main

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"sync"
	"syscall"
)

const (
	nonceSize = 16
	// Two pieces of a port, with room for what is escaped.
	outputSize = 63 << 10
)

// request is what the host wants.
type request struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env"` // NAME=VALUE; programs are searched in its PATH
	TTY  bool     `json:"tty"`
	Rows uint16   `json:"rows"`
	Cols uint16   `json:"cols"`
}

// session is one program that runs for the host.
type session struct {
	port    *port
	ended   chan struct{}
	ending  sync.Once
	input   *queue
	program *program
}

// begin starts what the first message asks for; nil if it makes no sense, or its host has gone.
func begin(p *port, hello []byte) *session {
	var wanted request
	if len(hello) < nonceSize || json.Unmarshal(hello[nonceSize:], &wanted) != nil ||
		len(wanted.Argv) == 0 {
		return nil
	}
	s := &session{port: p, ended: make(chan struct{}), input: newQueue()}
	p.writing.Lock()
	told := p.write([]byte{escape, newBegin}, s.ended)
	p.writing.Unlock()
	if !told || !s.send(kindHello, hello[:nonceSize]) {
		return nil
	}
	started, err := start(&wanted)
	if err != nil {
		var number syscall.Errno
		errors.As(err, &number)
		go s.send(kindFailed, append([]byte{byte(number)}, err.Error()...))
		return s
	}
	s.program = started
	go s.run()
	return s
}

func (s *session) run() {
	go s.feed()
	var copying sync.WaitGroup
	exited := make(chan struct{})
	for kind, output := range s.program.outputs {
		copying.Go(func() { s.copyOut(kind, output, exited) })
	}
	code := s.program.wait()
	close(exited)
	for _, output := range s.program.outputs {
		wakeReader(output)
	}
	copying.Wait()
	s.send(kindExit, []byte{code})
	s.input.close()
	s.program.close()
}

// feed gives the program its input and tells the host how much it took. That goes on when the
// program has closed its input: the host is not to wait.
func (s *session) feed() {
	broken := false
	for {
		data, more := s.input.take()
		if len(data) > 0 {
			if !broken {
				_, err := s.program.input.Write(data)
				broken = err != nil
			}
			s.send(kindTaken, binary.BigEndian.AppendUint32(nil, uint32(len(data))))
		}
		if !more {
			s.program.endInput()
			return
		}
	}
}

// copyOut sends what the program writes. When it has exited, what is there already is the end:
// children in the background may keep the pipe open for ever.
func (s *session) copyOut(kind byte, output *os.File, exited <-chan struct{}) {
	buffer := make([]byte, outputSize)
	for {
		n, err := output.Read(buffer)
		if n > 0 && !s.send(kind, buffer[:n]) {
			return
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		<-exited
		for {
			n := readNow(output, buffer)
			if n <= 0 || !s.send(kind, buffer[:n]) {
				return
			}
		}
	}
}

// take handles a message of the host.
func (s *session) take(kind byte, payload []byte) {
	switch {
	case kind == kindInput:
		s.input.put(payload)
	case kind == kindEOF:
		s.input.close()
	case kind == kindSignal && len(payload) == 1:
		s.signal(syscall.Signal(payload[0]))
	case kind == kindSize && len(payload) == 4 && s.program != nil:
		s.program.resize(binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:]))
	}
}

func (s *session) signal(number syscall.Signal) {
	if s.program != nil {
		s.program.signal(number)
	}
}

// end is called when the host has left: the program is hung up on, as by a terminal.
func (s *session) end() {
	if s == nil {
		return
	}
	s.ending.Do(func() {
		close(s.ended)
		s.input.close()
		if s.program != nil {
			s.program.hangUp()
		}
	})
}

func (s *session) send(kind byte, payload []byte) bool {
	s.port.writing.Lock()
	defer s.port.writing.Unlock()
	s.port.encoded = encode(s.port.encoded[:0], kind, payload)
	return s.port.write(s.port.encoded, s.ended)
}

// queue holds input until the program takes it. The host sends no more than its window.
type queue struct {
	lock    sync.Mutex
	changed *sync.Cond
	data    []byte
	spare   []byte
	closed  bool
}

func newQueue() *queue {
	q := &queue{}
	q.changed = sync.NewCond(&q.lock)
	return q
}

func (q *queue) put(data []byte) {
	q.lock.Lock()
	defer q.lock.Unlock()
	if !q.closed {
		q.data = append(q.data, data...)
	}
	q.changed.Signal()
}

func (q *queue) close() {
	q.lock.Lock()
	defer q.lock.Unlock()
	q.closed = true
	q.changed.Signal()
}

// take waits for data, which is valid until the next call; false: there will be no more behind it.
func (q *queue) take() ([]byte, bool) {
	q.lock.Lock()
	defer q.lock.Unlock()
	for len(q.data) == 0 && !q.closed {
		q.changed.Wait()
	}
	data := q.data
	q.data, q.spare = q.spare[:0], data
	return data, !q.closed
}
