// SPDX-License-Identifier: Apache-2.0

package ledger

import (
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
	var t unix.Timespec
	if !hasBootTime || unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return time.Now()
	}
	return time.Unix(t.Unix())
}
