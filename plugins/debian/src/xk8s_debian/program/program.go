package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

const (
	setPipeSize = 1031 // F_SETPIPE_SZ
	pipeSize    = 512 << 10
)

// program is a running process with its own session, on pipes or on a terminal.
type program struct {
	process *os.Process
	input   *os.File
	outputs map[byte]*os.File
	tty     bool
	// lock guards exited: a number of a process that was waited for may be somebody else's.
	lock   sync.Mutex
	exited bool
}

func start(wanted *request) (*program, error) {
	path, err := find(wanted.Argv[0], wanted.Env)
	if err != nil {
		return nil, err
	}
	p := &program{outputs: map[byte]*os.File{}, tty: wanted.TTY}
	attributes := &os.ProcAttr{Dir: "/", Env: wanted.Env, Sys: &syscall.SysProcAttr{Setsid: true}}
	if wanted.TTY {
		err = p.onTerminal(attributes, wanted)
	} else {
		err = p.onPipes(attributes)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	p.process, err = os.StartProcess(path, wanted.Argv, attributes)
	for _, file := range distinct(attributes.Files) {
		file.Close()
	}
	if err != nil {
		p.close()
		return nil, err
	}
	// This service is protected; what it runs for users is not.
	oom := fmt.Sprintf("/proc/%d/oom_score_adj", p.process.Pid)
	_ = os.WriteFile(oom, []byte("0"), 0)
	return p, nil
}

func (p *program) onPipes(attributes *os.ProcAttr) error {
	var theirs [3]*os.File
	var err error
	if theirs[0], p.input, err = os.Pipe(); err != nil {
		return err
	}
	attributes.Files = theirs[:]
	widen(p.input)
	for i, kind := range []byte{kindOutput, kindErrors} {
		if p.outputs[kind], theirs[i+1], err = os.Pipe(); err != nil {
			return err
		}
		widen(p.outputs[kind])
	}
	return nil
}

// widen gives a pipe a larger buffer: without KVM every change between processes is dear.
func widen(pipe *os.File) {
	raw, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, pipeSize)
	})
}

func (p *program) onTerminal(attributes *os.ProcAttr, wanted *request) error {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	p.input, p.outputs[kindOutput] = master, master
	var number, unlocked uint32
	if err := control(master, syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked)); err != nil {
		return err
	}
	if err := control(master, syscall.TIOCGPTN, unsafe.Pointer(&number)); err != nil {
		return err
	}
	p.resize(wanted.Rows, wanted.Cols)
	path := fmt.Sprintf("/dev/pts/%d", number)
	slave, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	attributes.Files = []*os.File{slave, slave, slave}
	attributes.Sys.Setctty, attributes.Sys.Ctty = true, 0
	return nil
}

// find searches the PATH of an environment, as a shell does.
func find(name string, environment []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for _, variable := range environment {
		if directories, found := strings.CutPrefix(variable, "PATH="); found {
			for _, directory := range filepath.SplitList(directories) {
				path := filepath.Join(directory, name)
				about, err := os.Stat(path)
				if err == nil && about.Mode().IsRegular() && about.Mode()&0o111 != 0 {
					return path, nil
				}
			}
		}
	}
	return "", fmt.Errorf("%s: %w", name, syscall.ENOENT)
}

// wait returns the exit code, 128 and its number if a signal ended the program.
func (p *program) wait() byte {
	state, err := p.process.Wait()
	p.lock.Lock()
	p.exited = true
	p.lock.Unlock()
	if err != nil {
		return 255
	}
	status, _ := state.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return byte(128 + int(status.Signal()))
	}
	return byte(status.ExitStatus())
}

// signal reaches all processes that the program has not put into groups of their own.
func (p *program) signal(number syscall.Signal) {
	p.lock.Lock()
	defer p.lock.Unlock()
	if !p.exited {
		_ = syscall.Kill(-p.process.Pid, number)
	}
}

func (p *program) hangUp() {
	p.signal(syscall.SIGHUP)
	p.signal(syscall.SIGCONT)
	p.close()
}

func (p *program) resize(rows, cols uint16) {
	if p.tty && rows > 0 && cols > 0 {
		size := [4]uint16{rows, cols}
		_ = control(p.input, syscall.TIOCSWINSZ, unsafe.Pointer(&size))
	}
}

func (p *program) endInput() {
	if !p.tty {
		p.input.Close()
	}
}

func (p *program) close() {
	if p.input != nil {
		p.input.Close()
	}
	for _, output := range p.outputs {
		output.Close()
	}
}

// wakeReader lets a Read that waits return os.ErrDeadlineExceeded.
func wakeReader(file *os.File) {
	_ = file.SetReadDeadline(time.Unix(1, 0))
}

// readNow returns what can be read without waiting.
func readNow(file *os.File, buffer []byte) int {
	n := 0
	_ = file.SetReadDeadline(time.Time{})
	raw, err := file.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Read(func(fd uintptr) bool {
		n, _ = syscall.Read(int(fd), buffer)
		return true
	})
	return n
}

func control(file *os.File, request uintptr, argument unsafe.Pointer) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var number syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, number = syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(argument))
	})
	if err == nil && number != 0 {
		err = number
	}
	return err
}

func distinct(files []*os.File) []*os.File {
	var found []*os.File
	for i, file := range files {
		if file != nil && (i == 0 || file != files[i-1]) {
			found = append(found, file)
		}
	}
	return found
}
