// SPDX-License-Identifier: Apache-2.0

package ledger

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// hasBootTime tells whether the system has CLOCK_BOOTTIME: since Linux 2.6.39.
var hasBootTime = unix.ClockGettime(unix.CLOCK_BOOTTIME, new(unix.Timespec)) == nil

// clock returns the time since the start of the machine, with that in which it was
// suspended. The monotonic reading of [time.Now] stands still then
// (clock_gettime(2), CLOCK_MONOTONIC): of a server that wakes up, what was confirmed
// before it slept would be recent.
func clock() time.Time {
	if !hasBootTime {
		return time.Now()
	}
	return machineClock.now()
}

// A suspendClock reads the boot time, which takes a system call, only now and then, and
// counts from there by the wall clock and the monotonic one, which take none. While the
// machine is suspended the wall clock goes on by exactly as much as the boot time does:
// where both clocks say the same of the time since the last reading, that is it, and else
// it is read anew.
type suspendClock struct {
	clocks func() clockPair
	read   func() (boot time.Duration, ok bool)
	last   atomic.Pointer[bootReading]
}

// A clockPair is what the wall clock and the monotonic one show, from whenever they
// count.
type clockPair struct{ wall, mono time.Duration }

// since returns the time from before to p, and whether both clocks say so and it is no
// longer than limit.
func (p clockPair) since(before clockPair, limit time.Duration) (time.Duration, bool) {
	d := p.mono - before.mono
	apart := p.wall - before.wall - d
	return d, d >= 0 && d <= limit && apart <= maxApart && apart >= -maxApart
}

// A bootReading is a boot time, and what the clocks showed just after.
type bootReading struct {
	at   clockPair
	boot time.Duration
}

const (
	// maxApart is by how much the result may be wrong: more than the wall clock is
	// adjusted by in maxCounted, half a millisecond (adjtimex(2)).
	maxApart = time.Millisecond
	// maxCounted is how long is counted from one reading.
	maxCounted = time.Second
)

var machineClock = suspendClock{clocks: processClocks, read: readBootTime}

// now returns the boot time.
func (c *suspendClock) now() time.Time {
	at := c.clocks()
	if last := c.last.Load(); last != nil {
		if d, ok := at.since(last.at, maxCounted); ok {
			return time.Unix(0, int64(last.boot+d))
		}
	}
	boot, ok := c.read()
	if !ok {
		return time.Now()
	}
	// Of a process that was stopped meanwhile nobody knows when it read.
	after := c.clocks()
	if _, ok := after.since(at, maxApart); ok {
		c.last.Store(&bootReading{after, boot})
	}
	return time.Unix(0, int64(boot))
}

var clockBase = time.Now()

func processClocks() clockPair {
	t := time.Now()
	return clockPair{time.Duration(t.UnixNano()), t.Sub(clockBase)}
}

func readBootTime() (time.Duration, bool) {
	var t unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return time.Duration(t.Nano()), err == nil
}
