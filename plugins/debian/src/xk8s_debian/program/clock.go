package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// The time of the machine that the VM runs on, in whole seconds.
	rtc = "/sys/class/rtc/rtc0/since_epoch"
	// Whoever wants another time in a node makes this file.
	ownTime    = "/run/xk8s-own-time"
	clockEvery = 20 * time.Second
)

// keepClock sets the clock by the RTC: while the host sleeps, or the VM is paused, it stands still.
// A difference of a second may be none.
func keepClock() {
	for {
		time.Sleep(clockEvery)
		now, err := readRTC()
		if err != nil {
			return // this machine has none
		}
		off := now - time.Now().Unix()
		if _, err := os.Stat(ownTime); err == nil || (-1 <= off && off <= 1) {
			continue
		}
		// When its second changes, it is exact.
		next := now
		for next == now && err == nil {
			time.Sleep(10 * time.Millisecond)
			next, err = readRTC()
		}
		if err == nil {
			err = syscall.Settimeofday(&syscall.Timeval{Sec: next})
		}
		fmt.Printf("the clock was off by %d s (set by the RTC: %v)\n", off, err == nil)
	}
}

func readRTC() (int64, error) {
	text, err := os.ReadFile(rtc)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
}
