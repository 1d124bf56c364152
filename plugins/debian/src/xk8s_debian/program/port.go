package main

import (
	"fmt"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	// The largest piece that the kernel's driver takes at once.
	pieceSize = 32 << 10
	// It gives at most a page; many of them are handled together.
	readSize = 64 << 10
	// Hosts that come and go are told of within a millisecond or so.
	settle = 500 * time.Millisecond
)

// port is an open virtio-serial port. Its driver tells that the host connected or left by waking
// up whoever polls: read returns 0 while nobody is connected.
type port struct {
	fd       int
	readable chan struct{}
	writable chan struct{}
	// writing is held for a whole message, so that none gets into the middle of another; encoded
	// belongs to who holds it.
	writing sync.Mutex
	encoded []byte
}

func openPorts(paths []string) ([]*port, error) {
	var ports []*port
	for _, path := range paths {
		fd, err := syscall.Open(path, syscall.O_RDWR|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		ports = append(ports, newPort(fd))
	}
	return ports, nil
}

func newPort(fd int) *port {
	return &port{fd: fd, readable: make(chan struct{}, 1), writable: make(chan struct{}, 1)}
}

// watch wakes the ports' goroutines up, for ever. Edge-triggered: a port without a host would be
// ready all the time.
func watch(ports []*port) error {
	const etAll = syscall.EPOLLIN | syscall.EPOLLOUT | (-syscall.EPOLLET)
	epoll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	for i, p := range ports {
		event := syscall.EpollEvent{Events: uint32(etAll & 0xffffffff), Fd: int32(i)}
		if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, p.fd, &event); err != nil {
			return err
		}
	}
	events := make([]syscall.EpollEvent, len(ports))
	for {
		n, err := syscall.EpollWait(epoll, events, -1)
		if err != nil && err != syscall.EINTR {
			return err
		}
		for _, event := range events[:max(n, 0)] {
			p := ports[event.Fd]
			wake(p.readable)
			wake(p.writable)
		}
	}
}

func wake(waiting chan struct{}) {
	select {
	case waiting <- struct{}{}:
	default:
	}
}

// read returns how many bytes came, and 0 if no host is connected.
func (p *port) read(buffer []byte) int {
	have := 0
	for have < len(buffer) {
		n, err := syscall.Read(p.fd, buffer[have:])
		switch {
		case err == nil && n > 0:
			have += n
		case err == syscall.EINTR:
		case have > 0 && (err == nil || err == syscall.EAGAIN):
			return have
		case err == nil:
			return 0
		case err == syscall.EAGAIN:
			<-p.readable
		default:
			fail(fmt.Errorf("a port cannot be read: %w", err))
		}
	}
	return have
}

// tellStart lets a host know that was connected to an earlier run of this program. There is room
// for it, or nobody to be told.
func (p *port) tellStart() {
	_, _ = syscall.Write(p.fd, []byte{escape, newStart})
}

// left returns whether the host is gone. That it is not connected is no proof: the kernel hears of
// hosts that come and go by another queue than that of their data, and later. What a new host
// sends may have been read while the end of the one before it is still to be told.
func (p *port) left() bool {
	for waited := time.Duration(0); waited < settle; waited += settle / 50 {
		if p.connected() {
			return false
		}
		time.Sleep(settle / 50)
	}
	return !p.connected()
}

// connected returns what the kernel knows at this moment.
func (p *port) connected() bool {
	const pollHup = 0x10
	var now syscall.Timespec
	poll := struct {
		fd              int32
		events, returns int16
	}{fd: int32(p.fd)}
	n, _, _ := syscall.Syscall6(
		syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return n != 1 || poll.returns&pollHup == 0
}

// write returns false if the session ended before all was written, or its host is gone: only the
// goroutine that reads ends sessions, and it writes, too.
func (p *port) write(data []byte, ended <-chan struct{}) bool {
	for len(data) > 0 {
		select {
		case <-ended:
			return false
		default:
		}
		n, err := syscall.Write(p.fd, data[:min(len(data), pieceSize)])
		switch err {
		case nil:
			data = data[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			if p.left() {
				return false
			}
			select {
			case <-p.writable:
			case <-ended:
				return false
			}
		default:
			return false
		}
	}
	return true
}

// serve runs one session after the other.
func (p *port) serve() {
	var incoming decoder
	var current *session
	buffer := make([]byte, readSize)
	for {
		n := p.read(buffer)
		if n == 0 {
			if !p.left() {
				continue
			}
			current.end()
			current, incoming = nil, decoder{}
			<-p.readable
			continue
		}
		incoming.feed(buffer[:n], func() {
			// The host's next one, even if this port never saw the last one leave.
			current.end()
			current = nil
		}, func(kind byte, payload []byte) {
			if kind == kindHello {
				current.end()
				current = begin(p, payload)
			} else if current != nil {
				current.take(kind, payload)
			}
		})
	}
}
