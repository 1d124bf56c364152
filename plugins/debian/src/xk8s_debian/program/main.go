// xk8s-sessions runs programs of the guest for the host, one on each of the virtio-serial ports
// xk8s.session.N at a time, and keeps the clock right. docs/reference/boot.md has the protocol.
// Arguments are numbers of open descriptors to be used in place of the ports.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

const portNames = "/dev/virtio-ports/xk8s.session.*"

func main() {
	ports, err := findPorts(os.Args[1:])
	if err != nil {
		fail(err)
	}
	for _, p := range ports {
		p.tellStart()
		go p.serve()
	}
	if len(os.Args) == 1 { // in a VM
		go keepClock()
	}
	fail(watch(ports))
}

func findPorts(descriptors []string) ([]*port, error) {
	var ports []*port
	for _, text := range descriptors {
		fd, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		syscall.CloseOnExec(fd)
		ports = append(ports, newPort(fd))
	}
	if len(ports) > 0 {
		return ports, nil
	}
	paths, err := filepath.Glob(portNames)
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("there is no %s", portNames)
	}
	if err != nil {
		return nil, err
	}
	return openPorts(paths)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "xk8s-sessions:", err)
	os.Exit(1)
}
